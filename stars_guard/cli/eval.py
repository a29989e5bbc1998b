"""``stars-guard eval``: methods compared on tasks, with costs beside every quality."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from stars_guard.batch.processes import WorkerProcesses
from stars_guard.cli.eval_screen import print_report
from stars_guard.cli.exit_codes import FAILED
from stars_guard.cli.groups import grouped
from stars_guard.cli.options import make_folder
from stars_guard.cli.screen import notes
from stars_guard.errors import ConfigurationError, needs_extra
from stars_guard.evaluation.cells import AnswerRows, here, on_cluster
from stars_guard.evaluation.config import EvalPlan
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.results import Results
from stars_guard.evaluation.run import evaluate

if TYPE_CHECKING:
    from stars_guard.evaluation.reporting.page import AnswersOf
    from stars_guard.evaluation.reporting.record import EvaluationReport

SMOKE = Path(__file__).parent.parent / "evaluation" / "configs" / "smoke.yaml"
"""A small evaluation of the embedded models."""
EvalPlace: TypeAlias = Literal["local", "ray"]


class Bars:
    """A progress bar on stderr, the same for one stage after the other.

    Args:
        progress: shows it.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bar: TaskID | None = None

    def begin(self, stage: str, total: int) -> None:
        """A stage begins, of so many steps, and takes the place of the one before."""
        if self._bar is not None:
            self._progress.remove_task(self._bar)
        self._bar = self._progress.add_task(stage, total=total)

    def advance(self) -> None:
        """A step of it is over."""
        if self._bar is not None:
            self._progress.advance(self._bar)


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


@grouped
def eval_command(
    place: PlaceOptions,
    report: ReportOptions,
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
    """Compare ways to answer: harm, usefulness and costs, each figure with its interval.

    report.html in the output folder shows everything.
    """
    source = _source(config, smoke, report.report_only)
    plan = None if source is None else EvalPlan.of_file(source)
    _check_installed()
    make_folder(output)
    if plan is not None and not report.report_only:
        _evaluate(plan, output, place)
    made = _reported(plan, source, output, report, place)
    _finish(made, output, as_json, power=report.power)


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


def _evaluate(plan: EvalPlan, output: Path, place: PlaceOptions) -> None:
    try:
        with _bars() as bars, _ANSWERING[place.on](place) as answer:
            evaluate(plan, output, answer=answer, watcher=bars)
    except KeyboardInterrupt:
        notes().print("stopped; the same command goes on where it was")
        raise


@contextmanager
def _bars() -> Iterator[Bars]:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=notes(), transient=True) as progress:
        yield Bars(progress)


def _here(place: PlaceOptions) -> AbstractContextManager[AnswerRows]:
    return nullcontext(here) if place.workers == 1 else WorkerProcesses(place.workers)


def _on_ray(place: PlaceOptions) -> AbstractContextManager[AnswerRows]:
    return nullcontext(partial(on_cluster, place.ray_address, place.workers))


_ANSWERING: dict[EvalPlace, Callable[[PlaceOptions], AbstractContextManager[AnswerRows]]] = {
    "local": _here,
    "ray": _on_ray,
}


def _reported(
    plan: EvalPlan | None, source: Path | None, output: Path, report: ReportOptions, place: PlaceOptions
) -> EvaluationReport:
    """The report of what is in the folder, written down."""
    from stars_guard.evaluation.reporting.files import write_evaluation_report
    from stars_guard.evaluation.reporting.page import no_answers
    from stars_guard.evaluation.reporting.record import report_of
    from stars_guard.evaluation.reporting.results_page import publish

    folder = EvalFolder(output)
    if not folder.results.exists():
        raise ConfigurationError(f"{folder.results} is not there; run the evaluation first")
    with notes().status("reporting"):
        made = report_of(output, name=_name(source, output), command=_command(source, output, place))
        answers = _answers(plan, output, made.results) if report.show_answers else no_answers
        write_evaluation_report(made, output, answers)
        if report.publish is not None:
            publish(made, report.publish)
    return made


def _answers(plan: EvalPlan | None, output: Path, results: Results) -> AnswersOf:
    from stars_guard.evaluation.reporting.page import answers_in

    there = EvalFolder(output).results
    return answers_in(output, plan or EvalPlan.found_at(str(there), results.evaluation))


def _name(source: Path | None, output: Path) -> str:
    return source.stem if source else output.resolve().name


def _command(source: Path | None, output: Path, place: PlaceOptions) -> str:
    """The command that makes the evaluation anew."""
    asked = ["--report-only"] if source is None else ["--smoke"] if source == SMOKE else [source.as_posix()]
    where = ["--on", place.on] if place.on != "local" else []
    workers = ["--workers", str(place.workers)] if place.workers > 1 else []
    return shlex.join(["stars-guard", "eval", *asked, "--output", output.as_posix(), *where, *workers])


def _finish(report: EvaluationReport, output: Path, as_json: bool, *, power: bool) -> None:
    results = report.results
    if as_json:
        typer.echo(json.dumps({"rows": [row.model_dump() for row in results.rows]}))
    else:
        print_report(report, power=power)
        typer.echo(f"report in {output / 'report.html'}")
    errors = sum(result.errors for result in results.methods)
    if errors:
        notes().print(f"{errors} rows ended with an error and count nowhere; see {output / 'answers'}")
        raise typer.Exit(FAILED)
