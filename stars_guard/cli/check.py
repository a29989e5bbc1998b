"""``stars-guard check-reward``: run the conformance checks over a reward model."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stars_guard.cli.build import load_reward_alone
from stars_guard.cli.exit_codes import FAILED
from stars_guard.cli.groups import grouped
from stars_guard.cli.options import ModelOptions
from stars_guard.cli.screen import notes
from stars_guard.conformance import CHECKS, Check, ConformanceReport, Result, Status, check_reward
from stars_guard.errors import ConfigurationError

_STYLES = {
    Status.PASSED: "green",
    Status.WARNING: "yellow",
    Status.FAILED: "bold red",
    Status.SKIPPED: "dim",
}


class CheckSummary(BaseModel):
    """What the checks found; the object that ``--json`` prints."""

    reward: str
    """Name of the reward model."""
    ok: bool
    """Whether no check failed."""
    seconds: float
    results: tuple[Result, ...]
    """One per check."""


@grouped
def check_command(
    models: ModelOptions,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Run this check only; may be repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Check a reward model for what a guard relies on; the embedded one if none is given."""
    checks = _chosen(only or [])
    reward = load_reward_alone(models)
    with notes().status(f"checking {reward.name}"):
        report = check_reward(reward, checks=checks)
    if as_json:
        summary = CheckSummary(ok=not report.failed, **dict(report))
        typer.echo(summary.model_dump_json())
    else:
        show(report)
    if report.failed:
        raise typer.Exit(FAILED)


def show(report: ConformanceReport) -> None:
    """The report as a table on stdout."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    for heading in ("check", "result", "found"):
        table.add_column(heading, no_wrap=heading != "found")
    for result in report.results:
        message = Text(result.message)
        if result.remedy:
            message.append(f"\n{result.remedy}", style="italic")
        table.add_row(result.name, Text(result.status, style=_STYLES[result.status]), message)
    console = Console(highlight=False)
    console.print(table)
    console.print(Text(f"{report.reward}: {report.summary}, {report.seconds:.0f} s"))


def _chosen(names: list[str]) -> list[Check]:
    known = {check.__name__: check for check in CHECKS}
    if unknown := [name for name in names if name not in known]:
        raise ConfigurationError(
            f"--only {unknown[0]}: there is no such check; use one of {', '.join(known)}"
        )
    return [known[name] for name in names] or list(CHECKS)
