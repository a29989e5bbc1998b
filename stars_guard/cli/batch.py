"""``stars-guard batch``: a file of prompts in, a file of answers out."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import typer
from pydantic import BaseModel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from stars_guard.algorithm.acceptance import AcceptanceKey
from stars_guard.algorithm.advice import Advice, advice_on
from stars_guard.batch.answers import Done
from stars_guard.batch.keys import key_beside
from stars_guard.batch.manifest import Manifest
from stars_guard.batch.ray import answers_on_ray
from stars_guard.batch.rows import Row, read_rows
from stars_guard.batch.runner import answers_here
from stars_guard.batch.storage import Existing, Output
from stars_guard.cli.build import load_wanted
from stars_guard.cli.exit_codes import FAILED
from stars_guard.cli.groups import grouped
from stars_guard.cli.options import GuardOptions, LimitOptions, ModelOptions, SamplingOptions
from stars_guard.cli.screen import notes, show_advice
from stars_guard.cli.wanted import wanted_guard
from stars_guard.errors import ConfigurationError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading.secrets import acceptance_key

Place: TypeAlias = Literal["local", "ray"]
LoadGuard: TypeAlias = Callable[[], StarsGuardedLLM]
Answering: TypeAlias = Generator[Done, None, None]


@dataclass(frozen=True)
class RunOptions:
    """Where the rows are answered, and how many at the same time."""

    on: Annotated[
        Place, typer.Option(metavar="PLACE", help="local, or ray for the machines of a cluster.")
    ] = "local"
    in_flight: Annotated[int, typer.Option(min=1, help="Rows answered at the same time; by each worker.")] = (
        16
    )
    ray_address: Annotated[
        str | None, typer.Option(help="Ray cluster; without it, one is started on this machine.")
    ] = None
    workers: Annotated[
        int, typer.Option(min=1, help="With --on ray: guards, each with models of its own.")
    ] = 1
    block: Annotated[int, typer.Option(min=1, help="With --on ray: rows that a worker takes at once.")] = 32


@dataclass(frozen=True)
class FileOptions:
    """What is kept, and what becomes of what is there."""

    traces: Annotated[Path | None, typer.Option(help="Also write every row's trace to this file.")] = None
    existing: Annotated[
        Existing,
        typer.Option(
            metavar="WHAT",
            help="An output that is there: resume if it is of the same batch, keep its rows anyway, replace.",
        ),
    ] = "resume"
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Answer rows again that ended with an error.")
    ] = False


class BatchSummary(BaseModel):
    """What a run did; the object that ``--json`` prints."""

    output: str
    rows: int
    """Rows in the input."""
    found: int
    """Rows that were over before this run."""
    answered: int = 0
    """Rows answered in this run, refusals included."""
    refused: int = 0
    """Rows of this run that were refused."""
    failed_now: int = 0
    """Rows of this run that ended with an error."""
    failed: int = 0
    """Rows of the whole output that ended with an error."""
    kept_tokens: int = 0
    """Tokens of this run's answers."""
    proposed_tokens: int = 0
    """Tokens drawn for them, kept or not."""
    advised: int = 0
    """Answers of this run that give advice on the settings."""
    advice: Advice | None = None
    """Advice of the first of them."""
    seconds: float = 0.0

    def count(self, done: Done) -> None:
        """A row of this run is over."""
        answer, advice = done.answer, None if done.trace is None else advice_on(done.trace)
        self.advised += advice is not None
        self.advice = self.advice or advice
        self.failed_now += answer.error is not None
        self.answered += answer.error is None
        self.refused += answer.refused is True
        if answer.usage is not None:
            self.kept_tokens += answer.usage.kept_tokens
            self.proposed_tokens += answer.usage.proposed_tokens


@grouped
def batch_command(
    source: Annotated[
        Path, typer.Option("--input", help='JSONL with "prompt" or "messages", and "id", "seed", "sampling".')
    ],
    output: Annotated[Path, typer.Option(help="JSONL of answers; gone on with if it is there.")],
    models: ModelOptions,
    guard: GuardOptions,
    sampling: SamplingOptions,
    limits: LimitOptions,
    files: FileOptions,
    run: RunOptions,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first row that ends with an error.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as one JSON object.")] = False,
) -> None:
    """Answer every row of a file, once each; a run that was cut off goes on where it stopped."""
    _check_paths(source, output, files.traces)
    asked = wanted_guard(models, guard, sampling, limits)
    asked = replace(asked, sampling=asked.sampling.changed(seed=asked.sampling.seed or 0))
    rows = sum(1 for _ in read_rows(source))  # a row that is wrong is found now, not in the middle
    key = acceptance_key() or key_beside(output)
    wanted = Manifest.of(source, asked.named, asked.config, asked.sampling, asked.budget, key)
    begun = time.monotonic()
    with Output(
        output, files.traces, wanted, existing=files.existing, retry_errors=files.retry_errors
    ) as kept:
        tally = BatchSummary(output=str(output), rows=rows, found=len(kept.ids))
        todo = (row for row in read_rows(source) if row.id not in kept.ids)
        if rows > tally.found:
            load = partial(load_wanted, asked)
            _answer(_PLACES[run.on](load, todo, run, key), kept, tally, fail_fast)
        tally.failed = kept.failed
    tally.seconds = time.monotonic() - begun
    _finish(tally, as_json)


def _answer(over: Answering, kept: Output, tally: BatchSummary, fail_fast: bool) -> None:
    """Write down what comes, and say how far it is; Ctrl-C leaves an output that can be gone on with."""
    with closing(over), _progress() as progress:
        bar = progress.add_task("answering", total=tally.rows, completed=tally.found)
        try:
            for done in over:
                if kept.write(done):
                    tally.count(done)
                    progress.advance(bar)
                if fail_fast and done.answer.error is not None:
                    return
        except KeyboardInterrupt:
            notes().print(f"stopped after {len(kept.ids)} of {tally.rows} rows; the same command goes on")
            raise


def _progress() -> Progress:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=notes())


def _here(load: LoadGuard, rows: Iterable[Row], run: RunOptions, key: AcceptanceKey) -> Answering:
    return answers_here(load(), rows, run.in_flight, key)


def _on_ray(load: LoadGuard, rows: Iterable[Row], run: RunOptions, key: AcceptanceKey) -> Answering:
    return answers_on_ray(
        load,
        rows,
        address=run.ray_address,
        concurrency=run.workers,
        batch_size=run.block,
        in_flight=run.in_flight,
        acceptance_key=key,
    )


_PLACES: dict[Place, Callable[[LoadGuard, Iterable[Row], RunOptions, AcceptanceKey], Answering]] = {
    "local": _here,
    "ray": _on_ray,
}


def _finish(tally: BatchSummary, as_json: bool) -> None:
    if as_json:
        typer.echo(tally.model_dump_json())
    else:
        done = tally.found + tally.answered + tally.failed_now
        notes().print(
            f"{done} of {tally.rows} rows in {tally.output}: {tally.found} found, {tally.answered} answered "
            f"({tally.refused} refused), {tally.failed} failed; {tally.seconds:.1f} s"
        )
        show_advice(tally.advice)
    if tally.failed:
        raise typer.Exit(FAILED)


def _check_paths(source: Path, output: Path, traces: Path | None) -> None:
    if not source.is_file():
        raise ConfigurationError(f"--input {source} is not a file; give one with a JSON object a line")
    for flag, path in (("--output", output), ("--traces", traces)):
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise ConfigurationError(f"{flag} {path} cannot be written: give a file in an existing folder")
    paths = [path.resolve() for path in (source, output, traces) if path is not None]
    if len(set(paths)) < len(paths):
        raise ConfigurationError("--input, --output and --traces must be different files")
