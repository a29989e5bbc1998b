"""A message of Anthropic's API, whole and streamed: blocks of content, and events that say how they grow."""

from __future__ import annotations

import json
from collections.abc import Sequence

from stars_guard.loop.events import Request
from stars_guard.result import GuardedResult, token_counts
from stars_guard.server.anthropic.faults import error_body
from stars_guard.server.anthropic.wire import MessagesRequest
from stars_guard.server.openai.answers import Json, ResponseHead
from stars_guard.server.openai.faults import Fault
from stars_guard.server.openai.sse import FORCED, encoded
from stars_guard.server.telemetry.exchange import ChoiceEvent, finish_reason
from stars_guard.text.transcript import Called, Piece
from stars_guard.types import Channel, StopReason, ToolCall

_STOP_REASONS = {
    "stop": "end_turn",
    "tool_calls": "tool_use",
    "length": "max_tokens",
    "content_filter": "refusal",
}
_TEXT, _THINKING = "text", "thinking"


class MessageWords:
    """One message.

    Args:
        body: the fields of the request.
        head: what the response holds, whatever its form.
        requests: what the guard is asked: one request.
    """

    keep_alive = encoded({"type": "ping"}, "ping")

    def __init__(self, body: MessagesRequest, head: ResponseHead, requests: Sequence[Request]) -> None:
        (self._request,) = requests
        self._stops = body.stop_sequences or []
        self._head = head
        self._index = 0
        self._block: str | None = None
        self._has_begun = False

    def whole(self, results: Sequence[GuardedResult]) -> Json:
        """The response in one piece."""
        (result,) = results
        return {
            **self._message(_content(result)),
            **self._end(result),
            "usage": _usage(result),
            **self._head.verdict(results),
        }

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
        return _encoded([*self._begun(), *said])

    def closing(self) -> list[bytes]:
        """The last event, encoded."""
        return _encoded([{"type": "message_stop"}])

    def failed(self, fault: Fault) -> list[bytes]:
        """The end of a stream that failed, encoded."""
        return _encoded([error_body(fault, self._head.id.rpartition("_")[2])])

    def _begun(self) -> list[Json]:
        if self._has_begun:
            return []
        self._has_begun = True
        # How long the prompt is is known at the end, and said there.
        empty = {"stop_reason": None, "stop_sequence": None, "usage": _counted(0, 0)}
        return [{"type": "message_start", "message": {**self._message([]), **empty}}]

    def _pieced(self, piece: Piece) -> list[Json]:
        kind = _THINKING if piece.channel is Channel.REASONING else _TEXT
        said: list[Json] = []
        if self._block != kind:
            said += [*self._closed(), self._opened(_block(kind, ""))]
            self._block = kind
        return [
            *said,
            self._delta({"type": f"{kind}_delta", kind: piece.text}, FORCED if piece.forced else {}),
        ]

    def _called(self, call: ToolCall, more: Json) -> list[Json]:
        said = [*self._closed(), self._opened({**_called(call), "input": {}})]
        self._block = "tool_use"
        written = json.dumps(call.arguments, ensure_ascii=False)
        delta = self._delta({"type": "input_json_delta", "partial_json": written}, more)
        return [*said, delta, *self._closed()]

    def _finished(self, result: GuardedResult) -> list[Json]:
        usage = _usage(result)
        delta = {"type": "message_delta", "delta": self._end(result), "usage": usage}
        return [*self._closed(), {**delta, **self._head.verdict([result])}]

    def _opened(self, block: Json) -> Json:
        return {"type": "content_block_start", "index": self._index, "content_block": block}

    def _delta(self, delta: Json, more: Json) -> Json:
        return {"type": "content_block_delta", "index": self._index, "delta": delta, **more}

    def _closed(self) -> list[Json]:
        """The event with which the block ends that is being written, if one is."""
        if self._block is None:
            return []
        self._block = None
        self._index += 1
        return [{"type": "content_block_stop", "index": self._index - 1}]

    def _message(self, content: list[Json]) -> Json:
        head = self._head
        return {
            "id": head.id,
            "type": "message",
            "role": "assistant",
            "model": head.model,
            "content": content,
        }

    def _end(self, result: GuardedResult) -> Json:
        """Why the message ended."""
        if result.stop_reason is not StopReason.STOP or result.tool_calls or not self._stops:
            return {"stop_reason": _STOP_REASONS[finish_reason(result)], "stop_sequence": None}
        # Which of several it was is not known any more.
        sampling = self._request.sampling
        only = len(sampling.stop) == 1 and not sampling.stop_token_ids
        return {"stop_reason": "stop_sequence", "stop_sequence": self._stops[0] if only else None}


def _content(result: GuardedResult) -> list[Json]:
    return [
        *([_block(_THINKING, result.reasoning)] if result.reasoning else []),
        *([_block(_TEXT, result.text)] if result.text else []),
        *[_called(call) for call in result.tool_calls],
    ]


def _block(kind: str, text: str) -> Json:
    return {"type": kind, kind: text, **({"signature": ""} if kind == _THINKING else {})}


def _called(call: ToolCall) -> Json:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}


def _usage(result: GuardedResult) -> Json:
    counts = token_counts(result)
    return _counted(counts["prompt_tokens"], counts["completion_tokens"])


def _counted(read: int, written: int) -> Json:
    cached = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    return {"input_tokens": read, **cached, "output_tokens": written}


def _encoded(events: Sequence[Json]) -> list[bytes]:
    return [encoded(event, event["type"]) for event in events]
