"""What the users of an adapter set: which guard, and how it answers, for all calls or for one call alone."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Collection, Iterable, Mapping, Set
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)

from stars_guard.adapters.calls import CallOverrides, GuardedCall
from stars_guard.adapters.file import settings_of_file
from stars_guard.adapters.shared import GuardNames, SharedGuards
from stars_guard.adapters.which import (
    ModelField,
    RewardField,
    name_of_model,
    name_of_reward,
    saved_model,
    saved_reward,
)
from stars_guard.algorithm.config import Budget, GuardConfig, SamplingParams
from stars_guard.errors import ConfigurationError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading.apart import begun_apart
from stars_guard.loading.calibrated import as_config
from stars_guard.loading.names import model_spec, reward_spec
from stars_guard.loading.parts import load_config
from stars_guard.loading.specs import InHand, ModelSpec, RewardSpec
from stars_guard.prompts import Prompt
from stars_guard.settings import readable, sized

_RULES = ("target", "beta", "segment_tokens", "max_attempts")
_OPTIONS = ("model_options", "reward_options")


class AnswerSettings(BaseModel):
    """How to answer, for one call or for all of an adapter; None is the guard's own setting.

    Names and types are checked here, ranges by what :meth:`applied` makes of the settings.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, use_attribute_docstrings=True)

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
    """Sampling temperature; 0 is greedy, and what is rejected is drawn again more freely."""
    max_tokens: int | None = None
    """Most tokens of an answer."""
    top_p: float | None = None
    """Keep the smallest set of tokens with at least this mass; 1 keeps all."""
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
    stop_token_ids: list[int] | None = None
    """Token ids that end an answer, beside the model's own."""
    response_schema: dict[str, Any] | str | None = None
    """JSON schema, as text or as a dict, that the whole answer satisfies by constrained decoding."""

    budget: Budget | None = None
    """What one answer may cost."""
    timeout: float | None = None
    """Most wall time of an answer, in seconds; what was accepted by then is the answer."""
    include_trace: bool = False
    """Give the whole trace with every answer."""

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_many(cls, stop: object) -> object:
        return [stop] if isinstance(stop, str) else stop

    def over(self, settings: AnswerSettings) -> AnswerSettings:
        """What is set here, and the rest from ``settings``."""
        names = AnswerSettings.model_fields.keys()
        changes = {name: getattr(self, name) for name in names & self.model_fields_set}
        return AnswerSettings.model_construct(**{name: getattr(settings, name) for name in names} | changes)

    def applied(self, sampling: SamplingParams, config: GuardConfig, budget: Budget) -> CallOverrides:
        """What a request is answered with: these settings over the guard's own.

        Args:
            sampling: how the guard proposes.
            config: its STARS settings.
            budget: what a request may cost there.

        Raises:
            ConfigurationError: a setting is out of range.
        """
        budget = self.budget or budget
        return CallOverrides(
            sampling=SamplingParams(**{**sampling.model_dump(), **self._given(SamplingParams.model_fields)}),
            config=(self.guard_config or config).adjusted(**self._given(_RULES)),
            budget=budget if self.timeout is None else budget.changed(max_seconds=self.timeout),
        )

    def _given(self, names: Collection[str]) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}


class CallSettings(AnswerSettings):
    """What may be set for one call alone; None is the adapter's setting, and at last the guard's own."""

    model: str | None = None
    """Folder or hub id of a causal language model, or another name of one; None is the adapter's."""

    @classmethod
    def of(cls, options: Mapping[str, Any], also: Set[str] = frozenset()) -> CallSettings:
        """The settings among the options of a call; those that are None are not set.

        Args:
            options: by name, as the framework passes them.
            also: names of options that the adapter reads itself; they are passed over.

        Raises:
            ConfigurationError: an option is unknown, or has a wrong type.
        """
        known = {*CallSettings.model_fields, *also}
        if unknown := sorted(set(options) - known):
            raise ConfigurationError(
                f"unknown call option {', '.join(unknown)}; this model takes: {', '.join(sorted(known))}"
            )
        names = (CallSettings.model_fields.keys() & options.keys()) - also
        try:
            return CallSettings(**{name: options[name] for name in names if options[name] is not None})
        except ValidationError as error:
            raise ConfigurationError(readable(error, "a call", sized)) from error


class AdapterSettings(AnswerSettings):
    """What an adapter is told: which guard, and the settings of all its calls.

    A guard is made of ``model`` and ``reward``, which load on first use and are shared by all adapters with
    the same names, objects and options in the process, or given ready made as ``guard``. Where a framework's
    models are pydantic models, inherit from this class; elsewhere, hold one.

    Raises:
        pydantic.ValidationError: a setting is wrong (also a ValueError).
    """

    model: ModelField | None = None
    """Folder or hub id of a causal language model, another name or description of one, or the model itself.

    None is the embedded default. An object in hand cannot be pickled.
    """
    reward: RewardField | None = None
    """Folder or hub id of a reward model, or a spec that names code (``my_rewards.py:calm``), which is run.

    Also a description, a reward model, or a function ``f(prompt, response) -> float``.
    It needs a ``guard_config``; None is the embedded default.
    """
    model_options: dict[str, Any] | None = Field(default=None, repr=False)
    """For :meth:`stars_guard.models.TransformersModel.load`: device, dtype, ..."""
    reward_options: dict[str, Any] | None = Field(default=None, repr=False)
    """For :meth:`stars_guard.rewards.ClassifierReward.load`."""
    guard: StarsGuardedLLM | None = Field(default=None, exclude=True, repr=False)
    """A ready-made guard, instead of names. It cannot be pickled."""
    config_file: str | Path | None = Field(default=None, exclude=True, repr=False)
    """File with all settings, of which those are taken that are not given; read at once.

    None: the one that ``STARS_GUARD_CONFIG`` names, or ``stars-guard.toml`` in the working directory, which
    is logged; empty: none. With a ready-made guard, there is none.
    """

    _guards: SharedGuards = PrivateAttr(default_factory=SharedGuards)

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("guard") is not None:
            return values
        return settings_of_file(values.get("config_file"), values)

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = {name: getattr(self, name) for name in ("model", "reward", *_OPTIONS)}
        # What an object in hand is as a truth value is its own affair.
        named = [name for name, value in given.items() if not isinstance(value, str | dict | None) or value]
        if self.guard is not None and named:
            raise ConfigurationError(
                f"a ready-made guard was given and {', '.join(named)} too; pass one or the other"
            )
        self.overrides({})
        return self

    @property
    def model_name(self) -> str:
        """Name of the language model, for metadata and tracing."""
        return self.guard.model.name if self.guard is not None else name_of_model(self.model)

    @property
    def reward_name(self) -> str:
        """Name of the reward model, for metadata and tracing."""
        return self.guard.reward.name if self.guard is not None else name_of_reward(self.reward)

    @property
    def in_hand(self) -> dict[str, Any]:
        """The objects that no name stands for, by setting: the guard, else the model and the reward."""
        if self.guard is not None:
            return {"guard": self.guard}
        return {name: spec.part for name, spec in self._specs().items() if isinstance(spec, InHand)}

    @property
    def descriptions(self) -> list[ModelSpec | RewardSpec]:
        """The model and the reward, where it is said by more than a name, and not by an object in hand."""
        return [spec for spec in self._specs().values() if not isinstance(spec, InHand)]

    def overrides(self, options: Mapping[str, Any]) -> CallOverrides:
        """What a request with these call options is answered with.

        Raises:
            ConfigurationError: an option is unknown, or a setting is out of range.
        """
        settings = CallSettings.of(options)
        return self._applied(settings.over(self), settings.model)

    def call(self, prompt: Prompt, options: Mapping[str, Any], also: Set[str] = frozenset()) -> GuardedCall:
        """A call on a prompt, with these options over the adapter's settings.

        Args:
            prompt: what to answer.
            options: what the framework passes for this call.
            also: names of options that the adapter reads itself.

        Raises:
            ConfigurationError: an option is unknown or wrong, or asks a ready-made guard for another model.
        """
        settings = CallSettings.of(options, also)
        if settings.model is not None and self.guard is not None:
            raise ConfigurationError(
                f"model={settings.model!r} was asked for in a call, but the guard was given ready made; "
                "name models by id at construction to switch between them"
            )
        merged = settings.over(self)
        return GuardedCall(
            prompt=prompt,
            overrides=self._applied(merged, settings.model),
            include_trace=merged.include_trace,
            model=settings.model,
            model_name=settings.model or self.model_name,
        )

    def ready(self, model: str | None = None) -> StarsGuardedLLM | None:
        """The guard, if there is nothing to load any more. ``model`` is that of :meth:`loaded`."""
        return self.guard if self.guard is not None else self._guards.find(self._names(model))

    def loaded(self, model: str | None = None) -> StarsGuardedLLM:
        """The guard, loaded if need be (seconds, the first time in a process).

        Args:
            model: name of another language model than the configured one.

        Raises:
            ConfigurationError: nothing usable is there, or an extra is missing.
        """
        return self.ready(model) or self._guards.load(self._names(model), self._config(self, model))

    async def aloaded(self, model: str | None = None) -> StarsGuardedLLM:
        """Like :meth:`loaded`; the event loop goes on while weights load."""
        guard = self.ready(model)
        if guard is not None:
            return guard
        return await asyncio.wrap_future(begun_apart(partial(self.loaded, model)))

    def __getstate__(self) -> dict[Any, Any]:
        for name in self.in_hand:
            raise pickle.PicklingError(
                f"{type(self).__name__} holds a ready-made {name}, which cannot be pickled; "
                "construct it with the ids of model and reward instead"
            )
        return super().__getstate__()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        # What is in hand is put in as its own copy: weights are never copied.
        return super().__deepcopy__({**(memo or {}), **{id(part): part for part in self.in_hand.values()}})

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        # By name, since options of descriptions may hold access tokens, and settings are logged and traced.
        shown = {"model": saved_model, "reward": saved_reward}
        for name, value in super().__repr_args__():
            yield name, shown[name](value) if name in shown else value

    def _specs(self) -> dict[str, ModelSpec | RewardSpec]:
        """The model and the reward, by setting, where it is said by more than a name."""
        specs: dict[str, ModelSpec | RewardSpec] = {}
        if not isinstance(self.model, str | None):
            specs["model"] = model_spec(self.model)
        if not isinstance(self.reward, str | None):
            specs["reward"] = reward_spec(self.reward)
        return specs

    def _names(self, model: str | None) -> GuardNames:
        return GuardNames(model or self.model, self.reward, self.model_options, self.reward_options)

    def _config(self, settings: AnswerSettings, model: str | None) -> GuardConfig:
        """The settings of a guard, where ``model`` names another language model than the configured one."""
        if settings.guard_config is None and self.guard is not None:
            return self.guard.config
        return load_config(settings.guard_config, reward_spec(self.reward, model_spec(model or self.model)))

    def _applied(self, settings: AnswerSettings, model: str | None) -> CallOverrides:
        guard, config = self.guard, self._config(settings, model)
        if guard is None:
            return settings.applied(SamplingParams(), config, Budget())
        return settings.applied(guard.sampling, config, guard.budget)
