"""VADER, a lexicon of words of feeling with rules for negation and emphasis, as a reward."""

from __future__ import annotations

from collections.abc import Sequence

from stars_guard.errors import needs_extra
from stars_guard.rewards.base import ScoreRequest
from stars_guard.types import Named, Reward


class LexiconReward(Named):
    """VADER's compound score of the answer, from -1 (most negative) to 1.

    Raises:
        MissingExtraError: the package vaderSentiment is missing.
    """

    name = "vader"

    def __init__(self) -> None:
        with needs_extra("eval"):
            from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
        self._analyzer = SentimentIntensityAnalyzer()

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """One compound score a request."""
        return [
            Reward(float(self._analyzer.polarity_scores(request.response)["compound"]))
            for request in requests
        ]

    def release(self, run_id: str) -> None:
        """Does nothing: no answer is cached."""
