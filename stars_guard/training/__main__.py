"""``python -m stars_guard.training``: make contrastive answers, train, measure."""

import logging
import tempfile
from pathlib import Path

import typer

from stars_guard.embedded.merge import merge_adapter
from stars_guard.training.card import write_card
from stars_guard.training.contrast import write_contrast
from stars_guard.training.evaluate import evaluate
from stars_guard.training.train import TrainingConfig, installed_base
from stars_guard.training.train import train as run_training

app = typer.Typer(add_completion=False, help=__doc__)


@app.command()
def contrast(data: Path, chat_model: Path, destination: Path, seed: int = 0) -> None:
    """Let the chat model in CHAT_MODEL write contrastive answers into DESTINATION (JSON Lines)."""
    rows = write_contrast(data, chat_model, destination, seed=seed)
    typer.echo(f"{rows} answers in {destination}")


@app.command()
def train(
    data: Path,
    output: Path,
    contrast: Path | None = None,
    steps: int = TrainingConfig.model_fields["steps"].default,
    seed: int = TrainingConfig.model_fields["seed"].default,
) -> None:
    """Train on DATA/train and write the adapter into OUTPUT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    config = TrainingConfig(data_dir=data, output=output, contrast=contrast, steps=steps, seed=seed)
    typer.echo(f"adapter in {run_training(config)}")


@app.command()
def card(data: Path, adapter: Path) -> None:
    """Measure ADAPTER on DATA/eval and write its model card and metrics.json."""
    with tempfile.TemporaryDirectory() as merged:
        merge_adapter(installed_base(), adapter, Path(merged))
        write_card(adapter, evaluate(Path(merged), data, bfloat16=True))
    typer.echo(f"card in {adapter / 'README.md'}")


if __name__ == "__main__":
    app()
