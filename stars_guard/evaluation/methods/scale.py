"""Numbers in units of the reward's own spread: ``0.5 sd``, ``mean + 1 sd``, ``mean at 32 + 1 sd``.

Rewards differ in scale, so that one number for ``beta`` or ``r*`` means nothing for another reward. A width
(``beta``) is given in standard deviations; a place (``r*``, a floor) is so many of them above or under the
mean; ``at 32`` takes mean and standard deviation of the segments that end nearest to 32 response tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from stars_guard.settings import StoredRecord

_NUMBER = re.compile(
    r"(?P<mean>mean(?: +at +(?P<tokens>\d+))? *(?P<sign>[+-]) *)?(?P<times>\d+(?:\.\d+)?) *sd", re.ASCII
)
_MEANT = re.compile(r".*\bsd\s*", re.DOTALL)


class ScaleAt(StoredRecord):
    """Rewards of the segments that end at one place of plain answers."""

    tokens: float
    """Response tokens with the segment; their median."""
    mean: float
    spread: float
    """Standard deviation."""


class RewardScale(StoredRecord):
    """Where the rewards of the segments of plain answers lie, and how widely."""

    mean: float
    spread: float
    """Standard deviation."""
    positions: tuple[ScaleAt, ...] = ()
    """Scale by position, rising."""

    def near(self, tokens: int) -> ScaleAt:
        """The position nearest to so many response tokens; all of them together where there is none."""
        everywhere = ScaleAt(tokens=0, mean=self.mean, spread=self.spread)
        return min(self.positions, key=lambda at: abs(at.tokens - tokens), default=everywhere)


POSSIBLE_SCALES = (RewardScale(mean=1e6, spread=1.0), RewardScale(mean=-1e6, spread=1.0))
"""Scales on which settings are tried before the reward is measured: what fits neither fits none. There are
two, since a floor that is a number lies under a target in units on the one, and over it on the other."""


def check_units(value: Any) -> None:
    """Refuse texts that were meant as numbers in units and are none.

    Raises:
        ValueError: naming the text.
    """
    for text in _texts(value):
        if _MEANT.fullmatch(text) and not _NUMBER.fullmatch(text):
            raise ValueError(
                f"{text!r} is no number in units of the reward's spread; write '0.5 sd', 'mean + 1 sd' or "
                "'mean at 32 - 1 sd'"
            )


def has_units(value: Any) -> bool:
    """Whether a number in units of the spread stands anywhere in it."""
    return any(_NUMBER.fullmatch(text) for text in _texts(value))


def in_reward_units(value: Any, scale: RewardScale) -> Any:
    """Plain numbers on the reward's scale in place of those in units.


    Args:
        value: numbers, texts, lists and tables of them.
        scale: of the reward.
    """
    if isinstance(value, Mapping):
        return {name: in_reward_units(inner, scale) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [in_reward_units(inner, scale) for inner in value]
    number = _NUMBER.fullmatch(value) if isinstance(value, str) else None
    return value if number is None else _number(number, scale)


def _number(number: re.Match[str], scale: RewardScale) -> float:
    times = float(number["times"])
    if not number["mean"]:
        return times * scale.spread
    place = scale.near(int(number["tokens"])) if number["tokens"] else scale
    return place.mean + (-times if number["sign"] == "-" else times) * place.spread


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [text for part in inner for text in _texts(part)]
