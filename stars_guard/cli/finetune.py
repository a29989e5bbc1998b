"""``stars-guard finetune``: train a model on preferences, to compare it with a guarded one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from stars_guard.cli.groups import grouped
from stars_guard.cli.options import make_folder
from stars_guard.cli.train import log_progress
from stars_guard.errors import needs_extra


@dataclass(frozen=True)
class FinetuneOptions:
    """How to train: fields of the settings of a fine-tuning; None: as they are there."""

    model: Annotated[
        Path | None, typer.Option(help="Folder of the base; the embedded model if not given.")
    ] = None
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps; 100 by default.")] = None
    batch: Annotated[int | None, typer.Option(min=1, help="Rows in a step; 4 by default.")] = None
    learning_rate: Annotated[
        float | None, typer.Option(help="At its peak; 2e-4 for sft, 1e-4 for dpo by default.")
    ] = None
    max_tokens: Annotated[
        int | None, typer.Option(min=8, help="Longest row, prompt included; 256 by default.")
    ] = None
    rank: Annotated[int | None, typer.Option(min=1, help="Rank of the adapter; 16 by default.")] = None
    beta: Annotated[float | None, typer.Option(help="dpo: cost of leaving the base; 0.1 by default.")] = None
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of first weights and order; 0 by default.")
    ] = None


@grouped
def finetune_command(
    method: Annotated[
        Literal["sft", "dpo"], typer.Option(help="sft learns the chosen answers; dpo prefers them.")
    ],
    data: Annotated[
        str,
        typer.Option(
            metavar="FILE|FOLDER|NAME",
            help="Preferences: a .jsonl file, a folder of datasets, or hh-harmless, which is built in.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="Folder that receives the model.")],
    options: FinetuneOptions,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Fine-tune a language model on preferences: LoRA by trl and peft, merged into an ordinary folder.

    Rows are trl's, {"prompt": ..., "chosen": ..., "rejected": ...} with texts or chat turns, as
    export-preferences writes them; or pairs as HH-RLHF has them, with messages in place of prompt and two
    texts.
    """
    with needs_extra("finetune"):
        from stars_guard.training.finetune import FinetuneConfig, finetune

    given = {name: value for name, value in asdict(options).items() if value is not None}
    config = FinetuneConfig(method=method, data=data, output=output, **given)
    make_folder(output)
    log_progress()
    summary = finetune(config)
    if as_json:
        typer.echo(summary.model_dump_json())
        return
    typer.echo(
        f"{summary.method} of {summary.rows} rows in {summary.folder}: loss {summary.first_loss:.3f}, then "
        f"{summary.last_loss:.3f}; {summary.left_out} rows left out; {summary.seconds:.0f} s"
    )
