"""``stars-guard export-preferences``: what was accepted and rejected, as a preference data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from stars_guard.algorithm.trace import read_jsonl
from stars_guard.batch.rows import read_rows
from stars_guard.errors import ConfigurationError
from stars_guard.evaluation.cells import read_answers
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.prompts import Prompt
from stars_guard.training.preference_data import write_preferences
from stars_guard.training.preferences import PairLimits, PreferenceFormat, export_rows, prompts_by_run


def export_preferences_command(
    traces: Annotated[
        list[Path], typer.Argument(help="Files of traces, drawn with keep_rejected_text.", show_default=False)
    ],
    output: Annotated[Path, typer.Option(help="A .jsonl file, or a folder of datasets; replaced.")],
    prompts: Annotated[
        Path | None,
        typer.Option(help="What was asked: the input of the batch. Without it: as an evaluation keeps it."),
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            help="Output of the batch, which joins traces and prompts; without it, ids are run ids."
        ),
    ] = None,
    form: Annotated[
        PreferenceFormat, typer.Option("--format", help="Sides as chat turns, or as plain texts.")
    ] = "conversational",
    min_margin: Annotated[float, typer.Option(min=0, help="Least difference of the two rewards.")] = 0.0,
    per_answer: Annotated[
        int | None, typer.Option(min=1, help="Most pairs of one answer: those with the largest margins.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as one JSON object.")] = False,
) -> None:
    """Turn traces into preferences that trl trains on: accepted continuations against rejected ones.

    Both sides of a pair are answers from their beginning to the end of one segment. What was forced or
    withdrawn is on no chosen side.
    """
    for file in traces:
        _check_file(file, "TRACES", "a file written with --traces or --trace-file")
    by_run = _prompts(traces, prompts, answers)
    read = (trace for file in traces for trace in read_jsonl(file))
    rows, count = export_rows(read, by_run, PairLimits(min_margin=min_margin, per_answer=per_answer), form)
    write_preferences(rows, output)
    if as_json:
        typer.echo(count.model_dump_json())
    else:
        typer.echo(
            f"{count.pairs} pairs from {count.paired} of {count.traces} answers in {output}"
            + (f"; the prompts of {count.unknown} are not there" if count.unknown else "")
        )


def _prompts(traces: Sequence[Path], prompts: Path | None, answers: Path | None) -> dict[str, Prompt]:
    if prompts is None:
        if answers is not None:
            raise ConfigurationError("--answers joins traces and --prompts; give both")
        return {run: prompt for file in traces for run, prompt in _of_evaluation(file).items()}
    return _joined(prompts, answers)


def _of_evaluation(traces: Path) -> dict[str, Prompt]:
    """The prompts of a file of traces that lies in the folder of an evaluation."""
    task, method = traces.parent.name, traces.stem
    if traces.parent.parent.name != "traces":
        raise ConfigurationError(
            f"{traces} lies in no folder of an evaluation; give --prompts and --answers, the input and the "
            "output of the batch that was traced"
        )
    folder = EvalFolder(traces.parent.parent.parent)
    return _joined(folder.rows(task, method), folder.answers(task, method))


def _joined(prompts: Path, answers: Path | None) -> dict[str, Prompt]:
    _check_file(prompts, "--prompts", "the input of the batch")
    if answers is None:
        return prompts_by_run(read_rows(prompts), None)
    _check_file(answers, "--answers", "the output of the batch")
    return prompts_by_run(read_rows(prompts), read_answers(answers))


def _check_file(path: Path, flag: str, meaning: str) -> None:
    if not path.is_file():
        raise ConfigurationError(f"{flag} {path} is not a file; give {meaning}")
