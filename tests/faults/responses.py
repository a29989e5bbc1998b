"""What a client got, from its bytes: texts by channel, calls, and whatever else may hold a candidate."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from stars_guard.types import Channel, ToolCall
from tests.faults.ledger import Shown

ANY_NUMBER = 10**9
"""Forced segments of a response that broke off before it said how many there are."""


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
    choices: defaultdict[int, Shown] = defaultdict(lambda: Shown(number, forced=ANY_NUMBER))
    choices[0].other, choices[0].error = text, response.error
    forced: list[int] = []
    for said in _objects(text):
        forced += [stars["forced"] for stars in said.get("stars", ()) if "run_id" in stars]
        for choice in said.get("choices", ()):
            _add(choices[choice["index"]], choice)
    if len(forced) == len(choices):
        for shown in choices.values():
            shown.forced = sum(forced)
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


def _add(shown: Shown, choice: dict[str, Any]) -> None:
    said = choice.get("delta") or choice.get("message") or choice
    shown.texts[Channel.ANSWER] += said.get("content") or said.get("text") or ""
    shown.texts[Channel.REASONING] += said.get("reasoning_content") or ""
    for call in said.get("tool_calls", ()):
        function = call["function"]
        shown.calls.append(ToolCall(call["id"], function["name"], json.loads(function["arguments"])))
