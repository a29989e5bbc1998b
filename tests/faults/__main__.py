"""Run streams and requests with faults, print what came of it, and fail if anything was wrong.

python -m tests.faults --streams 1000000 --requests 100000 --processes 2
python -m tests.faults --replay streams:1234 --seed 1 --times 50
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.page import table, write_between
from tests.faults.run import Part, parts, run_all, run_in_turn
from tests.faults.tally import Tally


def rows(tally: Tally, seconds: float, processes: int) -> list[list[str]]:
    """The figures of a run, for a table.

    Args:
        tally: of the whole run.
        seconds: that it took.
        processes: at the same time.
    """
    counts = tally.counts
    figures: dict[str, object] = {
        "streams in process": counts["streams"],
        "of them in shared rounds": counts["streams in shared rounds"],
        "of them on lanes": counts["streams on lanes"],
        "HTTP requests": counts["requests"],
        "of them over sockets": counts["requests over sockets"],
        "faults that struck": sum(tally.faults.values()),
        "places and kinds of fault": len(tally.faults),
        "readers and clients that went away": _gone(tally),
        "characters shown": counts["characters shown"] + counts["characters sent"],
        "lines of the log that were read": counts["log lines"],
        "**complaints** (unvetted text, a neighbour hit, anything left over)": tally.wrong,
        **{f"blocks of memory left by each of the {kind}": f"{of:.3f}" for kind, of in tally.growth.items()},
        f"minutes, with {processes} process{'es' * (processes > 1)}": f"{seconds / 60:.1f}",
    }
    return [[name, f"{value:,}" if isinstance(value, int) else str(value)] for name, value in figures.items()]


def _gone(tally: Tally) -> int:
    clients = sum(count for name, count in tally.counts.items() if name.startswith("client: "))
    stayed = tally.counts["client: reads"] + tally.counts["client: reads slowly"]
    return tally.counts["ended: left by the reader"] + clients - stayed


def main(
    streams: Annotated[int, typer.Option(help="Streams in process, on both drivers.")] = 1_000_000,
    requests: Annotated[int, typer.Option(help="HTTP requests.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Plans every stream, request and fault.")] = 1,
    processes: Annotated[int, typer.Option(help="At the same time.")] = 2,
    replay: Annotated[str, typer.Option(help="One wave only, as a complaint names it: streams:12")] = "",
    times: Annotated[int, typer.Option(help="How often it is replayed.")] = 10,
    write: Annotated[Path | None, typer.Option(help="A page that gets the figures, as well.")] = None,
) -> None:
    """Run, print a table, and end with exit code 1 if anything was wrong."""
    begun = time.monotonic()
    if replay:
        kind, _, number = replay.partition(":")
        tally = run_in_turn([Part(kind, seed, int(number), int(number) + 1)] * times)
    else:
        tally = run_all(parts(streams, requests, seed, processes))
    figures = table(["what", "measured"], rows(tally, time.monotonic() - begun, processes))
    typer.echo(f"seed {seed}\n{figures}")
    for name, count in sorted((tally.counts + tally.faults).items()):
        typer.echo(f"{count:>12,}  {name}")
    for complaint in tally.complaints:
        typer.echo(complaint, err=True)
    if write is not None:
        write_between(write, "faults", figures)
    if tally.wrong:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
