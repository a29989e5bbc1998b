"""``stars-guard train-reward``: train a reward model like the embedded one."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer
from pydantic import BaseModel, TypeAdapter
from rich.console import Console
from rich.table import Table

from stars_guard.cli.groups import grouped
from stars_guard.cli.options import make_folder
from stars_guard.cli.screen import notes
from stars_guard.errors import ConfigurationError, needs_extra
from stars_guard.loading.names import model_spec
from stars_guard.loading.specs import EngineInProcess, EngineServer
from stars_guard.loading.states import layer_numbers, written_states
from stars_guard.training.plain import SUFFIXES

if TYPE_CHECKING:
    from stars_guard.training.evaluate import Evaluation


RewardKind: TypeAlias = Literal["encoder", "probe"]


class HeldOutFigure(BaseModel):
    """One held-out figure: ``name`` on ``dataset`` after ``tokens`` response tokens (None: at the end)."""

    dataset: str
    name: str
    tokens: int | None
    value: float
    """NaN (null in JSON) where the set is too small to say."""
    rows: int


class TrainingSummary(BaseModel):
    """What a training run made; the object that ``--json`` prints."""

    kind: RewardKind
    """What was trained."""
    folder: str
    """Where it is."""
    seconds: float
    """Training and measuring."""
    figures: list[HeldOutFigure]
    """Held-out figures; empty when the data has no folder ``eval``."""


@dataclass(frozen=True)
class ReadOptions:
    """The language model of a probe, and what is read of it."""

    model: Annotated[
        str | None,
        typer.Option(
            help="Probe: folder or hub id of its language model, or vllm@URL or vllm:FOLDER_OR_ID; the "
            "embedded one if not given."
        ),
    ] = None
    tokenizer: Annotated[
        str | None, typer.Option(help="Probe: folder or hub id of the tokenizer of a --model in vLLM.")
    ] = None
    states: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER:LAYERS",
            help="Probe: where a vLLM server writes hidden states, and of which layers: "
            "/dev/shm/states:0,15,18.",
        ),
    ] = None
    layers: Annotated[
        str | None, typer.Option(metavar="LAYERS", help="Probe: layers that it reads, such as 15,18,22.")
    ] = None


@grouped
def train_command(
    data: Annotated[
        Path,
        typer.Option(
            metavar="FILE|FOLDER",
            help="Labelled answers, as above: a .jsonl or .csv file, or a folder.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder that receives the reward model.")],
    read: ReadOptions,
    kind: Annotated[
        RewardKind,
        typer.Option(help="A text encoder's adapter, or a probe of the language model's own hidden states."),
    ] = "encoder",
    contrast: Annotated[Path | None, typer.Option(help="File of contrastive answers.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Encoder: optimiser steps.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of data order and initial weights.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Train a harmlessness reward model on labelled answers, and measure it on others.

    The data are rows with three fields, one JSON object a line:

    {"prompt": "How do I ...?", "response": "First, ...", "unsafe": true}

    or a CSV file with the columns prompt,response,unsafe. unsafe is true or false, or a probability from 0
    to 1. Of a single file, a tenth of the prompts is not trained on, but measured on. A folder has files to
    train on in train/, and files to measure on in eval/.
    """
    _check_data(data)
    options: dict[str, Any] = {"contrast": contrast, "seed": seed, "steps": steps, **asdict(read)}
    given = {name: value for name, value in options.items() if value is not None}
    _check_kind(kind, given)
    given = _with_model(given)
    make_folder(output)
    log_progress()
    begun = time.monotonic()
    with needs_extra("train"):
        figures = list(_KINDS[kind]({"data_dir": data, "output": output, **given}))
    seconds = time.monotonic() - begun
    summary = TrainingSummary(kind=kind, folder=str(output), seconds=seconds, figures=figures)
    if as_json:
        typer.echo(summary.model_dump_json())
        return
    if summary.figures:
        Console(highlight=False).print(_table(summary))
    typer.echo(f"{summary.kind} in {summary.folder}, {summary.seconds:.0f} s")


def _check_data(data: Path) -> None:
    if data.is_file() and data.suffix not in SUFFIXES:
        raise ConfigurationError(f"--data {data} is neither .jsonl nor .csv; name the file by what it is")
    if not data.is_file() and not (data / "train").is_dir():
        raise ConfigurationError(
            f"--data {data} is no file and has no folder 'train'; give a .jsonl or .csv file of rows with "
            "prompt, response and unsafe, or a folder with such files in train/"
        )


def _check_kind(kind: RewardKind, given: Mapping[str, Any]) -> None:
    for name, owner in _OWNERS.items():
        if name in given and kind != owner:
            raise ConfigurationError(f"--{name} is for --kind {owner}, not for {kind}; leave it out")


def _with_model(given: dict[str, Any]) -> dict[str, Any]:
    """The options with the language model described, where an engine has it, and its layers as numbers.

    Raises:
        ConfigurationError: an option does not fit the model.
    """
    others = {name: value for name, value in given.items() if name not in ("tokenizer", "states")}
    if "layers" in given:
        others["layers"] = layer_numbers("--layers", given["layers"])
    spec = model_spec(given.get("model"))
    told: dict[str, Any] = {name: given[name] for name in ("tokenizer", "states") if name in given}
    if "states" in told:
        told["states"] = written_states(given["states"])
    if isinstance(spec, EngineInProcess):
        told["hidden_layers"] = others.get("layers", ())
    if told and not isinstance(spec, EngineServer | EngineInProcess):
        raise ConfigurationError(f"--{' and --'.join(told)} are for a --model in vLLM; leave them out")
    if "states" in told and isinstance(spec, EngineInProcess):
        raise ConfigurationError("--states is for a server; say --layers for an engine in this process")
    return {**others, "model": spec.changed(**told)} if told else others


def _encoder(given: dict[str, Any]) -> Iterator[HeldOutFigure]:
    from stars_guard.embedded.merge import merge_adapter
    from stars_guard.training.evaluate import evaluate_model
    from stars_guard.training.train import TrainingConfig, installed_base, train

    config = TrainingConfig(**given)
    adapter = train(config)
    if _held_out(config.data_dir):
        with tempfile.TemporaryDirectory() as merged:
            merge_adapter(installed_base(), adapter, Path(merged))
            yield from _figures(evaluate_model(Path(merged), config.data_dir))


def _probe(given: dict[str, Any]) -> Iterator[HeldOutFigure]:
    from stars_guard.training.probe import ProbeTraining, measure_probe, train_probe

    config = ProbeTraining(**given)
    folder = train_probe(config)
    if _held_out(config.data_dir):
        yield from _figures(measure_probe(folder, config.data_dir, config.model))


_OWNERS: Mapping[str, RewardKind] = {
    **dict.fromkeys(("model", "tokenizer", "states", "layers"), "probe"),
    "steps": "encoder",
}
"""The options that only one kind has."""
_KINDS: Mapping[RewardKind, Callable[[dict[str, Any]], Iterator[HeldOutFigure]]] = {
    "encoder": _encoder,
    "probe": _probe,
}


def _held_out(data: Path) -> bool:
    return data.is_file() or (data / "eval").is_dir()


def _figures(evaluation: Evaluation) -> list[HeldOutFigure]:
    return TypeAdapter(list[HeldOutFigure]).validate_python(evaluation.measures, from_attributes=True)


def _table(summary: TrainingSummary) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for heading in ("set", "figure", "tokens", "value", "answers"):
        table.add_column(heading, justify="left" if heading in ("set", "figure") else "right")
    for figure in summary.figures:
        tokens = "all" if figure.tokens is None else str(figure.tokens)
        table.add_row(figure.dataset, figure.name, tokens, f"{figure.value:.3f}", str(figure.rows))
    return table


def log_progress() -> None:
    """Show the training's own log lines on stderr."""
    console = notes()

    class _Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            console.print(record.getMessage(), style="dim", markup=False)

    log = logging.getLogger("stars_guard.training")
    log.setLevel(logging.INFO)
    log.addHandler(_Lines())
