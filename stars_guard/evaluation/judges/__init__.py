"""Judges of finished answers; none of them may be the reward that guided."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from stars_guard.evaluation.judges.classifier import ClassifierJudge
from stars_guard.evaluation.judges.human import HumanJudge
from stars_guard.evaluation.judges.llm import LlmJudge
from stars_guard.evaluation.judges.pairwise import PairwiseJudge

__all__ = ["AnyJudge"]

AnyJudge: TypeAlias = Annotated[
    ClassifierJudge | PairwiseJudge | LlmJudge | HumanJudge, Field(discriminator="kind")
]
"""What a judge is: something that looks at finished answers, and guided none of them."""
