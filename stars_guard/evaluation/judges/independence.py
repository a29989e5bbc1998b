"""A judge must not be what guided: what it likes was looked for, and would be found."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

from stars_guard.errors import ConfigurationError
from stars_guard.loading.names import RewardLike, reward_spec, with_parts
from stars_guard.loading.specs import RewardSpec
from stars_guard.rewards.base import Composite, RewardModel
from stars_guard.rewards.function import FunctionReward


def name_a_part_in_common(first: RewardLike, second: RewardLike) -> bool:
    """Whether two names, as ``--reward`` takes them, are of rewards that are one or share a part.

    Nothing is loaded.
    """
    return not _places(first).isdisjoint(_places(second))


def serves(model: str, reward: RewardLike) -> bool:
    """Whether a reward model, or a part of it, asks a model of that name.

    Args:
        model: a folder, a hub id, or the name of a model on a server.
        reward: as ``--reward`` takes it.
    """
    specs = with_parts(reward_spec(reward))
    asked = (getattr(spec, kind, None) for spec in specs for kind in ("path", "model"))
    return any(name is not None and _weights(name) == _weights(model) for name in asked)


def check_independent(judge: RewardModel, guiding: RewardModel) -> None:
    """Refuse a judge that has a part in common with what guided.

    Args:
        judge: reward model that judges finished answers.
        guiding: reward model that guided some of them.

    Raises:
        ConfigurationError: naming the part.
    """
    if shared := _shared(judge, guiding):
        raise ConfigurationError(
            f"{min(shared)!r} guided answers and cannot judge them, too: what it likes was looked for; "
            "give a judge of its own"
        )


def parts_of(reward: RewardModel) -> list[RewardModel]:
    """A reward model and everything that it is made of."""
    inside = reward.parts if isinstance(reward, Composite) else ()
    return [reward, *(part for direct in inside for part in parts_of(direct))]


def _shared(judge: RewardModel, guiding: RewardModel) -> set[str]:
    """Names of the judge's parts that guided, by their name or by their weights."""
    guides = parts_of(guiding)
    identities = {_identity(part) for part in guides}
    weights = {digest for part in guides for digest in _digests(part)}
    return {
        part.name for part in parts_of(judge) if _identity(part) in identities or weights & _digests(part)
    }


def _identity(part: RewardModel) -> Hashable:
    """What tells a part from others: its name; the code of a function, since many are called ``score``."""
    function = part.function if isinstance(part, FunctionReward) else None
    return getattr(function, "__code__", part.name)


def _digests(reward: RewardModel) -> frozenset[str]:
    """What names the numbers of each network that a reward model holds: a copy of a folder has the same."""
    held = getattr(reward, "__dict__", {}).values()
    networks = [getattr(value, "named_parameters", None) for value in held]
    return frozenset(_digest(parameters()) for parameters in networks if callable(parameters))


def _digest(parameters: Iterable[tuple[str, Any]]) -> str:
    # Sums, since hashing every number of a large model would take longer than judging.
    sums = [(name, tuple(values.shape), float(values.detach().double().sum())) for name, values in parameters]
    return sha256(repr(sums).encode()).hexdigest()


def _places(name: RewardLike) -> set[str]:
    return {_place(spec) for spec in with_parts(reward_spec(name))}


def _place(spec: RewardSpec) -> str:
    path: str | None = getattr(spec, "path", None)
    if path is None:
        return repr(spec)
    weights = _weights(path)
    return str(weights) if isinstance(weights, Path) else repr(spec.changed(path=weights))


def _weights(name: str) -> Path | str:
    """A folder or a model by a name that does not depend on how it is written; hubs do not mind capitals."""
    folder = Path(name).expanduser()
    return folder.resolve() if folder.is_dir() else name.rstrip("/").casefold()
