"""What a hostile client does, one small function each, in a process of its own.

    python -m benchmarks.hostile_attacks NAME PORT SECONDS

Every attack is one task of many that do the same until the time is over. What the server answers, or that it
closes the connection, is none of their concern.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import resource
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

CHAT = "/v1/chat/completions"
ADDRESS = ("127.0.0.2", 0)
"""Where attacks come from: not the address of honest clients, since a server may count connections by it."""
_HANG = "HANG"
_numbers = itertools.count()


@dataclass(frozen=True)
class Target:
    """A server, and when to leave it alone."""

    port: int
    until: float

    @property
    def left(self) -> float:
        """Seconds until the attack is over."""
        return max(0.0, self.until - time.monotonic())

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection that is reset when it is left."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=ADDRESS)
        try:
            yield reader, writer
        finally:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.close()


def head(length: int, method: str = "POST", path: str = CHAT) -> bytes:
    """The head of a request with a valid key.

    Args:
        length: of the body that is announced.
        method: of the request.
        path: of the request.
    """
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: server",
        "Authorization: Bearer hostile",
        "Content-Type: application/json",
        f"Content-Length: {length}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def request(text: str = "Hi", **fields: Any) -> bytes:
    """A whole request for an answer."""
    body = json.dumps({"messages": [{"role": "user", "content": text}], **fields}).encode()
    return head(len(body)) + body


async def answered(target: Target, whole: bytes, seconds: float = 60.0) -> bytes:
    """Send a request and read what comes, for so many seconds at most.

    Args:
        target: of the attack.
        whole: the request.
        seconds: after which the client leaves.
    """
    async with target.connection() as (reader, writer):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, target.left)):
                writer.write(whole)
                await writer.drain()
                return await reader.read(-1)
    return b""


async def long_stops(target: Target) -> None:
    """Stop strings of a megabyte, which every piece of an answer is compared with."""
    await answered(target, request(stop=["w" * 250_000 + str(n) for n in range(4)], max_tokens=256))


async def half_heads(target: Target) -> None:
    """A request whose head never ends; a line every second keeps it alive."""
    async with target.connection() as (_, writer):
        writer.write(b"GET /health/live HTTP/1.1\r\n")
        while target.left:
            writer.write(b"X-More: more\r\n")
            await writer.drain()
            await asyncio.sleep(1)


async def slow_bodies(target: Target) -> None:
    """A body that comes a byte at a time."""
    whole = request("Hi" * 2000)
    async with target.connection() as (_, writer):
        begin = whole.index(b"\r\n\r\n") + 4
        writer.write(whole[:begin])
        for byte in whole[begin:]:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)
            if not target.left:
                return


async def chosen_seeds(target: Target) -> None:
    """Short answers, one seed after the other."""
    await answered(target, request(seed=next(_numbers), max_tokens=8))


async def huge_prompts(target: Target) -> None:
    """A prompt that is as long as one may be, from a client that leaves soon."""
    await answered(target, request("word " * 79_000, max_tokens=8), seconds=1.0)


async def huge_traces(target: Target) -> None:
    """Answers of as many decisions as can be had, with their traces, which are then read back."""
    # The shortest segments are asked for every other time, since a server may refuse that.
    stars = {"trace": True, **({"segment_tokens": 1} if next(_numbers) % 2 else {})}
    whole = await answered(target, request(n=8, max_tokens=512, stars=stars))
    _, _, body = whole.partition(b"\r\n\r\n")
    with contextlib.suppress(ValueError, KeyError, TypeError):
        await answered(target, head(0, "GET", f"/v1/traces/{json.loads(body)['id']}"))


async def many_messages(target: Target) -> None:
    """80,000 small messages, asked for eight answers."""
    body = json.dumps({"messages": [{"role": "user", "content": "a"}] * 80_000, "n": 8}).encode()
    await answered(target, head(len(body)) + body)


async def hung_calls(target: Target) -> None:
    """Requests over which the engine hangs, from clients that give up."""
    await answered(target, request(_HANG), seconds=2.0)


async def unread_answers(target: Target) -> None:
    """Long streams, none of whose bytes is ever read."""
    with socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        own.bind(ADDRESS)
        own.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(own, ("127.0.0.1", target.port))
        await loop.sock_sendall(own, request(n=8, max_tokens=2048, stream=True))
        await asyncio.sleep(target.left)


async def disconnects(target: Target) -> None:
    """Streams that are left at their first byte."""
    async with target.connection() as (reader, writer):
        writer.write(request(max_tokens=256, stream=True))
        await reader.read(1)


async def full_queue(target: Target) -> None:
    """As many requests of one key as the server takes on."""
    await answered(target, request(max_tokens=512))


@dataclass(frozen=True)
class Attack:
    """What is done, and by how many tasks at the same time."""

    act: Callable[[Target], Awaitable[None]]
    tasks: int


ATTACKS = {
    "stop strings of a megabyte": Attack(long_stops, 8),
    "heads that never end": Attack(half_heads, 1000),
    "bodies a byte at a time": Attack(slow_bodies, 300),
    "a flood of chosen seeds": Attack(chosen_seeds, 16),
    "prompts as long as may be": Attack(huge_prompts, 8),
    "traces of huge size": Attack(huge_traces, 4),
    "80,000 small messages": Attack(many_messages, 4),
    "calls that hang the engine": Attack(hung_calls, 16),
    "clients that stop reading": Attack(unread_answers, 16),
    "clients that disconnect": Attack(disconnects, 32),
    "one key fills the queue": Attack(full_queue, 400),
}


async def _again_and_again(attack: Attack, target: Target) -> None:
    while target.left:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await attack.act(target)
        await asyncio.sleep(0.01)  # a server that refuses at once is not asked in an endless loop


async def _attack(attack: Attack, target: Target) -> None:
    tasks = [asyncio.create_task(_again_and_again(attack, target)) for _ in range(attack.tasks)]
    await asyncio.wait(tasks, timeout=target.left + 1)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def main(name: str, port: str, seconds: str) -> None:
    """Attack.

    Args:
        name: one of ``ATTACKS``.
        port: of this machine.
        seconds: that it takes.
    """
    os.nice(19)  # attackers have machines of their own; here they take what is left of this one
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard) if hard > 0 else max(soft, 4096), hard))
    asyncio.run(_attack(ATTACKS[name], Target(int(port), time.monotonic() + float(seconds))))


if __name__ == "__main__":
    main(*sys.argv[1:])
