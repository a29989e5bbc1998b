"""Many streams at once against a server, every piece checked: who sent it, in which order, how late."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.stepped import Script, read_answer


@dataclass
class Served:
    """What the streams saw.

    Attributes:
        answers: complete ones.
        segments: of all of them.
        wrong: prompts whose answer was not the right one, or that had none, and why.
        late: seconds from the drawing of a segment to its receipt, for each segment.
        seconds: from the first request to the last answer.
        cpu_seconds: that the server used meanwhile.
    """

    answers: int = 0
    segments: int = 0
    wrong: list[str] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class Server:
    """A server under load."""

    url: str
    pid: int

    @property
    def resident_kib(self) -> int:
        """Memory of the process."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE") // 1024

    @property
    def cpu_seconds(self) -> float:
        """That the process has used so far."""
        used = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return sum(map(int, used)) / os.sysconf("SC_CLK_TCK")

    @property
    def state(self) -> dict[str, int]:
        """Tasks and threads in it."""
        counts: dict[str, int] = httpx.get(f"{self.url}/benchmark/state").json()
        return counts


@contextmanager
def started(kind: str, step: float) -> Iterator[Server]:
    """A server of :mod:`benchmarks.load_server`, in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.load_server", kind, str(port), str(step)]
    process = subprocess.Popen(command)
    try:
        server = Server(f"http://127.0.0.1:{port}", process.pid)
        _await(server, process)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=20)


def _await(server: Server, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with exit code {process.returncode}")
        try:
            _ = server.state
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("the server did not start within 60 seconds")


async def load(
    server: Server, script: Script, streams: int, seconds: float, name: str, samples: list[int] | None = None
) -> Served:
    """So many streams at the same time, each asking again once it is answered, until the time is over.

    Args:
        server: under load.
        script: what it answers.
        streams: at the same time.
        seconds: after which no stream asks again; each asks once at least.
        name: begins every prompt, so that no two runs ask the same.
        samples: gets the memory of the server, in KiB, every second.
    """
    served, begun, used = Served(), time.monotonic(), server.cpu_seconds
    limits = httpx.Limits(max_connections=streams)
    async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=120) as client:

        async def stream(number: int) -> None:
            sent = 0
            while not sent or time.monotonic() - begun < seconds:
                await _ask(client, script, f"{name}-{number}-{sent}", served)
                sent += 1

        watching = asyncio.create_task(_watch(server, samples)) if samples is not None else None
        await asyncio.gather(*(stream(number) for number in range(streams)))
        if watching is not None:
            watching.cancel()
    served.seconds, served.cpu_seconds = time.monotonic() - begun, server.cpu_seconds - used
    return served


async def _watch(server: Server, samples: list[int]) -> None:
    while True:
        samples.append(server.resident_kib)
        await asyncio.sleep(1)


async def _ask(client: httpx.AsyncClient, script: Script, prompt: str, served: Served) -> None:
    try:
        answer = await _answer(client, prompt)
    except (httpx.HTTPStatusError, httpx.TransportError) as error:
        served.wrong.append(f"{prompt}: {type(error).__name__} {error}")
        return
    names, _ = read_answer(answer.text)
    served.answers += 1
    served.segments += len(names)
    served.late += answer.late
    if names != script.expected(prompt) or not answer.ended:
        served.wrong.append(f"{prompt}: {len(names)} segments, ended: {answer.ended}: {names}")


@dataclass
class _Answer:
    text: str = ""
    late: list[float] = field(default_factory=list)
    ended: bool = False


async def _answer(client: httpx.AsyncClient, prompt: str) -> _Answer:
    body = {"messages": [{"role": "user", "content": prompt}], "stream": True, "model": "stars-guard"}
    answer = _Answer()
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        response.raise_for_status()
        async for line in response.aiter_lines():
            now = time.monotonic()
            if line == "data: [DONE]":
                answer.ended = True
            elif line.startswith("data: "):
                piece = _piece(line)
                answer.text += piece
                answer.late += [now - drawn for drawn in read_answer(piece)[1]]
    return answer


def _piece(line: str) -> str:
    choices = json.loads(line.removeprefix("data: ")).get("choices", [])
    return "".join(choice["delta"].get("content") or "" for choice in choices)
