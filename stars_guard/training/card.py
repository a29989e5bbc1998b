"""The record of a run, and the model card that is written from it and from held-out measures."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from stars_guard.errors import ConfigurationError
from stars_guard.rewards.classifiers.probe import is_probe
from stars_guard.training.data import TrainingSet
from stars_guard.training.evaluate import Evaluation, Measure
from stars_guard.training.sources import SOURCES

HEADINGS = {
    "jailbreakbench": "JailbreakBench (other behaviours)",
    "xstest_completions": "XSTest completions (other prompts, shared templates)",
    "beavertails": "BeaverTails (evaluation only)",
    "hh_harmless_pairs": "HH-RLHF harmless",
    "diasafety": "DiaSafety",
    "hatecheck": "HateCheck, as answers to harmless questions (evaluation only)",
    "pyrit": "PyRIT's scored answers (other requests)",
}
"""Names of the held-out sets in the card's table."""


def write_run(folder: Path, settings: Mapping[str, Any], data: TrainingSet, seconds: float) -> None:
    """Write ``run.json``: what a run consisted of, without machine paths.

    Args:
        folder: where it goes; must be there.
        settings: of the run, fit for JSON.
        data: what it was trained on.
        seconds: that it took.
    """
    run = {
        "config": settings,
        "answers": dict(data.rows),
        "pairs": len(data.preferences),
        "seconds": round(seconds),
    }
    (folder / "run.json").write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")


def write_value_run(
    folder: Path,
    start: Mapping[str, Any],
    settings: Mapping[str, Any],
    answers: Mapping[str, int],
    seconds: float,
) -> None:
    """Write ``run.json`` of a probe that was trained on: the run of its start, and what came after.

    Args:
        folder: where it goes; must be there.
        start: the run of the probe that went on, by :func:`read_run`.
        settings: of the run, fit for JSON.
        answers: how many were drawn for prompts of each source.
        seconds: that it took, beside the start's.
    """
    values = {"config": settings, "answers": dict(answers), "seconds": round(seconds)}
    (folder / "run.json").write_text(
        json.dumps({**start, "values": values}, indent=2) + "\n", encoding="utf-8"
    )


def write_card(folder: Path, evaluation: Evaluation) -> None:
    """Write ``README.md`` and ``metrics.json`` beside the ``run.json`` of an adapter or a probe.

    Raises ``ConfigurationError`` if ``folder`` was not written by ``train`` or ``train_probe``.
    """
    if is_probe(folder):
        tables = {name: _table(folder, name) for name in ("curve", "forecasts")}
        _fill(folder, "probe_card.md", evaluation, **tables, values=_values(read_run(folder)))
    else:
        _fill(folder, "card.md", evaluation)


def write_judge_card(folder: Path, evaluation: Evaluation, independence: str) -> None:
    """Write ``README.md`` and ``metrics.json`` of the judge of harm.

    Args:
        folder: of its adapter, as ``train`` wrote it.
        evaluation: its held-out measures.
        independence: Markdown table of how far its scores are its own.

    Raises:
        ConfigurationError: ``folder`` is none of ``train``.
    """
    _fill(folder, "judge_card.md", evaluation, independence=independence)


def _fill(folder: Path, template: str, evaluation: Evaluation, **more: str) -> None:
    run = read_run(folder)
    text = Template((resources.files(__package__) / template).read_text(encoding="utf-8")).substitute(
        more,
        measures=measures_table(evaluation),
        sources=sources_table(run["answers"]),
        pairs=run["pairs"],
        settings=settings_table(run["config"]),
        minutes=round(run["seconds"] / 60),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")
    figures = {"run": run, "measures": [_clean(measure) for measure in evaluation.measures]}
    (folder / "metrics.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def read_run(folder: Path) -> dict[str, Any]:
    """The record that a run left.

    Raises:
        ConfigurationError: there is none.
    """
    record = folder / "run.json"
    if not record.is_file():
        raise ConfigurationError(f"no run.json in {folder}: pass the folder that train() returned")
    run: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    return run


def _table(folder: Path, name: str) -> str:
    measured = folder / f"{name}.md"
    return measured.read_text(encoding="utf-8").strip() if measured.is_file() else "Not measured."


def _values(run: Mapping[str, Any]) -> str:
    """What the training on as a value consisted of, if there was one."""
    if "values" not in run:
        return "It was not trained on as a value (`train-value`)."
    values = run["values"]
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(values["answers"].items()))
    drawn = sum(values["answers"].values())
    return (
        f"Values are of {drawn} answers ({kinds}), drawn by `values`. "
        f"{round(values['seconds'] / 60)} minutes more. Settings: {settings_table(values['config'])}."
    )


def measures_table(evaluation: Evaluation) -> str:
    """A Markdown table: one line per set and figure, one column per length."""
    lengths = list(dict.fromkeys(measure.tokens for measure in evaluation.measures))
    heads = ["whole answer" if tokens is None else f"{tokens} tokens" for tokens in lengths]
    lines = [f"| set | figure | answers | {' | '.join(heads)} |", "|---|---|---" + "|---" * len(heads) + "|"]
    row_counts = {(m.dataset, m.name): m.rows for m in evaluation.measures}
    for (dataset, name), rows in row_counts.items():
        values = [f"{evaluation.value(dataset, name, tokens):.3f}" for tokens in lengths]
        lines.append(f"| {HEADINGS.get(dataset, dataset)} | {name} | {rows} | {' | '.join(values)} |")
    return "\n".join(lines)


def sources_table(answers: Mapping[str, int]) -> str:
    """A Markdown table of the training sets, their licences and the answers taken from each."""
    lines = ["| set | answers | licence | what |", "|---|---|---|---|"]
    for name, count in answers.items():
        title, licence, what = SOURCES.get(name, (name, "unknown", "labelled answers"))
        lines.append(f"| {title} | {count} | {licence} | {what} |")
    return "\n".join(lines)


def settings_table(config: Mapping[str, Any]) -> str:
    """The settings of the run, ``name value``, separated by commas."""
    return ", ".join(f"`{name}` {value}" for name, value in config.items() if name != "base_name")


def _clean(measure: Measure) -> dict[str, Any]:
    row = asdict(measure)
    return row | {"value": None if math.isnan(measure.value) else round(measure.value, 4)}
