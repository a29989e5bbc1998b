"""What a client got, from its bytes: texts by channel, calls, and whatever else may hold a candidate."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stars_guard.types import Channel, ToolCall
from tests.faults.ledger import Shown
from tests.faults.marks import MARK


@dataclass
class Response:
    """The bytes of a response, as far as they came; status 0 if there was none."""

    status: int = 0
    body: bytes = b""
    error: BaseException | None = None

    @property
    def is_outage(self) -> bool:
        """Whether the server said that it, or a model, failed."""
        codes = (b'"scoring_error"', b'"generation_error"', b'"internal_error"')
        return (self.status >= 500 and self.status != 504) or any(code in self.body for code in codes)


def shown_by(number: int, response: Response) -> list[Shown]:
    """What a client saw of each choice.

    Args:
        number: of the stream that it asked for.
        response: what came.
    """
    text = response.body.decode("utf-8", "replace")
    choices: defaultdict[int, Shown] = defaultdict(lambda: Shown(number))
    choices[0].other, choices[0].error = text, response.error
    for said in _objects(text):
        for choice in said.get("choices", ()):
            _add(choices[choice["index"]], choice, said.get("stars", ()))
    return list(choices.values())


def _objects(text: str) -> list[dict[str, Any]]:
    if text.startswith("data: "):
        events = text.split("\n\n")[:-1]  # what follows the last blank line did not come whole
        return [json.loads(event[6:]) for event in events if event != "data: [DONE]"]
    try:
        whole = json.loads(text)
    except ValueError:
        return []
    return [whole] if isinstance(whole, dict) else []


def _add(shown: Shown, choice: dict[str, Any], stars: Sequence[dict[str, Any]]) -> None:
    """Add what a chunk, or a whole response, holds of a choice; ``stars`` is what the guard says of it."""
    if "message" in choice or (choice["finish_reason"] and "delta" not in choice and choice["text"]):
        _add_whole(shown, choice.get("message", choice), stars[choice["index"]].get("forced_text", {}))
        return
    said, forced = choice.get("delta", choice), any("run_id" not in each for each in stars)
    shown.add(said.get("content") or said.get("text") or "", forced=forced)
    shown.add(said.get("reasoning_content") or "", Channel.REASONING, forced=forced)
    for call in said.get("tool_calls", ()):
        shown.call(_call(call), forced=forced)


def _add_whole(shown: Shown, said: dict[str, Any], forced: dict[str, Any]) -> None:
    texts = {Channel.ANSWER: said.get("content") or said.get("text") or ""}
    texts[Channel.REASONING] = said.get("reasoning_content") or ""
    for channel, text in texts.items():
        shown.add(text, channel, forced=False)
        for start, end in forced.get(channel.value, ()):
            shown.forced.update(MARK.findall(text[start:end]))
    for call in said.get("tool_calls", ()):
        shown.call(_call(call), forced=call["id"] in forced.get("calls", ()))


def _call(said: dict[str, Any]) -> ToolCall:
    function = said["function"]
    return ToolCall(said["id"], function["name"], json.loads(function["arguments"]))
