"""Items of a response: messages, reasoning and calls, whole or while they are being written."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from stars_guard.result import GuardedResult
from stars_guard.server.openai.answers import Json
from stars_guard.server.telemetry.exchange import finish_reason
from stars_guard.types import ToolCall

TEXT, REFUSAL, REASONING = "output_text", "refusal", "reasoning_text"
"""Kinds of content."""
_FIELDS = {TEXT: "text", REFUSAL: "refusal", REASONING: "text"}
"""Where the text is in content of each kind, and in the event that says all of it."""
_PARTS: dict[str, Json] = {TEXT: {"annotations": [], "logprobs": []}, REFUSAL: {}, REASONING: {}}
_EVENTS: dict[str, Json] = {TEXT: {"logprobs": []}, REFUSAL: {}, REASONING: {}}
"""What content of each kind, and its events, hold beside the text."""


def part(kind: str, text: str) -> Json:
    """Content of an item.

    Args:
        kind: ``TEXT``, ``REFUSAL`` or ``REASONING``.
        text: of the content.
    """
    return {"type": kind, _FIELDS[kind]: text, **_PARTS[kind]}


def call_item(call: ToolCall, arguments: str, status: str = "completed") -> Json:
    """A call that the model made.

    Args:
        call: the call.
        arguments: as JSON; empty while they have not been said.
        status: ``completed`` or ``in_progress``.
    """
    return {
        "id": f"fc_{call.id}",
        "type": "function_call",
        "status": status,
        "call_id": call.id,
        "name": call.name,
        "arguments": arguments,
    }


def written_arguments(call: ToolCall) -> str:
    """The arguments of a call, as JSON."""
    return json.dumps(call.arguments, ensure_ascii=False)


def is_complete(result: GuardedResult) -> bool:
    """Whether the model ended its answer itself."""
    return finish_reason(result) in ("stop", "tool_calls")


def items_of(result: GuardedResult, number: str) -> list[Json]:
    """The items of a whole answer.

    Args:
        result: the answer.
        number: id of the response, for those of its items.
    """
    items = []
    if result.reasoning:
        thought = Item(REASONING, number, 0, [part(REASONING, result.reasoning)])
        items.append(thought.said("completed"))
    parts = _answer(result)
    if parts or not result.tool_calls:
        message = Item(TEXT, number, len(items), parts or [part(TEXT, "")])
        items.append(message.said("completed" if is_complete(result) else "incomplete"))
    return items + [call_item(call, written_arguments(call)) for call in result.tool_calls]


def _answer(result: GuardedResult) -> list[Json]:
    accepted = result.text[: result.refusal_from]
    refusal = [part(REFUSAL, result.refusal)] if result.refused else []
    return [*([part(TEXT, accepted)] if accepted else []), *refusal]


@dataclass
class Item:
    """A message, or the reasoning before it, and the events that say how it grows."""

    first: str
    """Kind of its first content, which decides what it is."""
    number: str
    """Id of the response."""
    index: int
    """Number of the item in its response, from 0."""
    parts: list[Json] = field(default_factory=list)

    def takes(self, kind: str) -> bool:
        """Whether content of a kind belongs into it."""
        return (kind == REASONING) == (self.first == REASONING)

    def said(self, status: str) -> Json:
        """The item as it stands; it is a copy."""
        parts = [dict(content) for content in self.parts]
        if self.first == REASONING:
            return {"id": self._id, "type": "reasoning", "summary": [], "content": parts, "status": status}
        return {"id": self._id, "type": "message", "role": "assistant", "content": parts, "status": status}

    def opened(self) -> list[Json]:
        """The event with which it begins."""
        item = self.said("in_progress")
        return [{"type": "response.output_item.added", "output_index": self.index, "item": item}]

    def added(self, kind: str, text: str, more: Json) -> list[Json]:
        """The events of a piece of text.

        Args:
            kind: of the content that the text belongs to.
            text: what is added to it.
            more: what else is said of it.
        """
        events: list[Json] = []
        if not self.parts or self.parts[-1]["type"] != kind:
            events += self._part_done()
            self.parts.append(part(kind, ""))
            events.append(self._of_part("response.content_part.added", part=dict(self.parts[-1])))
            text = text.lstrip("\n") if kind == REFUSAL else text  # what parts it from the text before it
        self.parts[-1][_FIELDS[kind]] += text
        delta = self._of_part(f"response.{kind}.delta", delta=text, **_EVENTS[kind], **more)
        return [*events, delta]

    def closed(self, status: str) -> list[Json]:
        """The events with which it ends."""
        item = self.said(status)
        done = {"type": "response.output_item.done", "output_index": self.index, "item": item}
        return [*self._part_done(), done]

    def _part_done(self) -> list[Json]:
        if not self.parts:
            return []
        content = self.parts[-1]
        kind, name = content["type"], _FIELDS[content["type"]]
        text = self._of_part(f"response.{kind}.done", **{name: content[name]}, **_EVENTS[kind])
        return [text, self._of_part("response.content_part.done", part=dict(content))]

    def _of_part(self, event: str, **more: Any) -> Json:
        place = {"item_id": self._id, "output_index": self.index, "content_index": len(self.parts) - 1}
        return {"type": event, **place, **more}

    @property
    def _id(self) -> str:
        kind = "rs" if self.first == REASONING else "msg"
        return f"{kind}_{self.number.rpartition('_')[2]}_{self.index}"
