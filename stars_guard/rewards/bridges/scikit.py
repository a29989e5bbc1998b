"""Classifiers with the interface of scikit-learn as rewards: pipelines over text, or an encoder before them.

The reward is about the event "one of the good classes", with what the classifier knows about it:

=====================  ====================================================  ==============================
method                 reward                                                range
=====================  ====================================================  ==============================
``predict_proba``      log of the good classes' probability over the others'  -30 to 30, clipped
``decision_function``  the best good class's value less the best other's      all numbers; 0 is the border
=====================  ====================================================  ==============================

``predict_proba`` is used where there is one. Forests and neighbours give probabilities of exactly 0 and 1,
whose log-odds are infinite: all log-odds are clipped to 30 either way, a probability of 1e-13.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from stars_guard.errors import ConfigurationError, ScoringError, failures_as
from stars_guard.rewards.base import ScoreRequest
from stars_guard.types import Named, Reward

LARGEST = 30.0
"""Log-odds are clipped to plus and minus this."""
_ROUNDING = 1e-3  # how far the probabilities of all classes may be from a sum of 1

ClassNumbers: TypeAlias = list[float]
"""Numbers of the classifier for one text, in the order of its classes."""
RowReading: TypeAlias = Callable[[ClassNumbers], float]


def answer_text(prompt: str, answer: str) -> str:
    """The answer as the text to be judged."""
    return answer


class _UnusableError(ValueError):
    """What a classifier gave is no row of numbers for each text; says so without quoting any."""


class SklearnReward(Named):
    """A reward from a fitted classifier; higher is safer. The module's text gives the units.

    Any object with ``classes_`` and ``predict_proba`` or ``decision_function`` will do, so those of other
    packages with the same interface too. It should have seen beginnings of texts in training, since that is
    what it is asked about; each call to ``score`` is one call of the classifier.

    Args:
        classifier: fitted; of one label per text.
        good: the class that is good, as it is in ``classes_``, or a list of such classes.
        features: from a list of texts to what the classifier takes: ``encoder.encode`` of a sentence encoder.
            None hands it the texts, as a pipeline with a vectorizer wants them.
        text: from the prompt as plain text and the answer so far to the text that is judged; by default the
            answer only.
        name: for traces and error messages; by default the classifier's class.

    Raises:
        ConfigurationError: it is not fitted or no such classifier, a class is unknown, or a first text cannot
            be scored.

    Example:
        >>> from types import SimpleNamespace
        >>> coin = SimpleNamespace(classes_=[0, 1], predict_proba=lambda texts: [[0.5, 0.5]] * len(texts))
        >>> SklearnReward(coin, good=1, name="coin").name
        'coin'
    """

    def __init__(
        self,
        classifier: Any,
        *,
        good: Any,
        features: Callable[[list[str]], Any] | None = None,
        text: Callable[[str, str], str] = answer_text,
        name: str | None = None,
    ) -> None:
        self.name = name or type(classifier).__name__
        self._classes = _classes(self.name, classifier)
        chosen = _indices(self._classes, good)
        self._features, self._text = features, text
        self._probabilities = hasattr(classifier, "predict_proba")
        if self._probabilities:
            self._judge, self._read = classifier.predict_proba, _log_odds_of(chosen)
        else:
            _check_decisions(self.name, classifier)
            self._judge, self._read = classifier.decision_function, _margin_of(chosen)
        with failures_as(ConfigurationError, f"scoring a first text with {self.name}"):
            self._rewards([self._text("prompt", "answer")])

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """One reward per request, in order; ``components`` has the classifier's number for each class.

        Raises:
            ScoringError: the classifier raised, or gave something that is not one row of numbers per text.
        """
        texts = [self._text(request.prompt.as_text(), request.response) for request in requests]
        with failures_as(ScoringError, f"scoring with {self.name}"):
            try:
                return self._rewards(texts) if texts else []
            except _UnusableError as problem:
                raise ScoringError(f"scoring with {self.name} failed: {problem}") from problem

    def release(self, run_id: str) -> None:
        """Does nothing: no answer is cached."""

    def _rewards(self, texts: list[str]) -> list[Reward]:
        rows = _rows(self._judge(texts if self._features is None else self._features(texts)))
        if len(rows) != len(texts):
            raise _UnusableError(f"{len(rows)} rows for {len(texts)} texts")
        return [self._reward(row) for row in rows]

    def _reward(self, row: ClassNumbers) -> Reward:
        if len(row) != len(self._classes):
            raise _UnusableError(f"{len(row)} numbers for the {len(self._classes)} classes {self._classes}")
        if not all(map(math.isfinite, row)):
            raise _UnusableError("a number that is not finite")
        if self._probabilities and (abs(sum(row) - 1) > _ROUNDING or min(row) < -_ROUNDING):
            raise _UnusableError(
                "no probabilities that sum to 1; a classifier of one label per text is needed"
            )
        return Reward(self._read(row), components=dict(zip(map(str, self._classes), row, strict=True)))


def _classes(name: str, classifier: Any) -> list[Any]:
    with failures_as(ConfigurationError, f"reading classes_ of {name}, which must be a fitted classifier,"):
        # Of numpy's scalars, the plain value, which is what users name.
        return [label.item() if hasattr(label, "item") else label for label in classifier.classes_]


def _indices(classes: list[Any], good: Any) -> set[int]:
    wanted = list(good) if isinstance(good, Iterable) and not isinstance(good, str | bytes) else [good]
    unknown = [label for label in wanted if label not in classes]
    if unknown or not wanted:
        raise ConfigurationError(f"good={good!r}: no such class; the classifier has {classes}")
    chosen = {classes.index(label) for label in wanted}
    if len(chosen) == len(classes):
        raise ConfigurationError(f"good={good!r} names every class of {classes}; leave the bad ones out")
    return chosen


def _check_decisions(name: str, classifier: Any) -> None:
    if not hasattr(classifier, "decision_function"):
        raise ConfigurationError(f"{name} has no predict_proba or decision_function; use a FunctionReward")
    settings = classifier.get_params() if hasattr(classifier, "get_params") else {}
    shapes = [
        key for key, value in settings.items() if key.endswith("decision_function_shape") and value == "ovo"
    ]
    if shapes:
        # With three classes it has three numbers too, but one for each pair of classes.
        raise ConfigurationError(f"{name} compares classes in pairs; fit it with {shapes[0]}='ovr'")


def _rows(matrix: Any) -> list[ClassNumbers]:
    """One row per text; of two classes there is one decision, which is positive for the second."""
    return [[float(value) for value in row] if _is_row(row) else [0.0, float(row)] for row in matrix]


def _is_row(row: Any) -> bool:
    return isinstance(row, Sequence) or getattr(row, "ndim", 0) == 1


def _log_odds_of(chosen: set[int]) -> RowReading:
    def read(row: ClassNumbers) -> float:
        inside, outside = _split(row, chosen)
        good, bad = math.fsum(inside), math.fsum(outside)
        if min(good, bad) <= 0:
            return LARGEST if good > bad else -LARGEST
        return min(max(math.log(good) - math.log(bad), -LARGEST), LARGEST)

    return read


def _margin_of(chosen: set[int]) -> RowReading:
    def read(row: ClassNumbers) -> float:
        inside, outside = _split(row, chosen)
        return max(inside) - max(outside)

    return read


def _split(row: ClassNumbers, chosen: set[int]) -> tuple[ClassNumbers, ClassNumbers]:
    inside = [value for index, value in enumerate(row) if index in chosen]
    outside = [value for index, value in enumerate(row) if index not in chosen]
    return inside, outside
