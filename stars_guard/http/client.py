"""JSON calls to a server: many at once, each with a deadline, abandoned as soon as nobody wants its answer.

One thread with an event loop holds the connections of a client. Whoever waits looks every few milliseconds
whether its request is still wanted; if not, the connection is closed, upon which engines stop drawing.
A deadline is for the whole of a call: a server that drips cannot hold it longer. Needs httpx.
"""

from __future__ import annotations

import asyncio
import json
import math
import weakref
from asyncio import sleep
from collections.abc import Callable, Coroutine, Iterable, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from itertools import repeat
from time import monotonic
from typing import Any, TypeVar

import httpx

from stars_guard.errors import StarsGuardError
from stars_guard.forks import renew_in_children
from stars_guard.http.access import HttpAccess
from stars_guard.http.address import Address
from stars_guard.http.event_loop import EventLoop
from stars_guard.http.faults import Failure, ServerFaults

_CONNECT = 10.0
"""Most seconds to connect: a host that is gone is found out before the time for a long answer is over."""
_IDLE = 4.0
"""Seconds after which an unused connection is closed; servers on uvicorn close it after 5."""
_T = TypeVar("_T")


def _always() -> bool:
    return True


class JsonClient:
    """JSON calls to one server. Safe to use from several threads.

    Args:
        address: of the server; paths are appended to its URL.
        access: time limits, retries, key. ``timeout`` is for a whole answer.
        faults: what is raised and said when a call fails.

    Raises:
        ConfigurationError: the API key cannot be had or sent.
    """

    def __init__(self, address: Address, access: HttpAccess, faults: ServerFaults) -> None:
        self.shown = address.shown
        self._url = address.url
        self._access = access
        self._faults = faults
        self._connections = _Connections(address, access)
        self._loop = EventLoop("stars-guard-http", self._connections.close)
        # Also at the interpreter's end: nobody must wait then for an answer that cannot come any more.
        self._finalizer = weakref.finalize(self, self._loop.stop)

    def post_all(
        self,
        path: str,
        bodies: Sequence[dict[str, Any]],
        alive: Callable[[], bool] = _always,
        deadlines: Iterable[float] = repeat(math.inf),
    ) -> list[Any] | None:
        """The parsed answers to calls made at the same time; None once they are not wanted any more.

        Args:
            path: after the URL.
            bodies: one JSON object a call.
            alive: asked every few milliseconds.
            deadlines: one a call: ``time.monotonic()`` value after which nothing is sent and nothing is
                waited for.

        Raises:
            StarsGuardError: of the class in ``faults``: a call failed, by whatever reason; the others are
                abandoned then.
        """
        # ASCII, because half a surrogate pair in a text cannot be encoded otherwise.
        contents = [json.dumps(body, allow_nan=False).encode("ascii") for body in bodies]
        answers = self._wait(path, self._all(path, contents, deadlines), alive)
        return None if answers is None else [self._parsed(path, answer) for answer in answers]

    def get(self, path: str) -> Any:
        """The parsed answer at a path.

        Raises:
            StarsGuardError: of the class in ``faults``: there is none.
        """
        return self._parsed(path, self.get_text(path))

    def get_text(self, path: str) -> bytes:
        """The answer at a path as it is.

        Raises:
            StarsGuardError: of the class in ``faults``: there is none.
        """
        answer = self._wait(path, self._call("GET", path, b"", math.inf), _always)
        return answer or b""

    def error(self, path: str, what: str) -> StarsGuardError:
        """An error that names the URL."""
        return self._faults.error(f"{self.shown}{path}: {what}")

    def close(self) -> None:
        """Abandon every call and close the connections; a call afterwards is an error."""
        self._finalizer()

    def _wait(self, path: str, call: Coroutine[Any, Any, _T], alive: Callable[[], bool]) -> _T | None:
        try:
            return self._loop.run(call, alive)
        except CancelledError:
            raise self.error(path, self._faults.closed) from None

    async def _all(self, path: str, contents: Sequence[bytes], deadlines: Iterable[float]) -> list[bytes]:
        calls = zip(contents, deadlines, strict=False)
        tasks = [asyncio.create_task(self._call("POST", path, *call)) for call in calls]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _call(self, method: str, path: str, content: bytes, deadline: float) -> bytes:
        attempt = 0
        while not isinstance(outcome := await self._in_turn(method, path, content, deadline), bytes):
            most = min(deadline - monotonic(), self._access.timeout)
            pause = outcome.pause(self._access, attempt, most)
            if pause is None:
                raise self.error(path, outcome.what)
            await sleep(pause)
            attempt += 1
        return outcome

    async def _in_turn(self, method: str, path: str, content: bytes, deadline: float) -> bytes | Failure:
        try:
            async with asyncio.timeout(None if deadline == math.inf else deadline - monotonic()):
                await self._connections.turns.acquire()
        except TimeoutError:
            return Failure("no answer by the deadline; allow more time")
        try:
            return await self._once(method, path, content, deadline)
        finally:
            self._connections.turns.release()

    async def _once(self, method: str, path: str, content: bytes, deadline: float) -> bytes | Failure:
        left = min(deadline - monotonic(), self._access.timeout)
        if left <= 0:
            return Failure("nothing was sent, the deadline has passed; allow more time")
        heard = False
        extensions = {"trace": _closing_broken_handshakes()}
        try:
            async with (
                asyncio.timeout(left),
                self._connections.client.stream(
                    method, self._url + path, content=content, extensions=extensions
                ) as response,
            ):
                heard = True
                return await self._body(response) if response.is_success else self._refused(response)
        except (TimeoutError, httpx.TimeoutException):
            return self._faults.late()
        except httpx.HTTPError as error:
            return self._broken(error, heard)

    async def _body(self, response: httpx.Response) -> bytes | Failure:
        most = self._access.max_answer_bytes
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > most:
                return Failure(f"more than max_answer_bytes={most} came; raise it")
        return bytes(body)

    def _refused(self, response: httpx.Response) -> Failure:
        header = response.headers.get("retry-after", "")
        return self._faults.refused(response.status_code, header, redirected=response.has_redirect_location)

    def _broken(self, error: httpx.HTTPError, heard: bool) -> Failure:
        kind = type(error).__name__
        if heard:
            return self._faults.broken(kind)
        if isinstance(error, httpx.ConnectError):
            return self._faults.unreachable(str(_reason(error)))
        if isinstance(error, httpx.NetworkError) or "without sending a response" in str(error):
            return self._faults.lost(kind)
        return Failure(f"what came is no HTTP ({kind}); check the URL")

    def _parsed(self, path: str, body: bytes) -> Any:
        with suppress(ValueError, RecursionError):
            return json.loads(body)
        # Outside of the handler: the parser's error holds the whole answer, which may echo secret text.
        raise self.error(path, f"the answer of {len(body)} bytes is not JSON; check the URL")


class _Connections:
    """The connections of a client; a forked process has its own, since a socket serves one process only."""

    def __init__(self, address: Address, access: HttpAccess) -> None:
        self._options: dict[str, Any] = {
            "headers": access.headers(has_user=address.user is not None),
            "auth": address.user,
            "verify": httpx.create_ssl_context(verify=access.verify),
            "limits": httpx.Limits(max_connections=access.max_parallel, keepalive_expiry=_IDLE),
            "timeout": httpx.Timeout(None, connect=_CONNECT),
            "trust_env": False,
        }
        self._max_parallel = access.max_parallel
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """No connection is open, in a forked process; those of the parent are left alone."""
        self.client = httpx.AsyncClient(**self._options)
        # Calls queue here and not for a connection, so that the wait for a turn is none for the server.
        self.turns = asyncio.Semaphore(self._max_parallel)

    async def close(self) -> None:
        """Close them all."""
        await self.client.aclose()


def _closing_broken_handshakes() -> Callable[[str, dict[str, Any]], Coroutine[Any, Any, None]]:
    """A listener to one call that closes its socket if the TLS handshake is abandoned.

    httpcore closes it after an error only, which cancelling is none: each late call would leave a socket.
    """
    opened: list[Any] = []

    async def trace(event: str, info: dict[str, Any]) -> None:
        if event == "connection.connect_tcp.complete":
            opened.append(info["return_value"])
        elif event == "connection.start_tls.failed":
            await opened[-1].aclose()

    return trace


def _reason(error: BaseException) -> BaseException:
    """What the system said: the errors above it say only that no address of the host could be reached."""
    while not isinstance(error, OSError) or error.__cause__:
        several = error.exceptions[-1] if isinstance(error, BaseExceptionGroup) else None
        below = several or error.__cause__ or error.__context__
        if below is None:
            break
        error = below
    return error
