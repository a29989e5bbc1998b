"""Where one request ends and the next begins: so strictly that a proxy in front sees it just the same."""

from __future__ import annotations

from typing import TypeAlias

import h11
from pydantic import Field

from stars_guard.settings import Settings

Received: TypeAlias = h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]

_BLANK = b"\r\n\r\n"
_FREE_CHUNKS = 1000
_BYTES_A_CHUNK = 64


class HeadLimits(Settings):
    """How long the request line and headers of a request may be."""

    max_head_bytes: int = Field(default=32 * 2**10, ge=256)
    """Longest request line with all headers; a longer one is refused with 431."""
    max_headers: int = Field(default=100, ge=1)
    """Most headers of a request; more are refused with 431."""


class StrictConnection(h11.Connection):
    """The server's side of a connection; whatever two readers could take for two different things is refused.

    h11 itself refuses Content-Lengths that differ, other codings than chunked, and names that are none. It
    takes what this class refuses: a length beside a coding, lines that end in LF alone or go on in the next,
    and a body in chunks of a byte each, which costs a thousand times what the same body costs in one.

    Args:
        limits: of a request's head.

    Attributes:
        refused_with: status for what was refused.
    """

    def __init__(self, limits: HeadLimits) -> None:
        super().__init__(h11.SERVER, limits.max_head_bytes)
        self._limits = limits
        self._chunks = self._bytes = 0
        self.refused_with = 400

    @property
    def begun(self) -> bool:
        """Whether something of a head has come."""
        return self.their_state is h11.IDLE and bool(self.trailing_data[0])

    def next_event(self) -> Received:
        """Read what comes next.

        Raises:
            RemoteProtocolError: it is not to be read in one way only, or too long.
        """
        try:
            return self._next_event()
        except h11.RemoteProtocolError as error:
            self.refused_with = error.error_status_hint
            raise

    def _next_event(self) -> Received:
        before = self.trailing_data[0]
        if self.their_state is h11.IDLE:
            self._check_head(before)
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._chunks = self._bytes = 0
            _check_framing(event)
        elif isinstance(event, h11.Data):
            self._check_chunk(event)
        elif isinstance(event, h11.EndOfMessage):  # and the trailers before it
            self._check_head(before[: len(before) - len(self.trailing_data[0])])
        return event

    def _check_head(self, received: bytes) -> None:
        end = received.find(_BLANK)
        head = received if end < 0 else received[: end + len(_BLANK)]
        if len(head) > self._limits.max_head_bytes:
            raise h11.RemoteProtocolError("the head is too long", error_status_hint=431)
        ends = head.count(b"\r\n")
        if ends > self._limits.max_headers + 2:  # beside them, the request line and the empty one
            raise h11.RemoteProtocolError("there are too many headers", error_status_hint=431)
        # The LF of the last CR may be on its way.
        if head.count(b"\n") != ends or head.count(b"\r") - head.endswith(b"\r") != ends:
            raise h11.RemoteProtocolError("a line does not end in CR LF")
        if b"\n " in head or b"\n\t" in head:
            raise h11.RemoteProtocolError("a header goes on in the next line")

    def _check_chunk(self, data: h11.Data) -> None:
        self._chunks += data.chunk_end
        self._bytes += len(data.data)
        if self._chunks > _FREE_CHUNKS + self._bytes // _BYTES_A_CHUNK:
            raise h11.RemoteProtocolError("the chunks of the body are too small")


def _check_framing(request: h11.Request) -> None:
    names = {name for name, _ in request.headers}
    if b"transfer-encoding" not in names:
        return
    if b"content-length" in names:
        raise h11.RemoteProtocolError("Content-Length and Transfer-Encoding contradict each other")
    if request.http_version < b"1.1":
        raise h11.RemoteProtocolError("HTTP/1.0 has no Transfer-Encoding")
