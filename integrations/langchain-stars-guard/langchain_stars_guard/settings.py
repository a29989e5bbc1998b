"""What both models can be told: which guard, which STARS settings, how to sample."""

from __future__ import annotations

import logging
import uuid
from hashlib import sha256
from typing import Any, Self
from weakref import finalize

from pydantic import model_validator
from stars_guard import __version__
from stars_guard.adapters import AdapterSettings

log = logging.getLogger("stars_guard.langchain")

_REMOTE_ONLY = ("api_key", "max_retries")
# By address, since equal objects may answer differently; an entry goes when its object does.
_identities: dict[int, str] = {}
_kept: list[object] = []


class GuardSettings(AdapterSettings):
    """The fields that the chat model and the text model share. None is the guard's own setting.

    A guard is made of ``model`` and ``reward``, which load on first use and are shared by all models with
    the same ids, objects and options in the process, or given ready made as ``guard``.

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
        identities = [f"{name} {_identity(part)}" for name, part in self.in_hand.items()]
        return {
            "model_name": self.model_name,
            "reward": self.reward_name,
            "guard": ", ".join(identities) or None,
            "options": _digest(self.model_options, self.reward_options, *self.descriptions),
            "sampling": overrides["sampling"].model_dump(mode="json"),
            "config": overrides["config"].model_dump(mode="json"),
            "budget": overrides["budget"].model_dump(mode="json"),
            "include_trace": self.include_trace,
            "stars_guard": __version__,
        }

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """A copy that shares everything: callbacks and cache, too, belong to whoever gave them."""
        return self.model_copy()


def _identity(part: object) -> str:
    """A name that no other object has: two may be equal, or carry the same names, and yet differ."""
    address = id(part)
    if address not in _identities:
        try:
            finalize(part, _identities.pop, address, None)
        except TypeError:  # what cannot be referred to weakly stays, so that its address stays its own
            _kept.append(part)
    return _identities.setdefault(address, uuid.uuid4().hex)


def _digest(*options: object) -> str | None:
    # Options may hold access tokens, and cache keys and traces are stored.
    return sha256(repr(options).encode()).hexdigest()[:16] if any(options) else None
