"""What the guarded server adds to a bare one, and whether it loses, mixes up or leaks anything under load.

    python -m benchmarks.serving [--streams 64] [--seconds 60] [--repeats 3]

1. Correctness: so many streams for so long; every answer is a function of its prompt, so that a segment that
   was lost, doubled, or sent to somebody else is seen. Memory, tasks and threads are watched meanwhile.
2. Added latency: from the moment when a segment is drawn to its receipt by the client, on an engine with a
   known step; guarded and bare servers take turns, and medians are compared.
3. Throughput: the engine decodes at once, so that only the servers' own work is left; likewise in turns.

Client and server share the machine, so answers a second are those of half of it at most; the processor time
of the server's process is its own.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.load import Served, Server, load, started
from benchmarks.load_server import SCRIPT
from stars_guard.planning.spread import percentile

STEP = 0.01
"""Seconds of a decoding step where latency is measured: 100 tokens a second for each stream."""


def soak(server: Server, streams: int, seconds: float) -> dict[str, float]:
    """Correctness and leaks.

    Args:
        server: ours.
        streams: at the same time.
        seconds: of load, after warming up.
    """
    asyncio.run(load(server, SCRIPT, streams, 1, "warm"))
    before, samples = server.state, list[int]()
    served = asyncio.run(load(server, SCRIPT, streams, seconds, "soak", samples))
    report(served.wrong)
    after = server.state
    late = samples[len(samples) // 2 :]
    return {
        "streams": streams,
        "answers": served.answers,
        "segments": served.segments,
        "wrong_answers": len(served.wrong),
        "answers_per_second": served.answers / served.seconds,
        "memory_mib": late[-1] / 1024,
        "memory_kib_per_second": slope(late),
        "memory_bytes_per_answer": 1024 * slope(late) * served.seconds / served.answers,
        "more_tasks": after["tasks"] - before["tasks"],
        "more_threads": after["threads"] - before["threads"],
    }


def slope(samples: list[int]) -> float:
    """Of a line through samples that were taken every second."""
    return statistics.linear_regression(range(len(samples)), samples).slope if len(samples) > 1 else 0.0


def in_turns(
    servers: dict[str, Server], streams: int, seconds: float, repeats: int
) -> dict[str, list[Served]]:
    """The same load on each, one after the other.

    Args:
        servers: by name.
        streams: at the same time.
        seconds: of load, on each in each turn.
        repeats: turns, after warming up.
    """
    for name, server in servers.items():
        asyncio.run(load(server, SCRIPT, streams, 0, f"warm-{name}"))
    runs: dict[str, list[Served]] = {name: [] for name in servers}
    for repeat in range(repeats):
        for name, server in servers.items():
            served = asyncio.run(load(server, SCRIPT, streams, seconds, f"{name}-{repeat}"))
            report(served.wrong)
            runs[name].append(served)
    return runs


def report(wrong: list[str]) -> None:
    """Say what went wrong, on stderr."""
    for complaint in wrong[:5]:
        print(complaint, file=sys.stderr)


def latencies(runs: list[Served]) -> dict[str, float]:
    """Median over the runs of percentiles over segments, in milliseconds."""
    return {
        name: statistics.median(1000 * percentile(run.late, share) for run in runs)
        for name, share in (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99))
    }


def rates(runs: list[Served]) -> dict[str, float]:
    """Median over the runs."""
    return {
        "answers_per_second": statistics.median(run.answers / run.seconds for run in runs),
        "segments_per_second": statistics.median(run.segments / run.seconds for run in runs),
        "cpu_ms_per_answer": statistics.median(1000 * run.cpu_seconds / run.answers for run in runs),
    }


def measure(streams: int, seconds: float, repeats: int) -> dict[str, dict[str, float]]:
    """Everything; each part has servers of its own.

    Args:
        streams: at the same time, for the first part.
        seconds: of the first part; the others take a sixth of it a turn.
        repeats: turns in the other parts.
    """
    figures: dict[str, dict[str, float]] = {}
    with started("guarded", STEP) as server:
        figures["soak"] = soak(server, streams, seconds)
    with started("guarded", STEP) as ours, started("bare", STEP) as bare:
        for count in (1, 32, 64):
            runs = in_turns({"guarded": ours, "bare": bare}, count, seconds / 6, repeats)
            each = {name: latencies(served) for name, served in runs.items()}
            figures |= {
                f"latency, {name}, {count} streams": percentiles for name, percentiles in each.items()
            }
            added = {name: value - each["bare"][name] for name, value in each["guarded"].items()}
            figures[f"latency added, {count} streams"] = added
    with started("guarded", 0.0) as ours, started("bare", 0.0) as bare:
        runs = in_turns({"guarded": ours, "bare": bare}, 32, seconds / 6, repeats)
        figures |= {f"throughput, {name}, 32 streams": rates(served) for name, served in runs.items()}
    return figures


def main(
    streams: Annotated[int, typer.Option(help="At the same time, for the first part.")] = 64,
    seconds: Annotated[float, typer.Option(help="Of the first part; the others take parts of it.")] = 12.0,
    repeats: Annotated[int, typer.Option(help="Turns in the other parts.")] = 3,
    output: Annotated[Path, typer.Option(help="The figures as JSON.")] = Path("benchmarks/serving.json"),
) -> None:
    """Measure, print a table and write the figures down."""
    results = measure(streams, seconds, repeats)
    output.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print("| what | measured |\n|---|---|")
    for what, figures in results.items():
        for name, value in figures.items():
            print(f"| {what}: {name} | {value:.4g} |")
    if results["soak"]["wrong_answers"]:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
