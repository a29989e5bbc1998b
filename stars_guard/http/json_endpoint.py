"""One JSON POST at a time: a deadline for the whole of it, bounded retries, an answer of bounded size.

httpx's timeouts are for each read, so a server that drips could hold a call for
hours; here every operation on a socket may take what is left of the call, and no more.
"""

from __future__ import annotations

import json
import math
import ssl
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

from stars_guard.errors import ScoringError
from stars_guard.http.address import Address
from stars_guard.http.failure import Failure, refused, too_long

if TYPE_CHECKING:
    from stars_guard.rewards.servers.remote import HttpOptions

_REMEDIES = {
    400: "the server does not take this body: check format, inputs, model and the length it reads",
    401: "check the API key",
    403: "check the API key",
    404: "check the path of the URL, and model",
    413: "lower max_batch, or judge shorter texts",
    422: "the server does not take this body: check format, inputs, model and the length it reads",
    429: "the server is overloaded: lower max_parallel, or raise retries",
    503: "the server is overloaded or starting: raise retries, or look into its log",
}
_OTHERWISE = "look into the server's log"


class JsonEndpoint:
    """A URL that takes JSON and answers with JSON. Safe to call from several threads."""

    def __init__(self, url: str, options: HttpOptions) -> None:
        """Check URL and key; nothing is sent.

        Raises:
            ConfigurationError: the URL is none, or the API key cannot be had or sent.
        """
        address = Address.of(url, "http://localhost:8000/classify")
        self.shown = address.shown
        self._options = options
        self._url = address.url
        self._client = httpx.Client(
            transport=_TimedTransport(options.verify, options.max_parallel),
            headers=options.headers(has_user=address.user is not None),
            auth=address.user,
            trust_env=False,
        )

    def post(self, content: bytes, deadline: float) -> Any:
        """The parsed answer.

        Args:
            content: the JSON body.
            deadline: ``time.monotonic()`` value after which nothing is sent and nothing is waited for.

        Raises:
            ScoringError: no answer in time, none that may be used, or none after the retries.
        """
        attempt = 0
        while not isinstance(outcome := self._once(content, deadline), bytes):
            most = min(deadline - time.monotonic(), self._options.timeout)
            pause = outcome.pause(self._options, attempt, most)
            if pause is None:
                raise self.error(outcome.what)
            time.sleep(pause)
            attempt += 1
        return self._parsed(outcome)

    def error(self, what: str) -> ScoringError:
        """A scoring error that names the endpoint."""
        return ScoringError(f"{self.shown}: {what}")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _once(self, content: bytes, deadline: float) -> bytes | Failure:
        begun = time.monotonic()
        if begun >= deadline:
            return Failure("nothing was sent, the deadline has passed; allow more time")
        _CALL.until, _CALL.heard = min(deadline, begun + self._options.timeout), False
        try:
            with self._client.stream("POST", self._url, content=content) as response:
                return (
                    self._body(response) if response.is_success else refused(response, _REMEDIES, _OTHERWISE)
                )
        except httpx.TimeoutException:
            return Failure("no whole answer in time; raise timeout or the deadline, or look at the server")
        except httpx.HTTPError as error:
            return _broken(error, _CALL.heard)

    def _body(self, response: httpx.Response) -> bytes | Failure:
        body = bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > self._options.max_answer_bytes:
                return too_long(self._options)
        return bytes(body)

    def _parsed(self, body: bytes) -> Any:
        with suppress(ValueError, RecursionError):
            return json.loads(body)
        # Outside of the handler: the parser's error holds the whole answer, which may echo what was judged.
        raise self.error(f"the answer of {len(body)} bytes is not JSON; check the path of the URL")


def _broken(error: httpx.HTTPError, heard: bool) -> Failure:
    if heard:
        return Failure(f"the answer broke off or is no HTTP ({type(error).__name__}); look at the server")
    if isinstance(error, httpx.ConnectError):
        certificate = "CERTIFICATE_VERIFY_FAILED" in str(error)
        return Failure(f"cannot connect ({error}); check the URL and the server", None if certificate else 0)
    return Failure(f"the connection was lost ({type(error).__name__}); look at the server", 0)


class _Call(threading.local):
    """What this thread's socket operations must know of the call that they serve."""

    until: float = math.inf
    heard: bool = False

    def left(self, error: type[Exception]) -> float:
        """Seconds left; raises ``error`` if there are none."""
        left = self.until - time.monotonic()
        if left <= 0:
            raise error
        return left


_CALL = _Call()


class _TimedTransport(httpx.HTTPTransport):
    """httpx's own transport, over a pool whose sockets know the deadline."""

    def __init__(self, verify: bool | ssl.SSLContext, connections: int) -> None:
        context = httpx.create_ssl_context(verify=verify)
        super().__init__(verify=context)
        self._pool = httpcore.ConnectionPool(
            ssl_context=context, max_connections=connections, network_backend=_TimedBackend()
        )


class _TimedBackend(httpcore.NetworkBackend):
    def __init__(self) -> None:
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = _CALL.left(httpcore.ConnectTimeout)
        return _TimedStream(self._inner.connect_tcp(host, port, left, local_address, socket_options))


class _TimedStream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._inner.read(max_bytes, _CALL.left(httpcore.ReadTimeout))
        _CALL.heard = _CALL.heard or bool(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _CALL.left(httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _CALL.left(httpcore.ConnectTimeout)
        return _TimedStream(self._inner.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
