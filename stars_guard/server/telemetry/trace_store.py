"""Full traces by the id of their request: the latest ones, each for the key that made it, as JSON.

What is kept is text already, so that its size is known, and reading it back costs nothing.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from stars_guard.algorithm.trace import Trace
from stars_guard.settings import Settings

_ATTEMPT = 300
"""Bytes that an attempt takes at least, as JSON."""


class Traces(Settings):
    """Full traces at ``/v1/traces/{id}``."""

    enabled: bool = False
    """Whether they are kept."""
    keep: int = Field(default=1000, ge=1)
    """Most requests whose traces are kept: the latest."""
    max_bytes: int = Field(default=64 * 2**20, ge=1)
    """Most bytes of all that is kept, as JSON; the oldest go first."""
    max_request_bytes: int = Field(default=8 * 2**20, ge=1)
    """Most bytes of the traces of one request; larger ones are not kept, nor part of a response."""


def trace_size(traces: Sequence[Trace]) -> int:
    """Bytes of these traces as JSON, roughly."""
    return sum(trace.attempts * (_ATTEMPT + _kept_text(trace)) for trace in traces)


def _kept_text(trace: Trace) -> int:
    return trace.segments[-1].prefix_tokens if trace.config.keep_rejected_text and trace.segments else 0


def written_traces(traces: Sequence[Trace], most: int) -> bytes | None:
    """Traces as a JSON list; None if that is longer than ``most`` bytes, of which no more is written."""
    written = bytearray(b"[")
    for number, trace in enumerate(traces):
        head = trace.model_dump_json(exclude={"segments"})
        written += b"," * (number > 0) + head[:-1].encode() + b',"segments":['
        for place, segment in enumerate(trace.segments):
            written += b"," * (place > 0) + segment.model_dump_json().encode()
            if len(written) > most:
                return None
        written += b"]}"
    return bytes(written + b"]") if len(written) < most else None


@dataclass(frozen=True, slots=True)
class KeptTraces:
    """The traces of one request."""

    key: str
    """Name of the API key that made it."""
    written: bytes | None
    """JSON list of them; None: they were too large."""

    def answer(self, request_id: str) -> bytes | None:
        """Body of the response that shows them; None: they were too large."""
        if self.written is None:
            return None
        return b'{"id":' + json.dumps(request_id).encode() + b',"traces":' + self.written + b"}"


class TraceStore:
    """Keeps the traces of the latest requests; the oldest go first.

    Attributes:
        size: bytes of all that is kept.
    """

    def __init__(self, settings: Traces) -> None:
        self._settings = settings
        self._kept: OrderedDict[str, KeptTraces] = OrderedDict()
        self.size = 0

    def keep(self, request_id: str, key: str, written: bytes | None) -> None:
        """Keep the traces of a request that is over.

        Args:
            request_id: of the request.
            key: name of the API key that made it.
            written: its traces, as JSON; None: they were too large.
        """
        self._kept[request_id] = KeptTraces(key, written)
        self.size += len(written or b"")
        while len(self._kept) > self._settings.keep or self.size > self._settings.max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self.size -= len(oldest.written or b"")

    def of(self, request_id: str, key: str) -> KeptTraces | None:
        """Traces of a request; None if there are none, or they are somebody else's."""
        kept = self._kept.get(request_id)
        return kept if kept is not None and kept.key == key else None
