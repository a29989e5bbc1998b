"""What ``stars-guard eval`` does once its options are read."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from stars_guard.batch.processes import WorkerProcesses
from stars_guard.cli.eval_options import SMOKE, EvalPlace, PlaceOptions, ReportOptions
from stars_guard.cli.eval_screen import print_report
from stars_guard.cli.exit_codes import FAILED
from stars_guard.cli.options import make_folder
from stars_guard.cli.screen import notes
from stars_guard.errors import ConfigurationError
from stars_guard.evaluation.cells import AnswerRows, here, on_cluster
from stars_guard.evaluation.config import EvalPlan
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.reporting.files import write_evaluation_report
from stars_guard.evaluation.reporting.page import AnswersOf, answers_in, no_answers
from stars_guard.evaluation.reporting.record import EvaluationReport, report_of
from stars_guard.evaluation.reporting.results_page import check_publishable, publish
from stars_guard.evaluation.results import Results
from stars_guard.evaluation.run import evaluate
from stars_guard.evaluation.studies.run import study


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


def compared_and_reported(
    source: Path | None, output: Path, place: PlaceOptions, report: ReportOptions
) -> EvaluationReport:
    """Run an evaluation, unless only its report is wanted, and write the report.

    Args:
        source: file of the evaluation; None where a report is made of what is there.
        output: folder that receives everything.
        place: where rows are answered.
        report: what is made of the results.

    Raises:
        ConfigurationError: the file is wrong, there are no results to report, or the page of results cannot
            be written.
    """
    plan = None if source is None else EvalPlan.of_file(source)
    if not report.report_only:
        make_folder(output)
    if report.publish is not None:
        check_publishable(report.publish, _name(source, output))
    if plan is not None and not report.report_only:
        _evaluate(plan, output, place)
    return _reported(plan, source, output, report, place)


def _evaluate(plan: EvalPlan, output: Path, place: PlaceOptions) -> None:
    try:
        with _bars() as bars, _ANSWERING[place.on](place) as answer:
            study(plan, evaluate(plan, output, answer=answer, watcher=bars), output, bars)
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


def finish(report: EvaluationReport, output: Path, as_json: bool, *, power: bool) -> None:
    """Say what was found, and fail where rows ended with an error.

    Args:
        report: of the evaluation.
        output: its folder.
        as_json: print the main figures as one JSON object, and not as tables.
        power: also say how many prompts a difference of two points would need.
    """
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
