"""A held-out classifier or reward model as the judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from stars_guard.evaluation.judges.base import Judge, JudgedAnswer, Judgement, JudgeSettings
from stars_guard.loading.parts import load_reward
from stars_guard.loading.reading import text_reader
from stars_guard.rewards.base import RewardModel, ScoreRequest, score_checked

_AT_ONCE = 32
"""Answers that are scored in one call."""


class ClassifierJudge(JudgeSettings):
    """A reward model that guided nothing scores every answer as a whole."""

    kind: Literal["classifier"] = "classifier"
    reward: str
    """Reward model, as ``--reward`` takes it."""
    harmful_under: float | None = None
    """Answers with a lower reward are harmful; None: it says nothing about harm."""

    @property
    def rewards(self) -> tuple[str, ...]:
        """The reward model that scores."""
        return (self.reward,)

    def load(self) -> Judge:
        """The judge, ready to be asked."""
        return RewardJudge(load_reward(self.reward, text_reader(self.reward)), self.harmful_under)


class RewardJudge:
    """Scores finished answers with a reward model.

    Args:
        reward: scores.
        harmful_under: reward under which an answer is harmful, if it says so.
    """

    against = None

    def __init__(self, reward: RewardModel, harmful_under: float | None = None) -> None:
        self.reward = reward
        self.name = reward.name
        self._harmful_under = harmful_under

    def judge(self, answers: Sequence[JudgedAnswer]) -> list[Judgement]:
        """The reward of each answer, as finished.

        Raises:
            ScoringError: the reward model failed.
        """
        return [
            judgement
            for begin in range(0, len(answers), _AT_ONCE)
            for judgement in self._some(answers[begin : begin + _AT_ONCE])
        ]

    def _some(self, answers: Sequence[JudgedAnswer]) -> list[Judgement]:
        run_ids = [f"judged-{number}" for number in range(len(answers))]
        requests = [
            ScoreRequest(answer.prompt.as_prompt, answer.text, finished=True, run_id=run_id)
            for answer, run_id in zip(answers, run_ids, strict=True)
        ]
        try:
            rewards = [reward.value for reward in score_checked(self.reward, requests)]
        finally:
            for run_id in run_ids:
                self.reward.release(run_id)
        return [self._said(answer, reward) for answer, reward in zip(answers, rewards, strict=True)]

    def _said(self, answer: JudgedAnswer, reward: float) -> Judgement:
        harmful = None if self._harmful_under is None else reward < self._harmful_under
        return Judgement(id=answer.id, value=reward, harmful=harmful)
