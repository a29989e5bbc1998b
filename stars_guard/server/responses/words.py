"""A response of the Responses API, whole and streamed: items, and numbered events that say how they grow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stars_guard.loop.events import Request
from stars_guard.result import GuardedResult, token_counts
from stars_guard.server.openai.answers import Json, ResponseHead
from stars_guard.server.openai.faults import Fault
from stars_guard.server.openai.sse import COMMENT, FORCED, encoded
from stars_guard.server.responses.items import (
    REASONING,
    REFUSAL,
    TEXT,
    Item,
    call_item,
    is_complete,
    items_of,
    written_arguments,
)
from stars_guard.server.responses.wire import ResponseRequest
from stars_guard.server.telemetry.exchange import ChoiceEvent
from stars_guard.text.transcript import Called, Piece
from stars_guard.types import Channel, ToolCall


class ResponseWords:
    """One response.

    Args:
        body: the fields of the request.
        head: what the response holds, whatever its form.
        requests: what the guard is asked: one request.
    """

    keep_alive = COMMENT

    def __init__(self, body: ResponseRequest, head: ResponseHead, requests: Sequence[Request]) -> None:
        (self._request,) = requests
        self._body = body
        self._head = head
        self._number = 0
        self._output: list[Json] = []
        self._item: Item | None = None
        self._last: Json = {}

    def whole(self, results: Sequence[GuardedResult]) -> Json:
        """The response in one piece."""
        (result,) = results
        return self._ended(result, items_of(result, self._head.id))

    def events(self, _: int, event: ChoiceEvent) -> list[bytes]:
        """What a stream sends of one event, encoded."""
        if isinstance(event, Piece):
            said = self._pieced(event)
        elif isinstance(event, Called) and isinstance(event.call, ToolCall):
            said = self._called(event.call, FORCED if event.forced else {})
        elif isinstance(event, GuardedResult):
            said = self._finished(event)
        else:
            return []
        return self._encoded([*self._begun(), *said])

    def closing(self) -> list[bytes]:
        """The last event, encoded."""
        return self._encoded([{"type": f"response.{self._last['status']}", "response": self._last}])

    def failed(self, fault: Fault) -> list[bytes]:
        """The end of a stream that failed, encoded."""
        error = {"code": fault.code or fault.kind, "message": fault.message}
        response = self._response("failed", self._output, error=error)
        return self._encoded([*self._begun(), {"type": "response.failed", "response": response}])

    def _begun(self) -> list[Json]:
        if self._number:
            return []
        response = self._response("in_progress", [])
        kinds = ("response.created", "response.in_progress")
        return [{"type": kind, "response": response} for kind in kinds]

    def _pieced(self, piece: Piece) -> list[Json]:
        kind, text = self._content(piece)
        said: list[Json] = []
        if self._item is None or not self._item.takes(kind):
            said += self._closed()
            self._item = Item(kind, self._head.id, len(self._output))
            said += self._item.opened()
        return said + self._item.added(kind, text, FORCED if piece.forced else {})

    def _content(self, piece: Piece) -> tuple[str, str]:
        """Kind and text of the content that a piece is."""
        if piece.channel is Channel.REASONING:
            return REASONING, piece.text
        return (REFUSAL if piece.refusal else TEXT), piece.text

    def _called(self, call: ToolCall, more: Json) -> list[Json]:
        said, index, arguments = self._closed(), len(self._output), written_arguments(call)
        done = call_item(call, arguments)
        self._output.append(done)
        place = {"item_id": done["id"], "output_index": index}
        kind = "response.function_call_arguments"
        return [
            *said,
            {
                "type": "response.output_item.added",
                "output_index": index,
                "item": call_item(call, "", "in_progress"),
            },
            {"type": f"{kind}.delta", **place, "delta": arguments, **more},
            {"type": f"{kind}.done", **place, "name": call.name, "arguments": arguments},
            {"type": "response.output_item.done", "output_index": index, "item": done},
        ]

    def _finished(self, result: GuardedResult) -> list[Json]:
        said: list[Json] = []
        if self._item is None and not result.tool_calls:
            said += self._pieced(Piece(""))
        said += self._closed("completed" if is_complete(result) else "incomplete")
        self._last = self._ended(result, self._output)
        return said

    def _closed(self, status: str = "completed") -> list[Json]:
        """The events with which the item ends that is being written, if one is."""
        if self._item is None:
            return []
        item, self._item = self._item, None
        self._output.append(item.said(status))
        return item.closed(status)

    def _ended(self, result: GuardedResult, output: Sequence[Json]) -> Json:
        status = "completed" if is_complete(result) else "incomplete"
        reason = "content_filter" if result.refused else "max_output_tokens"
        details = {"incomplete_details": None if status == "completed" else {"reason": reason}}
        return self._response(status, output, **details, usage=_usage(result), **self._head.verdict([result]))

    def _response(self, status: str, output: Sequence[Json], **more: Any) -> Json:
        return {
            "id": self._head.id,
            "object": "response",
            "created_at": self._head.created,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self._head.model,
            "output": list(output),
            "usage": None,
            **self._asked(),
            **more,
        }

    def _asked(self) -> Json:
        """What the request asked for, and what holds where it did not."""
        body, sampling = self._body, self._request.sampling
        return {
            "instructions": body.instructions,
            "max_output_tokens": sampling.max_tokens,
            "metadata": body.metadata or {},
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": None, "summary": None},
            "store": False,
            "temperature": sampling.temperature,
            "text": {"format": (body.text and body.text.format) or {"type": "text"}},
            "tool_choice": body.tool_choice or "auto",
            "tools": body.tools or [],
            "top_p": sampling.top_p,
            "truncation": "disabled",
        }

    def _encoded(self, events: Sequence[Json]) -> list[bytes]:
        numbered = [
            {**event, "sequence_number": number} for number, event in enumerate(events, start=self._number)
        ]
        self._number += len(numbered)
        return [encoded(event, event["type"]) for event in numbered]


def _usage(result: GuardedResult) -> Json:
    counts = token_counts(result)
    return {
        "input_tokens": counts["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": counts["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": counts["total_tokens"],
    }
