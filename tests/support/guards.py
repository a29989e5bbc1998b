"""The guard that most tests build: a model that follows a script, and a reward that knows one bad word."""

from __future__ import annotations

from typing import Any

from stars_guard import Constant, GuardConfig, Hard, StarsGuardedLLM
from stars_guard.algorithm.segments import FixedLength
from stars_guard.testing import KeywordReward, ScriptedModel

BAD = "bad"


def hard(**changes: Any) -> GuardConfig:
    """The hard rule, at a threshold that every text without a bad word reaches, and none with one.

    Segments may be as long as scripts are.
    """
    parts = {
        "threshold": Constant(target=1.0),
        "acceptance": Hard(),
        "segments": FixedLength(max_tokens=200),
        **changes,
    }
    return GuardConfig(**parts)


def guarded(
    model: Any, reward: Any = None, config: GuardConfig | None = None, **parts: Any
) -> StarsGuardedLLM:
    """A guard of fakes.

    Args:
        model: a language model, or the script of one.
        reward: rejects the word "bad" by default.
        config: the hard rule by default.
        parts: further arguments of the guard.
    """
    model = model if hasattr(model, "propose") else ScriptedModel(model)
    return StarsGuardedLLM(model, reward or KeywordReward([BAD]), config or hard(), **parts)
