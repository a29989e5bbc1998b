"""A judge must not be what guided: what it likes was looked for, and would be found."""

from __future__ import annotations

from pathlib import Path

from stars_guard.errors import ConfigurationError
from stars_guard.loading.names import reward_spec
from stars_guard.rewards.base import Composite, RewardModel


def names_the_same(first: str | None, second: str | None) -> bool:
    """Whether two names, as ``--reward`` takes them, are those of one reward model. Nothing is loaded."""
    return _place(first) == _place(second)


def check_independent(judge: RewardModel, guiding: RewardModel) -> None:
    """Refuse a judge that has a part in common with what guided.

    Args:
        judge: reward model that judges finished answers.
        guiding: reward model that guided some of them.

    Raises:
        ConfigurationError: naming the part.
    """
    if shared := part_names(judge) & part_names(guiding):
        raise ConfigurationError(
            f"{min(shared)!r} guided answers and cannot judge them, too: what it likes was looked for; "
            "give a judge of its own"
        )


def part_names(reward: RewardModel) -> frozenset[str]:
    """Names of a reward model and of everything that it is made of."""
    parts = reward.parts if isinstance(reward, Composite) else ()
    return frozenset({reward.name}).union(*(part_names(part) for part in parts))


def _place(name: str | None) -> object:
    spec = reward_spec(name)
    path = Path(str(getattr(spec, "path", ""))).expanduser()
    return path.resolve() if getattr(spec, "path", None) and path.is_dir() else spec
