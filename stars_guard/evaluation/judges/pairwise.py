"""Judges of pairs: an answer against that of another method to the same prompt."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import fmean
from typing import Literal, Protocol

from pydantic import Field, model_validator

from stars_guard.errors import ScoringError
from stars_guard.evaluation.judges.base import Judge, JudgedAnswer, Judgement, JudgeSettings
from stars_guard.evaluation.judges.classifier import RewardJudge
from stars_guard.evaluation.judges.llm import LlmJudge
from stars_guard.loading.parts import load_reward
from stars_guard.loading.reading import text_reader
from stars_guard.rewards.base import RewardModel
from stars_guard.settings import Settings
from stars_guard.types import Named


class PairReader(Protocol):
    """Compares the two answers of pairs."""

    @property
    def name(self) -> str:
        """Name of what compares."""

    @property
    def reward(self) -> RewardModel | None:
        """Reward model that compares, which must not have guided; None where none does."""

    def verdicts(self, answers: Sequence[JudgedAnswer]) -> Sequence[tuple[float, ...]]:
        """Verdicts on each pair, one for every order in which it was shown, in order of the pairs.

        A verdict is 1 where the answer won against its baseline, 0.5 where they tied, 0 where it lost.

        Raises:
            ScoringError: a pair cannot be compared.
        """


class PairwiseJudge(JudgeSettings):
    """Answers compared with those of another method, which gives a win rate."""

    kind: Literal["pairwise"] = "pairwise"
    by: str | LlmJudge
    """What compares: a reward model, as ``--reward`` takes it, or the settings of a judge of kind ``llm``."""
    against: str = Field(default="plain", min_length=1)
    """Name of the method that the others are compared with."""
    margin: float = Field(default=0.0, ge=0)
    """Largest difference of rewards that is still a tie, where a reward model compares."""
    seed: int = Field(default=0, ge=0)
    """Seed of the order in which pairs are compared."""

    @model_validator(mode="after")
    def _margin_is_of_rewards(self) -> PairwiseJudge:
        if self.margin and not isinstance(self.by, str):
            raise ValueError(f"margin={self.margin} is for a reward model; leave it out for an LLM")
        return self

    @property
    def rewards(self) -> tuple[str, ...]:
        """The reward model that compares, if one does."""
        return (self.by,) if isinstance(self.by, str) else ()

    @property
    def served(self) -> tuple[str, ...]:
        """The LLM that compares, if one does."""
        return () if isinstance(self.by, str) else self.by.served

    def load(self) -> Judge:
        """The judge, ready to be asked."""
        reader: PairReader
        if isinstance(self.by, str):
            reader = RewardComparison(load_reward(self.by, text_reader(self.by)), self.margin)
        else:
            reader = self.by.load()
        return PairJudge(reader, self.against, self.seed)


def compared_with(judge: Settings) -> str | None:
    """Name of the method that a judge compares with; None for judges of single answers."""
    return judge.against if isinstance(judge, PairwiseJudge) else None


class PairJudge(Named):
    """Win rate against another method; both orders count alike, and ties half.

    Args:
        reader: compares.
        against: name of the method whose answers are compared with.
        seed: of the order in which pairs are compared.
    """

    def __init__(self, reader: PairReader, against: str, seed: int = 0) -> None:
        self.name = reader.name
        self.against = against
        self.reward = reader.reward
        self._reader, self._seed = reader, seed

    def judge(self, answers: Sequence[JudgedAnswer]) -> list[Judgement]:
        """One judgement a pair, in order.

        Raises:
            ScoringError: a pair cannot be compared, or has the id of another.
        """
        for answer in answers:
            if answer.baseline is None:
                raise ScoringError(f"row {answer.id!r} has no answer of {self.against!r} to compare with")
        shuffled = shuffled_pairs(answers, self._seed)
        ids = [answer.id for answer in shuffled]
        verdicts = dict(zip(ids, self._reader.verdicts(shuffled), strict=True))
        if len(verdicts) < len(answers):
            raise ScoringError("two pairs have the same id, so that their verdicts cannot be told apart")
        orders = {answer.id: verdicts[answer.id] for answer in answers}
        return [Judgement(id=row, value=fmean(each), orders=each) for row, each in orders.items()]


def shuffled_pairs(answers: Sequence[JudgedAnswer], seed: int) -> list[JudgedAnswer]:
    """Pairs in another order. A pair is moved as a whole, so that prompt and answers stay together.

    Args:
        answers: the pairs.
        seed: decides the order.
    """
    return random.Random(seed).sample(answers, len(answers))


class RewardComparison(Named):
    """The answer with the higher reward wins. Each answer is scored alone, so there is one order only.

    Args:
        reward: scores.
        margin: difference of rewards that is still a tie.
    """

    def __init__(self, reward: RewardModel, margin: float = 0.0) -> None:
        self.name = reward.name
        self.reward = reward
        self._margin = margin

    def verdicts(self, answers: Sequence[JudgedAnswer]) -> list[tuple[float, ...]]:
        """One verdict a pair, as 1, 0.5 or 0.

        Raises:
            ScoringError: the reward model failed.
        """
        judge = RewardJudge(self.reward)
        baselines = [JudgedAnswer(answer.prompt, answer.baseline or "", row=answer.row) for answer in answers]
        pairs = zip(judge.judge(answers), judge.judge(baselines), strict=True)
        return [(self._verdict(answer.value - baseline.value),) for answer, baseline in pairs]

    def _verdict(self, difference: float) -> float:
        return 0.5 if abs(difference) <= self._margin else float(difference > 0)
