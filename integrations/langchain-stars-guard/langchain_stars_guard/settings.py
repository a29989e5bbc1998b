"""What both models can be told: which guard, which STARS settings, how to sample."""

from __future__ import annotations

import asyncio
import logging
import pickle
import uuid
from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any, Self
from weakref import WeakKeyDictionary

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    field_validator,
    model_validator,
)
from stars_guard import Budget, ConfigurationError, GuardConfig, SamplingParams, __version__
from stars_guard import StarsGuardedLLM as Guard
from stars_guard.guarded import Overrides
from stars_guard.loading.calibrated import as_config
from stars_guard.loading.parts import load_config

log = logging.getLogger("stars_guard.langchain")

EMBEDDED = "embedded"
"""``model_name`` and ``reward`` name of the embedded default."""

_SAMPLING = (
    "temperature",
    "max_tokens",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "seed",
    "stop",
)
_RULES = ("target", "beta", "segment_tokens", "max_attempts")
CALL_OPTIONS = frozenset({*_SAMPLING, *_RULES, "timeout", "include_trace", "model"})
"""Settings that a single call may set differently."""

_IDS = ("model", "reward", "model_options", "reward_options")
_REMOTE_ONLY = ("api_key", "max_retries")
_identities: WeakKeyDictionary[Guard, str] = WeakKeyDictionary()


class GuardSettings(BaseModel):
    """The fields that the chat model and the text model share. None is the guard's own setting.

    A guard is named by ``model`` and ``reward``, which load on first use and are shared by all models with
    the same ids and options in the process, or given ready made as ``guard``.

    ``api_key`` and ``max_retries``, which code written for any chat model may pass, mean nothing to a model
    in this process; they are taken, not kept, and logged at level INFO.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: str | None = None
    """Folder or hub id of a causal language model; None is the embedded default."""
    reward: str | None = None
    """Folder or hub id of a reward model, or a spec that names code (``my_rewards.py:calm``), which is run.

    It needs a ``guard_config``; None is the embedded default.
    """
    model_options: dict[str, Any] | None = Field(default=None, repr=False)
    """For ``stars_guard.models.transformers.TransformersModel.load``."""
    reward_options: dict[str, Any] | None = Field(default=None, repr=False)
    """For ``stars_guard.rewards.classifier.ClassifierReward.load``."""
    guard: Guard | None = Field(default=None, exclude=True, repr=False)
    """A ready-made guard, instead of ids. It cannot be pickled."""

    guard_config: Annotated[GuardConfig | None, BeforeValidator(as_config)] = None
    """STARS settings, or the path of a file of them, which is read at once; the four below adjust them."""
    target: float | None = None
    """Reward to aim at."""
    beta: float | None = None
    """Acceptance temperature; 0 is the hard rule."""
    segment_tokens: int | None = None
    """Longest segment, in tokens."""
    max_attempts: int | None = None
    """Candidates judged per segment."""

    temperature: float | None = None
    """Sampling temperature; 0 is greedy, where resampling cannot help."""
    max_tokens: int | None = None
    """Most tokens of an answer."""
    top_p: float | None = None
    """Keep the smallest set of tokens with at least this mass."""
    top_k: int | None = None
    """Keep only the k likeliest tokens; 0 keeps all."""
    min_p: float | None = None
    """Drop tokens under this share of the likeliest token's probability."""
    repetition_penalty: float | None = None
    """Divide the logits of tokens that were already used; 1 is off."""
    seed: int | None = None
    """Makes answers repeatable; every call uses it."""
    stop: list[str] | None = None
    """Stop strings; an answer ends before the first that appears."""
    budget: Budget | None = None
    """What one answer may cost."""
    timeout: float | None = None
    """Most wall time of an answer, in seconds; what was accepted by then is the answer."""
    include_trace: bool = False
    """Put the full trace into the metadata of every answer, under ``stars["trace"]``."""

    _ready: dict[tuple[object, ...], Guard] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _drop_remote_settings(cls, values: Any) -> Any:
        dropped = [name for name in _REMOTE_ONLY if isinstance(values, dict) and name in values]
        if not dropped:
            return values
        log.info("%s: no remote service here, so not used: %s", cls.__name__, ", ".join(dropped))
        return {name: value for name, value in values.items() if name not in dropped}

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_many(cls, stop: object) -> object:
        return [stop] if isinstance(stop, str) else stop

    @model_validator(mode="after")
    def _check_settings(self) -> Self:
        named = [name for name in _IDS if getattr(self, name)]
        if self.guard is not None and named:
            raise ConfigurationError(
                f"a ready-made guard was given and {', '.join(named)} too; pass one or the other"
            )
        self.overrides({})
        return self

    @property
    def model_name(self) -> str:
        """Name of the language model, for metadata and tracing."""
        return self.guard.model.name if self.guard is not None else self.model or EMBEDDED

    def overrides(self, options: Mapping[str, Any]) -> Overrides:
        """What a request with these call options is answered with.

        Raises:
            ConfigurationError: a setting is out of range.
        """
        return Overrides(
            sampling=self._sampling(options), config=self._config(options), budget=self._budget(options)
        )

    def check_options(self, options: Mapping[str, Any], also: frozenset[str] = frozenset()) -> None:
        """Refuse call options that mean nothing here.

        Raises:
            ConfigurationError: naming the option and those that exist.
        """
        known = CALL_OPTIONS | also
        unknown = sorted(set(options) - known)
        if unknown:
            raise ConfigurationError(
                f"unknown call option {', '.join(unknown)}; this model takes: {', '.join(sorted(known))}"
            )
        if options.get("model") is not None and self.guard is not None:
            raise ConfigurationError(
                f"model={options['model']!r} was asked for in a call, but the guard was given ready made; "
                "name models by id at construction to switch between them"
            )

    def loaded(self, model: str | None = None) -> Guard:
        """The guard, loaded if need be (seconds, the first time in a process).

        Args:
            model: id of another language model than the configured one.

        Raises:
            ConfigurationError: nothing usable is there, or an extra is missing.
        """
        if self.guard is not None:
            return self.guard
        key = self._key(model)
        if key not in self._ready:
            self._ready[key] = Guard.shared(
                model or self.model,
                self.reward,
                self.guard_config,
                model_options=self.model_options,
                reward_options=self.reward_options,
            )
        return self._ready[key]

    async def aloaded(self, model: str | None = None) -> Guard:
        """Like :meth:`loaded`; the event loop goes on while weights load."""
        if self.guard is not None or self._key(model) in self._ready:
            return self.loaded(model)
        return await asyncio.to_thread(self.loaded, model)

    def identity(self) -> dict[str, Any]:
        """Everything that changes an answer, for cache keys and tracing. Options appear as a digest only."""
        own = self.overrides({})
        return {
            "model_name": self.model_name,
            "reward": self.guard.reward.name if self.guard is not None else self.reward or EMBEDDED,
            "guard": None if self.guard is None else _identity(self.guard),
            "options": _digest(self.model_options, self.reward_options),
            **{name: None if part is None else part.model_dump(mode="json") for name, part in _parts(own)},
            "include_trace": self.include_trace,
            "stars_guard": __version__,
        }

    def __getstate__(self) -> dict[Any, Any]:
        """Settings only: the other process loads the weights itself."""
        if self.guard is not None:
            raise pickle.PicklingError(
                f"{type(self).__name__} holds a ready-made guard, which cannot be pickled; "
                "construct it with the ids of model and reward instead"
            )
        state = super().__getstate__()
        private = {**(state["__pydantic_private__"] or {}), "_ready": {}}
        return {**state, "__pydantic_private__": private}

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """A copy that shares the guard: weights are never copied."""
        return self.model_copy()

    def _given(self, options: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
        values = {name: getattr(self, name) if options.get(name) is None else options[name] for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def _sampling(self, options: Mapping[str, Any]) -> SamplingParams:
        base = self.guard.sampling.model_dump() if self.guard is not None else {}
        schema = options.get("response_schema")
        asked = {} if schema is None else {"response_schema": schema}
        return SamplingParams(**{**base, **self._given(options, _SAMPLING), **asked})

    def _config(self, options: Mapping[str, Any]) -> GuardConfig:
        base = self.guard.config if self.guard is not None and self.guard_config is None else None
        config = base or load_config(self.guard_config, self.reward)
        return config.adjusted(**self._given(options, _RULES))

    def _budget(self, options: Mapping[str, Any]) -> Budget:
        budget = self.budget or (self.guard.budget if self.guard is not None else Budget())
        timeout = self._given(options, ("timeout",))
        return Budget(**{**budget.model_dump(), "max_seconds": timeout["timeout"]}) if timeout else budget

    def _key(self, model: str | None) -> tuple[object, ...]:
        return (model or self.model, self.reward, repr(self.model_options), repr(self.reward_options))


def _parts(overrides: Overrides) -> list[tuple[str, BaseModel | None]]:
    return [
        ("sampling", overrides["sampling"]),
        ("config", overrides["config"]),
        ("budget", overrides["budget"]),
    ]


def _identity(guard: Guard) -> str:
    """A name that no other guard has: two may carry the same names and yet different weights."""
    return _identities.setdefault(guard, uuid.uuid4().hex)


def _digest(*options: Mapping[str, Any] | None) -> str | None:
    # Options may hold access tokens, and cache keys and traces are stored.
    return sha256(repr(options).encode()).hexdigest()[:16] if any(options) else None
