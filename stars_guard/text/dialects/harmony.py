"""gpt-oss: messages with headers that name a channel, and for a call its recipient."""

from __future__ import annotations

import re

from stars_guard.text.dialects.dialect import Dialect, ReadCall
from stars_guard.text.dialects.reading import named_json

_CHANNEL, _MESSAGE = "<|channel|>", "<|message|>"
_NAME = re.compile(r"[^\s<]*")


def _read(text: str, partial: bool) -> list[ReadCall]:
    """``NAME <|constrain|>json<|message|>ARGUMENTS``, the header from the name on."""
    head, _, body = text.lstrip().partition(_MESSAGE)
    name = _NAME.match(head)
    return [named_json(name[0] if name else "", body, partial)]


HARMONY = Dialect(
    name="harmony",
    think=(f"{_CHANNEL}analysis{_MESSAGE}", "<|end|>"),
    call_open=f"{_CHANNEL}commentary to=functions.",
    call_close=None,
    wrap=lambda name: (f"{name} <|constrain|>json{_MESSAGE}", ""),
    read=_read,
    inside=("<|start|>", _CHANNEL, "<|constrain|>", _MESSAGE, "<|end|>", "<|call|>", "<|return|>"),
    answer_open=f"{_CHANNEL}final{_MESSAGE}",
    headers=True,
)
"""Analysis is reasoning; what is said in the final channel, or to the user before a call, is the answer."""
