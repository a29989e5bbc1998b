"""Options of ``stars-guard eval``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer

SMOKE = Path(__file__).parent.parent / "evaluation" / "configs" / "smoke.yaml"
"""A small evaluation of the embedded models."""
EvalPlace: TypeAlias = Literal["local", "ray"]


@dataclass(frozen=True)
class PlaceOptions:
    """Where rows are answered. Wall time is measured in this process, whatever else is chosen."""

    on: Annotated[
        EvalPlace, typer.Option(metavar="PLACE", help="local, or ray for the machines of a cluster.")
    ] = "local"
    workers: Annotated[
        int, typer.Option(min=1, help="Processes, or workers of the cluster, each with models of its own.")
    ] = 1
    ray_address: Annotated[
        str | None, typer.Option(help="Ray cluster; without it, one is started on this machine.")
    ] = None


@dataclass(frozen=True)
class ReportOptions:
    """What is made of the results."""

    report_only: Annotated[
        bool, typer.Option("--report-only", help="Answer nothing: make the report of what is in --output.")
    ] = False
    show_answers: Annotated[
        bool,
        typer.Option("--show-answers", help="Put prompts and answers, folded, on the page: may be harmful."),
    ] = False
    power: Annotated[
        bool,
        typer.Option("--power", help="Also say how many prompts a difference of two points would need."),
    ] = False
    publish: Annotated[
        Path | None,
        typer.Option(
            metavar="PAGE",
            help="Also write this page of results (Markdown) anew, its records, tables and plots in "
            "docs/results beside it.",
        ),
    ] = None
