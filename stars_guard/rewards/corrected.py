"""A reward for partial text, corrected to the reward that the whole answer is expected to get.

Rewards trained on whole answers drift on partial ones: the same number means something else after 16 tokens
than after 64. A :class:`Correction` maps the score of a prefix, given how long the answer is so far, to the
expected score of the answer it becomes; ``stars_guard.calibration.correction.fit_correction`` measures it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise

from pydantic import Field, model_validator

from stars_guard.errors import ConfigurationError
from stars_guard.rewards.base import RewardModel, ScoreRequest, score_checked
from stars_guard.settings import Settings
from stars_guard.types import Channel, Named, Reward


class PositionMap(Settings):
    """From partial score to expected final score, for answers of ``tokens`` tokens: linear between knots.

    Beyond the end knots it goes on with slope 1, so that a score outside what was measured, such as a veto,
    keeps its order and its distance.
    """

    tokens: int = Field(ge=0)
    """Response tokens so far."""
    partial: tuple[float, ...] = Field(min_length=1)
    """Partial scores, rising strictly."""
    final: tuple[float, ...]
    """The expected final score at each of them, never falling."""

    @model_validator(mode="after")
    def _is_monotone(self) -> PositionMap:
        if len(self.final) != len(self.partial):
            raise ValueError(f"{len(self.partial)} partial scores but {len(self.final)} final ones")
        if any(a >= b for a, b in pairwise(self.partial)):
            raise ValueError(f"partial scores must rise strictly, got {self.partial}")
        if any(a > b for a, b in pairwise(self.final)):
            raise ValueError(f"final scores must not fall, got {self.final}")
        return self

    def final_of(self, score: float) -> float:
        """The expected final score; never falls as ``score`` rises."""
        after = bisect_right(self.partial, score)
        if after == 0:
            return self.final[0] + (score - self.partial[0])
        if after == len(self.partial):
            return self.final[-1] + (score - self.partial[-1])
        left, right = self.partial[after - 1 : after + 1]
        low, high = self.final[after - 1 : after + 1]
        return min(high, low + (high - low) * ((score - left) / (right - left)))


class Correction(Settings):
    """One :class:`PositionMap` per measured position; between two positions, their weighted mean.

    Before the first position the first map holds, after the last the last. Linear in the position, since
    drift fades gradually: with steps, one more token would make a jump that the text does not explain.
    """

    maps: tuple[PositionMap, ...] = Field(min_length=1)
    """By position, rising strictly."""

    @model_validator(mode="after")
    def _rises(self) -> Correction:
        positions = [position.tokens for position in self.maps]
        if any(a >= b for a, b in pairwise(positions)):
            raise ValueError(f"positions must rise strictly, got {positions}")
        return self

    def final_of(self, score: float, tokens: int) -> float:
        """The expected final score of an answer that scores ``score`` after ``tokens`` response tokens."""
        after = bisect_right([position.tokens for position in self.maps], tokens)
        if after == 0 or after == len(self.maps):
            return self.maps[max(0, after - 1)].final_of(score)
        before, behind = self.maps[after - 1 : after + 1]
        share = (tokens - before.tokens) / (behind.tokens - before.tokens)
        return (1 - share) * before.final_of(score) + share * behind.final_of(score)


class CorrectedReward(Named):
    """``reward`` with its partial scores replaced by the final scores they lead one to expect.

    A finished answer keeps its score: that is the final score. The raw score is the component ``partial``.
    A veto belongs outside, in a minimum with this; inside it still ranks under everything, but only while no
    fitted answer was vetoed.

    Args:
        reward: the reward model that the correction was fitted for; another one needs another correction.
        correction: from :func:`stars_guard.calibration.correction.fit_correction`, or read from a file.
        channels: whose texts are corrected, all by default. Leave out a channel with rules of its own, whose
            thresholds are on the scale of ``reward`` itself.

    Raises:
        ConfigurationError: ``reward`` is not a reward model, or ``correction`` not a correction.
    """

    def __init__(
        self, reward: RewardModel, correction: Correction, channels: Collection[Channel] = tuple(Channel)
    ) -> None:
        if not isinstance(reward, RewardModel):
            raise ConfigurationError(
                f"{type(reward).__name__} is no reward model; pass one with name, score and release"
            )
        if not isinstance(correction, Correction):
            raise ConfigurationError(
                f"{type(correction).__name__} is no Correction; fit_correction makes one"
            )
        self._reward = reward
        self.channels = frozenset(channels)
        """Channels whose texts are corrected."""
        self.correction = correction
        """Maps from partial to expected final rewards."""

    @property
    def name(self) -> str:
        """``corrected(NAME)``."""
        return f"corrected({self._reward.name})"

    @property
    def parts(self) -> list[RewardModel]:
        """The reward model that is corrected."""
        return [self._reward]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """One :class:`Reward` per request, in order.

        Raises:
            ScoringError: the reward model failed, or gave no finite number.
        """
        rewards = score_checked(self._reward, requests)
        return [self._corrected(*pair) for pair in zip(requests, rewards, strict=True)]

    def release(self, run_id: str) -> None:
        """Tell the reward model inside that the answer ``run_id`` is over."""
        self._reward.release(run_id)

    def _corrected(self, request: ScoreRequest, raw: Reward) -> Reward:
        value = raw.value
        if not request.finished and request.channel in self.channels:
            value = self.correction.final_of(raw.value, request.tokens)
        return replace(raw, value=value, components={**raw.components, "partial": raw.value})
