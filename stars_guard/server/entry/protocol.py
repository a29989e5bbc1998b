"""uvicorn's connection, with an end to everything that a client can keep it waiting for."""

from __future__ import annotations

import asyncio
import json
from enum import Enum
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from stars_guard.server.entry.connections import Connections
from stars_guard.server.entry.framing import StrictConnection
from stars_guard.server.openai.faults import Fault
from stars_guard.server.telemetry.closing import Closing

_RESPONSE_POSSIBLE = (h11.IDLE, h11.SEND_RESPONSE)
_BODY_ROUNDS = 2
_TOO_MANY = Fault(503, "too many connections", "server_error", "too_many_connections", retry_after=5)


class _Phase(Enum):
    """What a connection waits for."""

    HEAD = "the first head, or the rest of one that has begun"
    IDLE = "a next request"
    BODY = "the rest of a body"
    ANSWER = "the application"
    CLOSING = "the client to take what was written"


_WAITING = (_Phase.HEAD, _Phase.IDLE, _Phase.BODY)
"""Phases in which no answer is lost with the connection, unless the client keeps its question back."""


class BoundedProtocol(H11Protocol):
    """One connection. uvicorn bounds how long it is idle; this, all else that it can wait for.

    Args:
        connections: all connections of the server, and their limits.
        body_seconds: most seconds for a body. The application, which can say so in an answer, refuses a slow
            one itself; where it does not read it, the connection ends after twice that time.
        config: of the server.
        server_state: what the server's connections share.
        app_state: what requests get of the application's lifespan.
        _loop: event loop, as uvicorn names it.
    """

    def __init__(
        self,
        connections: Connections,
        body_seconds: float,
        *,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn: StrictConnection = StrictConnection(connections.limits)
        self._connections = connections
        self._noted: tuple[_Phase, object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._ends = {
            _Phase.HEAD: (connections.limits.head_seconds, self._head_too_slow),
            _Phase.BODY: (_BODY_ROUNDS * body_seconds, self._body_too_slow),
            # What the application gives up, uvicorn closes without a word here.
            _Phase.ANSWER: (connections.limits.write_seconds, self._look_again),
            _Phase.CLOSING: (connections.limits.write_seconds, self._read_too_slowly),
        }

    @property
    def address(self) -> str:
        """Address of the client; empty for a socket without one."""
        return self.client[0] if self.client else ""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn
        """Take the connection on, or say that there are too many."""
        super().connection_made(transport)
        if refused := self._connections.enter(self):
            self._end(refused, _TOO_MANY)
        self._note()

    def connection_lost(self, exc: Exception | None) -> None:
        """Make room."""
        super().connection_lost(exc)
        self._connections.leave(self)
        for timer in (self._timer, self._writing):
            if timer:
                timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Read on."""
        super().data_received(data)
        self._note()

    def on_response_complete(self) -> None:
        """Wait for the next request, and no longer than for the first."""
        super().on_response_complete()
        self._note()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection."""
        super().timeout_keep_alive_handler()
        self._note()

    def shutdown(self) -> None:
        """Close what is idle."""
        super().shutdown()
        self._note()

    def pause_writing(self) -> None:
        """Have the application wait for the client to read, for a while."""
        super().pause_writing()
        seconds = self._connections.limits.write_seconds
        self._writing = self.loop.call_later(seconds, self._read_too_slowly)

    def resume_writing(self) -> None:
        """Have the application go on."""
        super().resume_writing()
        if self._writing:
            self._writing.cancel()

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be read, and say no more than that: ``msg`` is uvicorn's."""
        status = self.conn.refused_with
        message = "the headers are too long or too many" if status == 431 else "this is no valid HTTP request"
        self._end(Closing.MALFORMED, Fault(status, message, code="malformed_http"))

    def abort(self) -> None:
        """End it now, with what was not sent yet."""
        self.transport.abort()

    def _should_upgrade(self) -> bool:
        """Whether another protocol is spoken: never; uvicorn would log each time that it is asked to."""
        return False

    def _phase(self) -> _Phase:
        if self.transport.is_closing():
            return _Phase.CLOSING
        if self.conn.their_state is h11.SEND_BODY:
            return _Phase.BODY
        if self.conn.their_state is not h11.IDLE:
            return _Phase.ANSWER
        return _Phase.HEAD if self.cycle is None or self.conn.begun else _Phase.IDLE

    def _note(self) -> None:
        """Begin to measure another wait, once it is another one."""
        phase = self._phase()
        if self._noted == (phase, self.cycle):
            return
        self._noted = (phase, self.cycle)
        self._connections.waits(self, phase in _WAITING)
        if self._timer:
            self._timer.cancel()
        end = self._ends.get(phase)
        self._timer = self.loop.call_later(*end) if end else None

    def _look_again(self) -> None:
        self._noted = None
        self._note()

    def _head_too_slow(self) -> None:
        self._end(Closing.HEAD_TOO_SLOW, Fault(408, "the headers took too long", code="head_too_slow"))

    def _body_too_slow(self) -> None:
        self._end(Closing.BODY_TOO_SLOW, Fault(408, "the body took too long", code="body_too_slow"))

    def _read_too_slowly(self) -> None:
        self._connections.closed(Closing.READ_TOO_SLOWLY)
        self.abort()

    def _end(self, reason: Closing, fault: Fault) -> None:
        """Answer with a fault if an answer is still possible, and close."""
        self._connections.closed(reason)
        if self.conn.our_state in _RESPONSE_POSSIBLE:
            self._answer(fault)
        if self.cycle:  # whatever the application still sends goes nowhere
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()
        self._note()

    def _answer(self, fault: Fault) -> None:
        body = json.dumps(fault.body()).encode()
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), **fault.headers}
        headers["Connection"] = "close"
        reason = HTTPStatus(fault.status).phrase
        head = h11.Response(status_code=fault.status, reason=reason, headers=list(headers.items()))
        for event in (head, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event))
