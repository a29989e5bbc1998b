"""``stars-guard train-reward``: train a reward model like the embedded one."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel, TypeAdapter
from rich.console import Console
from rich.table import Table

from stars_guard.cli.screen import notes
from stars_guard.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from stars_guard.training.evaluate import Evaluation
    from stars_guard.training.train import TrainingConfig


class Figure(BaseModel):
    """One held-out figure: ``name`` on ``dataset`` after ``tokens`` response tokens (None: at the end)."""

    dataset: str
    name: str
    tokens: int | None
    value: float
    """NaN (null in JSON) where the set is too small to say."""
    rows: int


class TrainingSummary(BaseModel):
    """What a training run made; the object that ``--json`` prints."""

    adapter: str
    """Folder of the adapter."""
    seconds: float
    """Training and measuring."""
    figures: list[Figure]
    """Held-out figures; empty when the data has no folder ``eval``."""


def train_reward(
    data: Annotated[Path, typer.Option(help="Folder with train/*.jsonl, and eval/*.jsonl to measure on.")],
    output: Annotated[Path, typer.Option(help="Folder that receives the adapter.")],
    contrast: Annotated[Path | None, typer.Option(help="File of contrastive answers.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of data order and initial weights.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Train a harmlessness reward model on DATA/train and measure it on DATA/eval."""
    if not (data / "train").is_dir():
        raise ConfigurationError(f"--data {data} has no folder 'train'; give the folder with train/*.jsonl")
    config = _config(data_dir=data, output=output, contrast=contrast, steps=steps, seed=seed)
    _log_progress()
    summary = _trained(config, data)
    if as_json:
        typer.echo(summary.model_dump_json())
        return
    if summary.figures:
        Console(highlight=False).print(_table(summary))
    typer.echo(f"adapter in {summary.adapter}, {summary.seconds:.0f} s")


def _config(**values: object) -> TrainingConfig:
    try:
        from stars_guard.training.train import TrainingConfig
    except ImportError as error:
        raise MissingExtraError(str(error.name), "train") from error
    return TrainingConfig.model_validate({name: value for name, value in values.items() if value is not None})


def _trained(config: TrainingConfig, data: Path) -> TrainingSummary:
    from stars_guard.training.train import train

    begun = time.monotonic()
    adapter = train(config)
    figures = _figures(_measured(adapter, data)) if (data / "eval").is_dir() else []
    return TrainingSummary(adapter=str(adapter), seconds=time.monotonic() - begun, figures=figures)


def _measured(adapter: Path, data: Path) -> Evaluation:
    from stars_guard.embedded.merge import merge_adapter
    from stars_guard.training.evaluate import evaluate
    from stars_guard.training.train import installed_base

    with tempfile.TemporaryDirectory() as merged:
        merge_adapter(installed_base(), adapter, Path(merged))
        return evaluate(Path(merged), data)


def _figures(evaluation: Evaluation) -> list[Figure]:
    return TypeAdapter(list[Figure]).validate_python(evaluation.measures, from_attributes=True)


def _table(summary: TrainingSummary) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for heading in ("set", "figure", "tokens", "value", "answers"):
        table.add_column(heading, justify="left" if heading in ("set", "figure") else "right")
    for one in summary.figures:
        tokens = "all" if one.tokens is None else str(one.tokens)
        table.add_row(one.dataset, one.name, tokens, f"{one.value:.3f}", str(one.rows))
    return table


def _log_progress() -> None:
    """Show the training's own log lines on stderr."""
    console = notes()

    class _Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            console.print(record.getMessage(), style="dim", markup=False)

    log = logging.getLogger("stars_guard.training")
    log.setLevel(logging.INFO)
    log.addHandler(_Lines())
