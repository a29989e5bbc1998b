"""``python -m stars_guard.training``: make contrastive answers, train, measure, take out prompts."""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path

import typer

from stars_guard import embedded
from stars_guard.embedded.merge import merge_adapter
from stars_guard.loading.parts import load_model
from stars_guard.rewards.classifiers.probe import is_probe
from stars_guard.training.card import write_card, write_judge_card
from stars_guard.training.cascade import LENGTHS as CUTS
from stars_guard.training.cascade import FittedCascade, score_texts, unseen_answers, write_cascade
from stars_guard.training.contrast import write_contrast
from stars_guard.training.curve import curve_table, learning_curve
from stars_guard.training.evaluate import LENGTHS, Evaluation, Scorer, evaluate_model
from stars_guard.training.forecasts import forecast_table, measure_forecasts
from stars_guard.training.independence import TOKENS, compare_scores, independence_table, shipped_scorers
from stars_guard.training.judge import write_judge_data
from stars_guard.training.preference_data import prompt_rows, read_preferences
from stars_guard.training.probe import ProbeTraining, measure_probe, probe_scorer
from stars_guard.training.states import observable_model
from stars_guard.training.train import TrainingConfig, installed_base, train
from stars_guard.training.truncation import truncate_adapter
from stars_guard.training.value_training import ValueTraining, train_values
from stars_guard.training.values import ValueDraws, teacher_of, write_values

commands = typer.Typer(add_completion=False, help=__doc__)


@commands.command()
def contrast(data: Path, chat_model: Path, destination: Path, seed: int = 0) -> None:
    """Let the chat model in CHAT_MODEL write contrastive answers into DESTINATION (JSON Lines)."""
    rows = write_contrast(data, chat_model, destination, seed=seed)
    typer.echo(f"{rows} answers in {destination}")


@commands.command()
def values(
    data: Path,
    probe: Path,
    folder: Path,
    prompts: int = ValueDraws.model_fields["prompts"].default,
    seed: int = ValueDraws.model_fields["seed"].default,
) -> None:
    """Let the embedded model answer DATA/train; write values, by the encoder and PROBE, into FOLDER."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    draws = ValueDraws(prompts=prompts, seed=seed)
    model = observable_model(load_model(None, {}))
    typer.echo(f"{write_values(data, model, teacher_of(probe), folder, draws)} values in {folder}")


@commands.command()
def train_value(
    data: Path,
    values: Path,
    start: Path,
    output: Path,
    answers: int = ValueTraining.model_fields["answers"].default,
    seed: int = ValueTraining.model_fields["seed"].default,
) -> None:
    """Train the probe in START on as a value, by VALUES and DATA/train; write the new probe into OUTPUT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    config = ValueTraining(
        data_dir=data, values=values, start=start, output=output, answers=answers, seed=seed
    )
    typer.echo(f"probe in {train_values(config)}")


@commands.command()
def forecasts(values: Path, folder: Path) -> None:
    """Measure the Bellman error of the probe in FOLDER on fresh VALUES; write FOLDER/forecasts.md."""
    table = forecast_table(measure_forecasts(folder, values))
    (folder / "forecasts.md").write_text(table + "\n", encoding="utf-8", newline="\n")
    typer.echo(f"forecast errors in {folder / 'forecasts.md'}")


@commands.command("train")
def train_encoder(
    data: Path,
    output: Path,
    contrast: Path | None = None,
    steps: int = TrainingConfig.model_fields["steps"].default,
    seed: int = TrainingConfig.model_fields["seed"].default,
) -> None:
    """Train on DATA/train and write the adapter into OUTPUT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    config = TrainingConfig(data_dir=data, output=output, contrast=contrast, steps=steps, seed=seed)
    typer.echo(f"adapter in {train(config)}")


@commands.command()
def prompts(data: str, destination: Path, limit: int = 120, seed: int = 0) -> None:
    """Write prompts of the preferences DATA into DESTINATION, rows of a batch (JSON Lines)."""
    rows = prompt_rows(read_preferences(data), limit, seed)
    lines = (row.model_dump_json(exclude_defaults=True) + "\n" for row in rows)
    destination.write_text("".join(lines), encoding="utf-8", newline="\n")
    typer.echo(f"{len(rows)} prompts in {destination}")


@commands.command()
def judge_data(data: Path, pyrit: Path, output: Path) -> None:
    """Write into OUTPUT what the judge of harm learns from: the wheel PYRIT, and rows of DATA."""
    typer.echo(f"{write_judge_data(data, pyrit, output)} in {output}")


@commands.command()
def card(data: Path, folder: Path) -> None:
    """Measure an adapter, or the embedded model's probe, in FOLDER on DATA/eval; write its model card."""
    write_card(folder, measure_probe(folder, data) if is_probe(folder) else _measured(folder, data))
    typer.echo(f"card in {folder / 'README.md'}")


@commands.command()
def cascade(data: Path, judge_data: Path, folder: Path) -> None:
    """Fit scales and bounds of the embedded cascade on answers of DATA and JUDGE_DATA; write FOLDER."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    probe = probe_scorer(embedded.PROBE, lengths=CUTS)
    encoder = Scorer.from_folder(embedded.harmlessness_reward())
    fitting, checking = score_texts(probe, encoder, unseen_answers(data, judge_data))
    write_cascade(folder, FittedCascade.on(fitting), checking)
    typer.echo(f"cascade in {folder}")


@commands.command()
def truncate(folder: Path, rank: int) -> None:
    """Replace the adapter in FOLDER by the nearest one of a lower RANK."""
    typer.echo(f"{truncate_adapter(folder, rank):.3f} of the change is kept in {folder}")


@commands.command()
def judge_card(data: Path, judge_data: Path, folder: Path) -> None:
    """Measure the judge in FOLDER on DATA/eval and JUDGE_DATA/eval, and write its card."""
    comparisons = compare_scores(shipped_scorers(folder), data, judge_data)
    evaluations = [_measured(folder, place, (TOKENS, None)) for place in (judge_data, data)]
    evaluation = Evaluation(tuple(measure for part in evaluations for measure in part.measures))
    write_judge_card(folder, evaluation, independence_table(comparisons))
    typer.echo(f"card in {folder / 'README.md'}")


@commands.command()
def curve(data: Path, folder: Path, contrast: Path | None = None) -> None:
    """Fit the embedded model's probe on more and more of DATA/train; write FOLDER/curve.md for its card."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    points = learning_curve(ProbeTraining(data_dir=data, output=folder, contrast=contrast))
    (folder / "curve.md").write_text(curve_table(list(points)) + "\n", encoding="utf-8")
    typer.echo(f"curve in {folder / 'curve.md'}")


def _measured(adapter: Path, data: Path, lengths: Sequence[int | None] = LENGTHS) -> Evaluation:
    with tempfile.TemporaryDirectory() as merged:
        merge_adapter(installed_base(), adapter, Path(merged))
        return evaluate_model(Path(merged), data, lengths=lengths, bfloat16=True)


if __name__ == "__main__":
    commands()
