"""``stars-guard eval``: methods compared on tasks, with costs beside every quality."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stars_guard.cli.eval_options import SMOKE, PlaceOptions, ReportOptions
from stars_guard.cli.groups import grouped
from stars_guard.errors import ConfigurationError, needs_extra


@grouped
def eval_command(
    place: PlaceOptions,
    report: ReportOptions,
    config: Annotated[
        Path | None, typer.Argument(help="YAML or TOML file that says what is compared.", show_default=False)
    ] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="A small evaluation of the embedded models: a minute.")
    ] = False,
    output: Annotated[
        Path, typer.Option(help="Folder that receives everything; a run that was cut off goes on in it.")
    ] = Path("evaluation"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the main figures as one JSON object.")
    ] = False,
) -> None:
    """Compare ways to answer: harm, usefulness and costs, each figure with its interval.

    report.html in the output folder shows everything.
    """
    source = _source(config, smoke, report.report_only)
    _check_installed()
    # What evaluates needs more packages than other commands, which must start without them.
    from stars_guard.cli.eval_run import compared_and_reported, finish

    made = compared_and_reported(source, output, place, report)
    finish(made, output, as_json, power=report.power)


def _source(config: Path | None, smoke: bool, report_only: bool) -> Path | None:
    """The file of the evaluation; None where a report is made of what is there."""
    if config is not None and smoke:
        raise ConfigurationError("give either a file that says what is compared, or --smoke")
    if config is None and not smoke and not report_only:
        raise ConfigurationError("give a file that says what is compared, --smoke, or --report-only")
    return SMOKE if smoke else config


def _check_installed() -> None:
    """Say now, and not after hours, what the report lacks."""
    for package in ("jinja2", "matplotlib", "yaml"):
        with needs_extra("eval", package):
            __import__(package)
