"""Training the classifier of film reviews, and what it is worth on reviews that it has not seen.

The weights are those of naive Bayes, corrected by logistic regression (NB-SVM of Wang and Manning, 2012, with
the logistic loss): good on short texts, and a plain linear model when it is done.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stars_guard.evaluation.sentiment.lexicon import LexiconReward
from stars_guard.evaluation.sentiment.linear import WEIGHTS, SentimentClassifier, sentiment_features
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import RewardModel, ScoreRequest, score_checked

SETS = ("sentence_polarity", "movie_reviews")
_STRENGTH = 4.0
"""Inverse penalty of the logistic regression."""
_CARD = Path(__file__).parent / "README.md"
_FIGURES = "<!-- figures -->"


class Labelled(NamedTuple):
    """Texts and whether each is positive."""

    texts: list[str]
    positive: list[bool]


def read_reviews(paths: Sequence[Path]) -> Labelled:
    """The rows of files with ``text`` and ``positive`` in each line."""
    rows = [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines()]
    return Labelled([row["text"] for row in rows], [bool(row["positive"]) for row in rows])


def fitted_classifier(data: Labelled) -> SentimentClassifier:
    """The classifier that a set of texts gives, the same every time."""
    import numpy as np
    from scipy.sparse import diags
    from sklearn.linear_model import LogisticRegression

    features, labels = sentiment_features(data.texts), np.array(data.positive)
    present = (features > 0).astype(float)
    counts = [1 + np.asarray(present[labels == label].sum(axis=0)).ravel() for label in (True, False)]
    positive, negative = (count / count.sum() for count in counts)
    # Buckets that no text falls into keep a ratio that is not quite 0; their weight is 0 all the same.
    ratio = np.log(positive / negative)
    model = LogisticRegression(C=_STRENGTH, max_iter=300).fit(features @ diags(ratio), labels)
    return SentimentClassifier((model.coef_[0] * ratio).round(3), float(model.intercept_[0]))


def accuracy(reward: RewardModel, data: Labelled, border: float) -> float:
    """Share of texts on the right side of a reward's border.

    Args:
        reward: higher is more positive.
        data: texts and labels.
        border: reward over which a text is called positive.
    """
    requests = [ScoreRequest(Prompt.of("Review"), text, finished=True) for text in data.texts]
    called = [reward_of.value > border for reward_of in score_checked(reward, requests)]
    return sum(call == label for call, label in zip(called, data.positive, strict=True)) / len(called)


def train_and_measure(data: Path, weights: Path = WEIGHTS, card: Path = _CARD) -> str:
    """Train on DATA/train, write the weights, measure them on DATA/eval, and put the figures on the card.

    Args:
        data: folder with ``train`` and ``eval``.
        weights: file that receives the weights.
        card: its text over the figures stays.

    Returns:
        The figures, a table in Markdown.
    """
    fitted_classifier(read_reviews([data / "train" / f"{name}.jsonl" for name in SETS])).save(weights)
    figures = _table(data, SentimentClassifier.load(weights))
    text = card.read_text(encoding="utf-8").partition(_FIGURES)[0] if card.exists() else ""
    card.write_text(f"{text}{_FIGURES}\n\n{figures}\n", encoding="utf-8", newline="\n")
    return figures


def _table(data: Path, classifier: SentimentClassifier) -> str:
    lines = ["| held-out set | texts | classifier | VADER |", "|---|---|---|---|"]
    judges: list[tuple[Any, float]] = [(classifier, 0.5), (LexiconReward(), 0.0)]
    for name in SETS:
        rows = read_reviews([data / "eval" / f"{name}.jsonl"])
        shares = " | ".join(f"{accuracy(reward, rows, border):.3f}" for reward, border in judges)
        lines.append(f"| {name} | {len(rows.texts)} | {shares} |")
    return "\n".join(lines)
