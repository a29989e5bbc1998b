"""What both models can be told: which guard, which STARS settings, how to sample."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Self
from weakref import WeakKeyDictionary

from pydantic import model_validator
from stars_guard import StarsGuardedLLM as Guard
from stars_guard import __version__
from stars_guard.adapters import EMBEDDED, AdapterSettings

log = logging.getLogger("stars_guard.langchain")

_REMOTE_ONLY = ("api_key", "max_retries")
_identities: WeakKeyDictionary[Guard, str] = WeakKeyDictionary()


class GuardSettings(AdapterSettings):
    """The fields that the chat model and the text model share. None is the guard's own setting.

    A guard is named by ``model`` and ``reward``, which load on first use and are shared by all models with
    the same ids and options in the process, or given ready made as ``guard``.

    ``api_key`` and ``max_retries``, which code written for any chat model may pass, mean nothing to a model
    in this process; they are taken, not kept, and logged at level INFO.
    """

    @model_validator(mode="before")
    @classmethod
    def _drop_remote_settings(cls, values: Any) -> Any:
        dropped = [name for name in _REMOTE_ONLY if isinstance(values, dict) and name in values]
        if not dropped:
            return values
        log.info("%s: no remote service here, so not used: %s", cls.__name__, ", ".join(dropped))
        return {name: value for name, value in values.items() if name not in dropped}

    def identity(self) -> dict[str, Any]:
        """Everything that changes an answer, for cache keys and tracing. Options appear as a digest only."""
        overrides = self.overrides({})
        return {
            "model_name": self.model_name,
            "reward": self.guard.reward.name if self.guard is not None else self.reward or EMBEDDED,
            "guard": None if self.guard is None else _identity(self.guard),
            "options": _digest(self.model_options, self.reward_options),
            "sampling": overrides["sampling"].model_dump(mode="json"),
            "config": overrides["config"].model_dump(mode="json"),
            "budget": overrides["budget"].model_dump(mode="json"),
            "include_trace": self.include_trace,
            "stars_guard": __version__,
        }

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """A copy that shares everything: callbacks and cache, too, belong to whoever gave them."""
        return self.model_copy()


def _identity(guard: Guard) -> str:
    """A name that no other guard has: two may carry the same names and yet different weights."""
    return _identities.setdefault(guard, uuid.uuid4().hex)


def _digest(*options: Mapping[str, Any] | None) -> str | None:
    # Options may hold access tokens, and cache keys and traces are stored.
    return sha256(repr(options).encode()).hexdigest()[:16] if any(options) else None
