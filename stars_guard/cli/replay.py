"""``stars-guard replay``: does a trace follow from its rewards, seed and settings?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stars_guard.algorithm.replay import replay as differences_of
from stars_guard.algorithm.trace import read_jsonl
from stars_guard.errors import ConfigurationError, TraceError

SHOWN = 5
"""Differences shown per trace."""


def replay_command(file: Annotated[Path, typer.Argument(help="Traces, one JSON object a line.")]) -> None:
    """Recompute every decision in FILE; exit with 1 when one does not follow."""
    if not file.is_file():
        raise ConfigurationError(f"{file} is not a file; give a file written with --trace-file")
    total = failed = 0
    for total, trace in enumerate(read_jsonl(file), start=1):
        differences = differences_of(trace)
        failed += bool(differences)
        for difference in differences[:SHOWN]:
            typer.echo(f"{file}:{total}: {difference}", err=True)
    if failed:
        raise TraceError(f"{failed} of {total} traces in {file} do not replay")
    typer.echo(f"{total} traces replay")
