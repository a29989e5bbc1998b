"""``stars-guard eval``: methods compared on tasks, with costs beside every quality."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from stars_guard.cli.options import make_folder
from stars_guard.cli.screen import notes
from stars_guard.errors import ConfigurationError
from stars_guard.evaluation.config import EvalPlan
from stars_guard.evaluation.results import Results
from stars_guard.evaluation.run import evaluate
from stars_guard.evaluation.studies.run import study

SMOKE = Path(__file__).parent.parent / "evaluation" / "configs" / "smoke.yaml"
"""A small evaluation of the embedded models."""


class Bars:
    """Progress bars on stderr, one a stage.

    Args:
        progress: shows them.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bar: TaskID | None = None

    def begin(self, stage: str, total: int) -> None:
        """A stage begins, of so many steps."""
        self._bar = self._progress.add_task(stage, total=total)

    def advance(self) -> None:
        """A step of it is over."""
        if self._bar is not None:
            self._progress.advance(self._bar)


def eval_command(
    config: Annotated[
        Path | None, typer.Argument(help="YAML or TOML file that says what is compared.", show_default=False)
    ] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="A small evaluation of the embedded models: two minutes.")
    ] = False,
    output: Annotated[
        Path, typer.Option(help="Folder that receives everything; a run that was cut off goes on in it.")
    ] = Path("evaluation"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the main figures as one JSON object.")
    ] = False,
) -> None:
    """Compare ways to answer: harm, usefulness and costs, each figure with its interval."""
    if (config is None) == (not smoke):
        raise ConfigurationError("give either a file that says what is compared, or --smoke")
    make_folder(output)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=notes()) as progress:
        plan, bars = EvalPlan.of_file(config or SMOKE), Bars(progress)
        results = evaluate(plan, output, watcher=bars)
        study(plan, results, output, bars)
    _finish(results, as_json)


def _finish(results: Results, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"rows": [row.model_dump() for row in results.rows]}))
