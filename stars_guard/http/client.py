"""Calls to an inference server: many at once, each abandoned as soon as nobody wants its answer.

One thread with an event loop holds the connections of a language model. Whoever waits looks every few
milliseconds whether its request is still wanted; if not, the connection is closed, upon which engines stop
drawing. Needs httpx.
"""

from __future__ import annotations

import asyncio
import json
import weakref
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, TypeVar

import httpx

from stars_guard.errors import ConfigurationError, GenerationError
from stars_guard.http.access import HttpAccess
from stars_guard.http.address import Address
from stars_guard.http.event_loop import EventLoop
from stars_guard.http.failure import Failure, refused, too_long

_CONNECT = 10.0
"""Most seconds to connect."""
_IDLE = 4.0
"""Seconds after which an unused connection is closed; servers on uvicorn close it after 5."""
_REMEDIES = {
    400: "the engine does not take this call: check its profile, the model and the length of its context",
    401: "check the API key",
    403: "check the API key",
    404: "check the URL, the engine's profile and the name of the model",
    413: "the prompt is too long for the engine",
    422: "the engine does not take this call: check its profile",
    429: "the engine is overloaded: lower max_parallel, or raise retries",
    503: "the engine is overloaded or starting: raise retries, or look into its log",
}
_OTHERWISE = "look into the engine's log"
_T = TypeVar("_T")


class EngineConnection:
    """JSON calls to one server. Safe to use from several threads.

    Args:
        url: root of the server; a ``/v1`` at its end may be there or not.
        access: time limits, retries, key. ``timeout`` is for a whole answer.

    Raises:
        ConfigurationError: the URL is none, or the API key cannot be had or sent.
    """

    def __init__(self, url: str, access: HttpAccess) -> None:
        address = Address.of(url, "http://localhost:8000")
        if "?" in address.url or "#" in address.url:
            raise ConfigurationError(f"the URL of an engine has no query, but that of {address.shown} has")
        self._root, self.shown = (_root(one) for one in (address.url, address.shown))
        self._access = access
        headers = access.headers(has_user=address.user is not None)
        limits = httpx.Limits(max_connections=access.max_parallel, keepalive_expiry=_IDLE)
        client = httpx.AsyncClient(
            headers=headers,
            auth=address.user,
            verify=access.verify,
            limits=limits,
            timeout=httpx.Timeout(None, connect=_CONNECT),
            trust_env=False,
        )
        self._client = client
        self._loop = EventLoop("stars-guard-http", client.aclose)
        # Also at the interpreter's end: nobody must wait then for an answer that cannot come any more.
        self._finalizer = weakref.finalize(self, self._loop.stop)

    def post_all(
        self, path: str, bodies: Sequence[dict[str, Any]], alive: Callable[[], bool]
    ) -> list[Any] | None:
        """The parsed answers to calls made at the same time; None once they are not wanted any more.

        Args:
            path: after the root.
            bodies: one JSON object a call.
            alive: asked every few milliseconds.

        Raises:
            GenerationError: a call failed, by whatever reason; the others are abandoned then.
        """
        contents = [json.dumps(body, allow_nan=False).encode("ascii") for body in bodies]
        answers = self._wait(path, self._all(path, contents), alive)
        return None if answers is None else [self._parsed(path, one) for one in answers]

    def get(self, path: str) -> Any:
        """The parsed answer at a path.

        Raises:
            GenerationError: there is none.
        """
        return self._parsed(path, self.get_text(path))

    def get_text(self, path: str) -> bytes:
        """The answer at a path as it is.

        Raises:
            GenerationError: there is none.
        """
        answer = self._wait(path, self._call("GET", path, b""), lambda: True)
        return answer or b""

    def error(self, path: str, what: str) -> GenerationError:
        """An error that names the URL."""
        return GenerationError(f"{self.shown}{path}: {what}")

    def close(self) -> None:
        """Abandon every call and close the connections; a call afterwards is an error."""
        self._finalizer()

    def _wait(self, path: str, call: Coroutine[Any, Any, _T], alive: Callable[[], bool]) -> _T | None:
        try:
            return self._loop.run(call, alive)
        except CancelledError:
            raise self.error(path, "this model is closed; make a new one") from None

    async def _all(self, path: str, contents: Sequence[bytes]) -> list[bytes]:
        tasks = [asyncio.create_task(self._call("POST", path, one)) for one in contents]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _call(self, method: str, path: str, content: bytes) -> bytes:
        attempt = 0
        while not isinstance(outcome := await self._once(method, path, content), bytes):
            pause = outcome.pause(self._access, attempt, self._access.timeout)
            if pause is None:
                raise self.error(path, outcome.what)
            await asyncio.sleep(pause)
            attempt += 1
        return outcome

    async def _once(self, method: str, path: str, content: bytes) -> bytes | Failure:
        heard = False
        try:
            async with (
                asyncio.timeout(self._access.timeout),
                self._client.stream(method, self._root + path, content=content) as response,
            ):
                heard = True
                return (
                    await self._body(response)
                    if response.is_success
                    else refused(response, _REMEDIES, _OTHERWISE)
                )
        except (TimeoutError, httpx.TimeoutException):
            return Failure("no whole answer in time; raise timeout, or look at the engine")
        except httpx.HTTPError as error:
            return _broken(error, heard)

    async def _body(self, response: httpx.Response) -> bytes | Failure:
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > self._access.max_answer_bytes:
                return too_long(self._access)
        return bytes(body)

    def _parsed(self, path: str, body: bytes) -> Any:
        with suppress(ValueError, RecursionError):
            return json.loads(body)
        # Outside of the handler: the parser's error holds the whole answer, which is text of the model.
        raise self.error(path, f"the answer of {len(body)} bytes is not JSON; check the URL")


def _broken(error: httpx.HTTPError, heard: bool) -> Failure:
    kind = type(error).__name__
    if heard:
        return Failure(f"the answer broke off ({kind}); look at the engine")
    if isinstance(error, httpx.ConnectError):
        certificate = "CERTIFICATE_VERIFY_FAILED" in str(error)
        return Failure(f"cannot connect ({error}); check the URL and the engine", None if certificate else 0)
    if isinstance(error, httpx.NetworkError) or "without sending a response" in str(error):
        return Failure(f"the connection was lost before an answer ({kind}); look at the engine", 0)
    return Failure(f"what came is no HTTP ({kind}); check the URL")


def _root(url: str) -> str:
    return url.rstrip("/").removesuffix("/v1").rstrip("/")
