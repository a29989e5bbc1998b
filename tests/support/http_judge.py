"""A small HTTP server on 127.0.0.1 that answers what a test scripted, and remembers what it was asked."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What is answered: ``answer`` as JSON, or ``raw`` bytes, with a status and more headers."""

    answer: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    promised: int | None = None
    """Content-Length, where it is to differ from the truth."""

    def body(self) -> bytes:
        return json.dumps(self.answer).encode() if self.raw is None else self.raw


@dataclass
class Asked:
    """One request that came."""

    path: str
    headers: dict[str, str]
    body: Any


Script = Reply | Callable[["Handler", Any], Reply | None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.judge.connections += 1

    def do_GET(self) -> None:
        self.answer(None)

    def do_POST(self) -> None:
        self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def answer(self, body: Any) -> None:
        step = self.server.judge.next_step(Asked(self.path, dict(self.headers), body))
        reply = step if isinstance(step, Reply) else step(self, body)
        if reply is not None:
            self.send(reply)

    def send(self, reply: Reply) -> None:
        body = reply.body()
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(reply.promised or len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = self.close_connection or reply.promised is not None

    def log_message(self, *arguments: Any) -> None:
        pass


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is what some tests are about."""


class HttpJudge:
    """Answers the script in order, its last step for ever; ``asked`` are all requests, as they came."""

    def __init__(self, *script: Script) -> None:
        self.script = list(script)
        self.asked: list[Asked] = []
        self.connections = 0
        self.scheme = "http"
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._server = QuietServer(("127.0.0.1", 0), Handler)
        self._server.judge = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self._server.server_port}"

    def encrypt(self, certificate: str, key: str) -> None:
        """Speak TLS from now on."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.scheme = "https"

    def next_step(self, asked: Asked) -> Script:
        with self._lock:
            self.asked.append(asked)
            return self.script.pop(0) if len(self.script) > 1 else self.script[0]

    def __enter__(self) -> HttpJudge:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def hang_up(handler: Handler, body: Any) -> None:
    """Close the connection without an answer."""
    handler.close_connection = True


def silence(handler: Handler, body: Any) -> None:
    """Say nothing until the server stops."""
    handler.server.judge.stopping.wait()
    handler.close_connection = True


def drip(first: bytes, drop: bytes) -> Callable[[Handler, Any], None]:
    """Send ``first``, then ``drop`` again and again, until nobody listens or the server stops."""

    def step(handler: Handler, body: Any) -> None:
        handler.close_connection = True
        handler.wfile.write(first)
        while not handler.server.judge.stopping.wait(0.02):
            handler.wfile.write(drop)

    return step


drip_body = drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b" ")
drip_headers = drip(b"HTTP/1.1 200 OK\r\n", b"X: 1\r\n")
