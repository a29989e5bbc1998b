"""What honest clients notice of an attack: 64 streams at a server, in quiet and under each attack in turn.

    python -m benchmarks.hostile [--server engine] [--seconds 8] [--repeats 3] [--write docs/reliability.md]

A quiet spell comes before each attack, so that ratios are between neighbours. The server, the honest clients
and the attackers are three processes of one machine; the attackers have the lowest priority, since real ones
have machines of their own. Honest and hostile clients have a key each.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import httpx
import typer

from benchmarks.hostile_attacks import ATTACKS, CHAT
from benchmarks.hostile_server import SEGMENT_TOKENS, SERVERS
from benchmarks.page import table, write_between
from stars_guard.planning.spread import percentile

PATIENCE = 30.0
"""Seconds after which an honest client gives up."""
LIMIT = 2.0
"""Most by which an attack may lengthen the times of honest clients."""


@dataclass
class Seen:
    """What the honest clients saw in one spell, in seconds.

    Attributes:
        first: until the first text of an answer came, one for each answer.
        gaps: between two pieces of an answer, divided by the tokens that a piece of the fakes has.
        answers: that came whole.
        failed: that did not.
    """

    first: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    answers: int = 0
    failed: int = 0

    def figure(self, name: str, share: float) -> float:
        """A percentile of ``first`` or of ``gaps``; what never came counts as the whole patience."""
        times = [*getattr(self, name), *([PATIENCE] * self.failed)]
        return percentile(times, share) if times else PATIENCE


async def honest(port: int, streams: int, seconds: float, tokens: int) -> Seen:
    """So many clients, each of whom asks again once it is answered.

    Args:
        port: of the server.
        streams: at the same time.
        seconds: after which nobody asks again.
        tokens: of each answer.
    """
    seen, until = Seen(), time.monotonic() + seconds

    async def client() -> None:
        while time.monotonic() < until:
            try:
                async with asyncio.timeout(PATIENCE):
                    await _answer(port, tokens, seen)
                seen.answers += 1
            except (OSError, ValueError):
                seen.failed += 1
                await asyncio.sleep(0.1)

    await asyncio.gather(*(client() for _ in range(streams)))
    return seen


async def _answer(port: int, tokens: int, seen: Seen) -> None:
    """One streamed answer. Raises ValueError if it does not come whole."""
    fields = {"messages": [{"role": "user", "content": "Hello."}], "max_tokens": tokens, "stream": True}
    body = json.dumps(fields).encode()
    lines = [f"POST {CHAT} HTTP/1.1", "Host: server", "Authorization: Bearer honest", "Connection: close"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
    begun, last, whole = time.monotonic(), 0.0, False
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write("\r\n".join(lines).encode() + body)
        while line := await reader.readline():
            whole = whole or line.startswith(b"data: [DONE]")
            if b'"content": "' not in line or b'"content": ""' in line:
                continue
            now = time.monotonic()
            if last:
                seen.gaps.append((now - last) / SEGMENT_TOKENS)
            else:
                seen.first.append(now - begun)
            last = now
    finally:
        writer.close()
    if not whole:
        raise ValueError("the answer broke off")


@contextmanager
def serving(kind: str) -> Iterator[int]:
    """The port of a server in a process of its own.

    Args:
        kind: one of ``SERVERS``.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.hostile_server", str(port), kind])
    try:
        _await(port, process)
        yield port
    finally:
        process.kill()  # one whose calls hang would drain for long
        process.wait()


def _await(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/health/live", trust_env=False)
            return
        time.sleep(0.1)
    raise RuntimeError("the server did not start")


@contextmanager
def attacking(name: str, port: int, seconds: float) -> Iterator[None]:
    """An attack that is at its height when the block begins.

    Args:
        name: one of ``ATTACKS``.
        port: of the server.
        seconds: that the block takes.
    """
    command = [sys.executable, "-m", "benchmarks.hostile_attacks", name, str(port), str(seconds + 2)]
    process = subprocess.Popen(command)
    time.sleep(1)
    try:
        yield
    finally:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class Pair:
    """A quiet spell, and one under attack right after it."""

    quiet: Seen
    attacked: Seen

    def ratio(self, name: str) -> float:
        """Of the 95th percentile of ``first`` or of ``gaps`` under attack to that in quiet."""
        return self.attacked.figure(name, 0.95) / self.quiet.figure(name, 0.95)


def measure(kind: str, names: list[str], load: tuple[int, float, int], repeats: int) -> dict[str, list[Pair]]:
    """Every attack, in turns; each on a server of its own, so that none inherits what another left.

    Args:
        kind: one of ``SERVERS``.
        names: of the attacks.
        load: honest streams, seconds of a spell, tokens of an honest answer.
        repeats: turns.
    """
    streams, seconds, tokens = load
    pairs: dict[str, list[Pair]] = {name: [] for name in names}
    for _ in range(repeats):
        for name in names:
            with serving(kind) as port:
                asyncio.run(honest(port, streams, 1, tokens))  # warms up
                quiet = asyncio.run(honest(port, streams, seconds, tokens))
                with attacking(name, port, seconds):
                    attacked = asyncio.run(honest(port, streams, seconds, tokens))
            pairs[name].append(Pair(quiet, attacked))
            typer.echo(f"{name}: {pairs[name][-1].ratio('first'):.2f}", err=True)
    return pairs


def rows(pairs: dict[str, list[Pair]]) -> list[list[str]]:
    """The table's: medians over the turns."""
    return [[name, *_cells(turns)] for name, turns in pairs.items()]


def _cells(turns: list[Pair]) -> list[str]:
    cells = []
    for name in ("first", "gaps"):
        for share in (0.5, 0.95):
            both = [
                [1000 * seen.figure(name, share) for seen in (turn.quiet, turn.attacked)] for turn in turns
            ]
            quiet, attacked = map(statistics.median, zip(*both, strict=True))
            cells.append(
                f"{quiet:.0f} / {attacked:.0f}" if name == "first" else f"{quiet:.1f} / {attacked:.1f}"
            )
        cells.append(f"{statistics.median(turn.ratio(name) for turn in turns):.2f}")
    answers, failed = (sum(getattr(turn.attacked, what) for turn in turns) for what in ("answers", "failed"))
    return [*cells, f"{failed} of {answers + failed}"]


def is_over(turns: list[Pair]) -> bool:
    """Whether an attack lengthened the times by more than it may, or an honest answer failed."""
    ratios = [statistics.median(turn.ratio(name) for turn in turns) for name in ("first", "gaps")]
    return max(ratios) > LIMIT or any(turn.attacked.failed for turn in turns)


HEAD = (
    *("attack", "first text, p50 ms", "p95 ms", "ratio", "token, p50 ms", "p95 ms", "ratio"),
    "honest answers that failed",
)


def main(
    server: Annotated[str, typer.Option(help=f"What is attacked: {', '.join(SERVERS)}.")] = "engine",
    streams: Annotated[int, typer.Option(help="Honest streams at the same time.")] = 64,
    seconds: Annotated[float, typer.Option(help="Of each spell.")] = 8.0,
    repeats: Annotated[int, typer.Option(help="Turns.")] = 3,
    tokens: Annotated[int, typer.Option(help="Of an honest answer.")] = 64,
    attack: Annotated[list[str] | None, typer.Option(help="Only attacks whose name holds this.")] = None,
    write: Annotated[Path | None, typer.Option(help="A page that gets the table, as well.")] = None,
) -> None:
    """Measure, print a table, and end with exit code 1 if honest clients suffered."""
    names = [name for name in ATTACKS if any(word in name for word in attack or [""])]
    pairs = measure(server, names, (streams, seconds, tokens), repeats)
    figures = table(HEAD, rows(pairs))
    typer.echo(figures)
    if write is not None:
        write_between(write, f"hostile {server}", figures)
    if any(is_over(turns) for turns in pairs.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
