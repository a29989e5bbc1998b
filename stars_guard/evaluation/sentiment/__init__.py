"""Rewards for sentiment control: one that may guide, and another, made otherwise, that may judge.

Both look at the answer alone, and give more to a more positive one. Their names, as ``--reward`` takes them:
``stars_guard.evaluation.sentiment:vader`` and ``stars_guard.evaluation.sentiment:review_classifier``.
"""

from __future__ import annotations

from stars_guard.rewards.base import RewardModel


def vader() -> RewardModel:
    """The reward of the lexicon VADER, from -1 to 1; 0 for a text without words of feeling.

    Raises:
        MissingExtraError: the package vaderSentiment is missing.
    """
    from stars_guard.evaluation.sentiment.lexicon import LexiconReward

    return LexiconReward()


def review_classifier() -> RewardModel:
    """The reward of a classifier of film reviews: the chance in [0, 1] that a reader would call it positive.

    Raises:
        MissingExtraError: scikit-learn is missing.
    """
    from stars_guard.evaluation.sentiment.linear import WEIGHTS, SentimentClassifier

    return SentimentClassifier.load(WEIGHTS)
