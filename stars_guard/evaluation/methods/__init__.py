"""Ways to answer that are compared: each is settings for the one loop."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from stars_guard.algorithm.kinds import any_kind
from stars_guard.evaluation.methods.base import Method
from stars_guard.evaluation.methods.best_of_n import BestOfN
from stars_guard.evaluation.methods.guarded import Guarded
from stars_guard.evaluation.methods.plain import Plain

__all__ = ["AnyMethod", "Method"]

AnyMethod: TypeAlias = Annotated[
    Annotated[Plain | BestOfN | Guarded, Field(discriminator="kind")],
    any_kind("the name of a method's kind, or its settings with a kind"),
]
