"""Judges of finished answers; none of them may be the reward that guided."""

from __future__ import annotations

from typing import TypeAlias

from stars_guard.evaluation.judges.classifier import ClassifierJudge

__all__ = ["AnyJudge"]

AnyJudge: TypeAlias = ClassifierJudge
