"""Ways to answer that are compared: each is settings for the one loop."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from stars_guard.algorithm.kinds import any_kind
from stars_guard.evaluation.methods.base import Method
from stars_guard.evaluation.methods.best_of_n import BestOfN
from stars_guard.evaluation.methods.calibrated import Calibrated
from stars_guard.evaluation.methods.cards import Cards
from stars_guard.evaluation.methods.escalated import Backtracking, InformedRetry
from stars_guard.evaluation.methods.guarded import Guarded
from stars_guard.evaluation.methods.plain import Plain
from stars_guard.evaluation.methods.published import Published
from stars_guard.evaluation.methods.schedules import ConstantBar, FrontLoadedBar
from stars_guard.evaluation.methods.self_judged import SelfJudged
from stars_guard.evaluation.methods.token_level import TokenLevel
from stars_guard.evaluation.methods.whole_answer import WholeAnswer

__all__ = ["AnyMethod", "Method"]

AnyMethod: TypeAlias = Annotated[
    Annotated[
        Plain
        | BestOfN
        | Published
        | Cards
        | TokenLevel
        | SelfJudged
        | WholeAnswer
        | InformedRetry
        | Backtracking
        | ConstantBar
        | FrontLoadedBar
        | Calibrated
        | Guarded,
        Field(discriminator="kind"),
    ],
    any_kind("the name of a method's kind, or its settings with a kind"),
]
