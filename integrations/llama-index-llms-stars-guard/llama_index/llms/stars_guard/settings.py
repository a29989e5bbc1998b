"""What a user sets on the LLM, and the settings of the guard that follow from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.bridge.pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    WithJsonSchema,
    field_serializer,
    field_validator,
)
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW
from llama_index.core.llms.function_calling import FunctionCallingLLM

from stars_guard import Budget, ConfigurationError, GuardConfig, Prompt, SamplingParams, embedded
from stars_guard import StarsGuardedLLM as Guard
from stars_guard.loading import as_config, load_config
from stars_guard.settings import readable

if TYPE_CHECKING:
    from typing import Self

_SOURCES = ("model", "reward", "model_options", "reward_options")
_SAMPLING = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "stop")
_STARS = ("target", "beta", "segment_tokens", "max_attempts")
_PER_CALL = frozenset((*SamplingParams.model_fields, *_STARS, "guard_config", "budget", "include_trace"))
# LlamaIndex's DocumentContextExtractor sends HTTP headers to every LLM; a model in this process has none.
_WITHOUT_MEANING = frozenset({"extra_headers"})


@dataclass(frozen=True)
class Call:
    """One request to the guard, ready to be made."""

    prompt: Prompt
    sampling: SamplingParams
    config: GuardConfig
    budget: Budget | None
    include_trace: bool

    @property
    def overrides(self) -> dict[str, Any]:
        """What this request sets, as the guard takes it."""
        return {"sampling": self.sampling, "config": self.config, "budget": self.budget}


class StarsGuardSettings(FunctionCallingLLM):
    """The fields of :class:`StarsGuardedLLM`. None always means: the guard's own.

    Raises:
        ConfigurationError: at construction, naming each wrong setting and its value.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    model: str | None = Field(
        default=None,
        frozen=True,
        description="Folder or hub id of a causal language model; None is the embedded one.",
    )
    reward: str | None = Field(
        default=None,
        frozen=True,
        description="Folder or hub id of a sequence classifier that judges; None is the embedded one.",
    )
    guard: Annotated[Guard | None, WithJsonSchema({"type": "string"})] = Field(
        default=None, frozen=True, repr=False, description="A ready-made guard, instead of model and reward."
    )
    guard_config: Annotated[GuardConfig | None, BeforeValidator(as_config)] = Field(
        default=None,
        description="STARS settings, or the path of a file of them; required with a reward of your own.",
    )
    target: float | None = Field(default=None, description="Reward to aim at.")
    beta: float | None = Field(default=None, description="Acceptance temperature; 0 is the hard rule.")
    segment_tokens: int | None = Field(default=None, description="Longest segment, in tokens.")
    max_attempts: int | None = Field(default=None, description="Candidates judged per segment.")
    max_tokens: int | None = Field(default=None, description="Most tokens of an answer.")
    temperature: float | None = Field(default=None, description="Sampling temperature; 0 is greedy.")
    top_p: float | None = Field(default=None, description="Nucleus sampling; 1 is off.")
    top_k: int | None = Field(default=None, description="Keep the k likeliest tokens; 0 is off.")
    min_p: float | None = Field(default=None, description="Least share of the likeliest token's probability.")
    repetition_penalty: float | None = Field(default=None, description="Penalty on tokens seen; 1 is off.")
    seed: int | None = Field(default=None, description="Makes answers repeatable.")
    stop: str | Sequence[str] | None = Field(default=None, description="Stop strings.")
    budget: Budget | None = Field(default=None, description="What one answer may cost.")
    model_options: dict[str, Any] | None = Field(
        default=None, frozen=True, description="For TransformersModel.load: device, dtype, ..."
    )
    reward_options: dict[str, Any] | None = Field(
        default=None, frozen=True, description="For ClassifierReward.load."
    )
    context_window: int | None = Field(
        default=None, ge=1, description="Tokens of prompt and answer; None: what the model's config says."
    )
    is_function_calling_model: bool = Field(
        default=True, description="Whether agents may rely on the model's tool calls; False gives ReAct."
    )
    include_trace: bool = Field(default=False, description="Put the full trace into `raw` of each response.")

    _shared: Guard | None = PrivateAttr(default=None)

    if not TYPE_CHECKING:  # type checkers read the signature off the fields

        def __init__(self, **settings: Any) -> None:
            try:
                super().__init__(**settings)
            except ValidationError as error:
                raise ConfigurationError(readable(error, type(self).__name__)) from error
            clashing = [name for name in _SOURCES if getattr(self, name) is not None]
            if self.guard is not None and clashing:
                raise ConfigurationError(f"guard and {clashing[0]} both say what to load; pass one of them")
            self._call_settings({})

    @field_validator("guard", mode="before")
    @classmethod
    def _is_guard(cls, guard: object) -> object:
        if guard is None or isinstance(guard, Guard):
            return guard
        raise ConfigurationError(
            "a ready-made guard is not part of saved settings; pass a stars_guard.StarsGuardedLLM, "
            "as in from_dict(data, guard=...)"
        )

    @field_serializer("guard")
    def _guard_by_name(self, guard: Guard | None) -> str | None:
        return None if guard is None else guard.model.name

    def __getstate__(self) -> dict[str, Any]:
        if self.guard is not None:
            raise TypeError(
                "an LLM around a ready-made guard cannot be pickled; construct it from model and reward"
            )
        bare = self.model_copy()
        bare._shared = None
        state: dict[str, Any] = super(StarsGuardSettings, bare).__getstate__()
        return state

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        kept = [one for one in (self.guard, self._shared) if one is not None]
        return super().__deepcopy__({**(memo or {}), **{id(one): one for one in kept}})

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex wants to know of a model.

        The context window is known without loading weights for a folder and for the embedded model; for a hub
        id only once it is loaded, and until then LlamaIndex's default holds.
        """
        name, window = self._name_and_window()
        return LLMMetadata(
            context_window=self.context_window or window or DEFAULT_CONTEXT_WINDOW,
            num_output=self._sampling({}).max_tokens,
            is_chat_model=True,
            is_function_calling_model=self.is_function_calling_model,
            model_name=name,
        )

    def _name_and_window(self) -> tuple[str, int | None]:
        guard = self.guard or self._shared
        if guard is not None:
            return guard.model.name, getattr(guard.model, "context_window", None)
        folder = Path(self.model) if self.model else embedded.chat_model()
        if folder.is_dir():
            return folder.name, _positions(folder / "config.json")
        return str(self.model), None

    def _loaded(self) -> Guard:
        """The guard; weights are loaded on the first use in this process."""
        guard = self.guard or self._shared
        if guard is None:
            guard = self._shared = Guard.shared(
                self.model,
                self.reward,
                self._config({}),
                model_options=self.model_options,
                reward_options=self.reward_options,
            )
        return guard

    def _call_settings(self, kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The parts of a :class:`Call` but its prompt, with what one call sets differently.

        Raises:
            ConfigurationError: a setting is unknown or wrong.
        """
        changes = {name: value for name, value in kwargs.items() if value is not None}
        unknown = sorted(set(kwargs) - _PER_CALL - _WITHOUT_MEANING)
        if unknown:
            known = ", ".join(sorted(_PER_CALL))
            raise ConfigurationError(f"a call takes no setting {unknown[0]!r}; it takes: {known}")
        return {
            "sampling": self._sampling(changes),
            "config": self._config(changes),
            "budget": changes.get("budget", self.budget),
            "include_trace": changes.get("include_trace", self.include_trace),
        }

    def _sampling(self, changes: Mapping[str, Any]) -> SamplingParams:
        own = self.guard.sampling if self.guard else SamplingParams()
        fields = {name: getattr(self, name) for name in _SAMPLING}
        given = {name: value for name, value in fields.items() if value is not None}
        asked = {name: value for name, value in changes.items() if name in SamplingParams.model_fields}
        return SamplingParams(**{**own.model_dump(), **given, **asked})

    def _config(self, changes: Mapping[str, Any]) -> GuardConfig:
        own: GuardConfig | None = as_config(changes.get("guard_config", self.guard_config))
        if own is None:
            own = self.guard.config if self.guard else load_config(None, self.reward)
        return own.adjusted(**{name: changes.get(name, getattr(self, name)) for name in _STARS})


@lru_cache
def _positions(config: Path) -> int | None:
    """The longest input a model's ``config.json`` allows, in tokens."""
    if not config.is_file():
        return None
    stated = json.loads(config.read_text(encoding="utf-8"))
    positions = stated.get("max_position_embeddings") or stated.get("text_config", {}).get(
        "max_position_embeddings"
    )
    return positions if isinstance(positions, int) else None
