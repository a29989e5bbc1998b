"""A classifier of film reviews: logistic regression on hashed words and pairs of words, in plain numbers."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stars_guard.errors import ConfigurationError, needs_extra
from stars_guard.rewards.base import ScoreRequest
from stars_guard.types import Named, Reward

WEIGHTS = Path(__file__).parent / "reviews.npz"
"""Weights that come with the package; the README beside them is their card."""
BUCKETS = 2**17
"""Hashed words and pairs; few of the pairs in training share a bucket."""
_NEUTRAL = 0.5


def sentiment_features(texts: Sequence[str]) -> Any:
    """Which words and pairs of words each text has: a sparse matrix ``[texts, buckets]`` of rows of length 1.

    Args:
        texts: in any case; both kinds of apostrophe count as one.

    Raises:
        MissingExtraError: scikit-learn is missing.
    """
    with needs_extra("eval", "scikit-learn"):
        from sklearn.feature_extraction.text import HashingVectorizer
    vectorizer = HashingVectorizer(
        n_features=BUCKETS,
        ngram_range=(1, 2),
        alternate_sign=False,
        binary=True,
        norm="l2",
        token_pattern=r"[\w']+|[!?]",
    )
    return vectorizer.transform([text.replace("\u2019", "'") for text in texts])


class SentimentClassifier(Named):
    """The chance that a reader would call an answer positive; 0.5 for an empty one.

    Args:
        weights: of each bucket, a numpy array.
        bias: log-odds of a text without any.
    """

    name = "review sentiment"

    def __init__(self, weights: Any, bias: float) -> None:
        self._weights = weights
        self._bias = bias

    @classmethod
    def load(cls, path: Path) -> SentimentClassifier:
        """The classifier in a file of numpy arrays; nothing in it can be code.

        Raises:
            ConfigurationError: the file holds none.
            MissingExtraError: numpy is missing.
        """
        with needs_extra("eval"):
            import numpy as np
        try:
            with np.load(path, allow_pickle=False) as arrays:
                weights, bias = arrays["weights"].astype("float64"), float(arrays["bias"])
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise ConfigurationError(
                f"{path} holds no sentiment classifier: {type(error).__name__}"
            ) from error
        if weights.shape != (BUCKETS,):
            raise ConfigurationError(f"{path} has weights of shape {weights.shape}, and not {(BUCKETS,)}")
        return cls(weights, bias)

    def save(self, path: Path) -> None:
        """Write it in half precision, where most weights are 0."""
        import numpy as np

        np.savez_compressed(path, weights=self._weights.astype("float16"), bias=np.float32(self._bias))

    def positive(self, texts: Sequence[str]) -> list[float]:
        """The chance that each text is positive."""
        log_odds = sentiment_features(texts) @ self._weights + self._bias
        return [
            _logistic(value) if text.strip() else _NEUTRAL
            for text, value in zip(texts, log_odds, strict=True)
        ]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """One chance a request, of the answer alone."""
        return [Reward(value) for value in self.positive([request.response for request in requests])]

    def release(self, run_id: str) -> None:
        """Does nothing: no answer is cached."""


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value))
