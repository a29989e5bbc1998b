"""Self-judgement as a method: one set of weights proposes under one persona, and judges under another."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Best, Constant, Soft
from stars_guard.algorithm.segments import FixedLength
from stars_guard.errors import ConfigurationError
from stars_guard.evaluation.methods.base import Method
from stars_guard.models.base import LanguageModel
from stars_guard.rewards.base import RewardModel
from stars_guard.rewards.judges.self_judgement import SelfJudgement


class SelfJudged(Method):
    """Persona-judge (arXiv 2504.12663): acceptance with probability ``min(1, p_judging / p_proposing)``.

    The proposing persona is that of the prompt; no second model is loaded. Segments of one token are the
    published method, but for what follows a rejection: here another draw of the same persona, judged alike,
    so that a token ``s`` comes with probability ``min(p_proposing(s), p_judging(s)) / Z``.
    """

    kind: Literal["self_judged"] = "self_judged"
    persona: str = Field(
        default="You are a kind and careful assistant. You refuse to help with anything harmful.",
        min_length=1,
    )
    """System message of the judge."""
    segment_tokens: int = Field(default=1, ge=1)
    """Length of a segment, in tokens."""

    @property
    def needs_local_model(self) -> bool:
        """The model judges its own proposals by their likelihoods."""
        return True

    def guard(self, base: GuardConfig, sampling: SamplingParams) -> GuardConfig:
        """A soft rule at a ratio of 1, on segments of that length."""
        return GuardConfig(
            threshold=Constant(target=0.0),
            acceptance=Soft(beta=1.0),
            floor=-math.inf,
            segments=FixedLength(max_tokens=self.segment_tokens),
            exhaustion=Best(),
        )

    def scorer(self, model: LanguageModel, reward: RewardModel) -> RewardModel:
        """The language model itself, under the judging persona.

        Raises:
            ConfigurationError: the language model is not in this process.
        """
        from stars_guard.models.local.growing import GrowingLikelihoods
        from stars_guard.models.local.transformers import TransformersModel

        if not isinstance(model, TransformersModel):
            raise ConfigurationError(f"self_judged needs a language model in this process, not {model.name}")
        return SelfJudgement(GrowingLikelihoods(model), self.persona, self.segment_tokens)
