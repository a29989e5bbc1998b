"""The learning curve of a probe: what more training texts would bring."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from stars_guard.loading.parts import load_model
from stars_guard.rewards.classifiers.probe import ProbeHead
from stars_guard.training.data import load
from stars_guard.training.evaluate import Evaluation, evaluate_scorer
from stars_guard.training.probe import (
    Examples,
    ProbeScorer,
    ProbeTraining,
    careful_texts,
    fit_head,
    probe_settings,
    read_examples,
)
from stars_guard.training.states import StateReader

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Shares of the training texts."""
TOKENS = 32
"""Response tokens at which the curve is measured: one segment."""


@dataclass(frozen=True, slots=True)
class Point:
    """A probe fitted on some of the texts."""

    answers: int
    """Labelled answers that it was fitted on."""
    evaluation: Evaluation


def learning_curve(config: ProbeTraining, shares: Sequence[float] = SHARES) -> Iterator[Point]:
    """Fit on each share of the training texts, drawn once and nested, and measure after ``TOKENS`` tokens.

    Raises:
        ConfigurationError: model or data cannot be read.
    """
    model = load_model(config.model, {})
    layers = probe_settings(model, config).layers
    reader = StateReader(model, layers)
    data = load(config.data_dir, contrast=config.contrast, seed=config.seed)
    careful = careful_texts(config.data_dir, config.seed)
    examples = read_examples(StateReader(model, layers, config.prompt_tokens), data, careful)
    scorer = ProbeScorer(reader, ProbeHead(examples.features.shape[-1], config.units), (TOKENS,))
    for share in shares:
        part = some(examples, share, config.seed)
        scorer.head = fit_head(part, with_more_passes(config, share))
        yield Point(len(part.answers), evaluate_scorer(scorer, config.data_dir, lengths=(TOKENS,)))


def some(examples: Examples, share: float, seed: int) -> Examples:
    """The examples on a share of the texts; larger shares contain smaller ones.

    Args:
        examples: all of them.
        share: between 0 and 1.
        seed: of the draw of texts.
    """
    place = torch.rand(len(examples.features), generator=torch.Generator().manual_seed(seed))
    kept = place <= share
    answers = kept[examples.answers]
    return replace(
        examples,
        answers=examples.answers[answers],
        safe=examples.safe[answers],
        pairs=examples.pairs[kept[examples.pairs[:, 0]]],
    )


def with_more_passes(config: ProbeTraining, share: float) -> ProbeTraining:
    """More passes over fewer texts: with as many as over all, few texts would be few steps."""
    return config.changed(passes=max(1, round(config.passes / share**0.5)))


def curve_table(points: Sequence[Point]) -> str:
    """A Markdown table: one line per number of training answers, one column per figure."""
    figures = [(m.dataset, m.name, m.tokens) for m in points[0].evaluation.measures]
    heads = [f"{dataset}: {name}" for dataset, name, _ in figures]
    lines = [f"| answers | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for point in points:
        values = [f"{point.evaluation.value(*figure):.3f}" for figure in figures]
        lines.append(f"| {point.answers} | {' | '.join(values)} |")
    return "\n".join(lines)
