"""Guards that an adapter loads on first use, and shares with its copies and with all who name the same."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from stars_guard.algorithm.config import GuardConfig
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading.names import ModelLike, RewardLike, model_spec, reward_spec
from stars_guard.loading.parts import loading_key


@dataclass(frozen=True, slots=True)
class GuardNames:
    """What to load: which language model and which reward model, and options for their loading."""

    model: ModelLike
    reward: RewardLike
    model_options: dict[str, Any] | None
    reward_options: dict[str, Any] | None

    @property
    def key(self) -> Hashable:
        """Equal for what loads the same; an object in hand is known by its address, whatever its repr."""
        model = model_spec(self.model)
        reward = reward_spec(self.reward, model)
        return loading_key(model, reward, self.model_options, self.reward_options)


class SharedGuards:
    """The guards that an adapter has loaded so far.

    Copies of this object, deep ones included, are the object itself, since weights are never copied. A pickle
    of it is empty: another process loads for itself. Being loaded is no setting, so any two are equal.
    """

    def __init__(self) -> None:
        self._loaded: dict[Hashable, StarsGuardedLLM] = {}

    def find(self, names: GuardNames) -> StarsGuardedLLM | None:
        """The guard of these names, if it is loaded."""
        return self._loaded.get(names.key)

    def load(self, names: GuardNames, config: GuardConfig | None) -> StarsGuardedLLM:
        """The guard of these names, loaded if need be (seconds, the first time in a process).

        Raises:
            ConfigurationError: nothing usable is there, or an extra is missing.
        """
        guard = StarsGuardedLLM.shared(
            names.model,
            names.reward,
            config,
            model_options=names.model_options,
            reward_options=names.reward_options,
        )
        self._loaded[names.key] = guard
        return guard

    def __reduce__(self) -> tuple[type[SharedGuards], tuple[()]]:
        return SharedGuards, ()

    def __copy__(self) -> SharedGuards:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> SharedGuards:
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SharedGuards)

    __hash__ = None  # type: ignore[assignment]
