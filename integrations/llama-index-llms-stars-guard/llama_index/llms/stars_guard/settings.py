"""What a user sets on the LLM, and the settings of the guard that follow from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.bridge.pydantic import (
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_serializer,
    field_validator,
)
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW
from llama_index.core.llms.function_calling import FunctionCallingLLM

from llama_index.llms.stars_guard.tokenizer import ModelTokenizer, adopt
from stars_guard import ConfigurationError, Prompt, embedded
from stars_guard import StarsGuardedLLM as Guard
from stars_guard.adapters import AdapterSettings, CallSettings, GuardedCall, context_window, readable

_SOURCES = ("model", "reward", "model_options", "reward_options")
# LlamaIndex's DocumentContextExtractor sends HTTP headers to every LLM; a model in this process has none.
_WITHOUT_MEANING = frozenset({"extra_headers"})


class StarsGuardSettings(AdapterSettings, FunctionCallingLLM):
    """The fields of :class:`StarsGuardedLLM`. None always means: the guard's own.

    Raises:
        ConfigurationError: at construction, naming each wrong setting and its value.
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    guard: Annotated[Guard | None, WithJsonSchema({"type": "string"})] = Field(default=None, repr=False)
    """A ready-made guard, instead of model and reward."""
    context_window: int | None = Field(default=None, ge=1)
    """Tokens of prompt and answer; None: what the model's config says."""
    is_function_calling_model: bool = True
    """Whether agents may rely on the model's tool calls; False gives ReAct."""

    if not TYPE_CHECKING:  # type checkers read the signature off the fields

        def __init__(self, **settings: Any) -> None:
            clashing = [name for name in _SOURCES if settings.get(name) is not None]
            if isinstance(settings.get("guard"), Guard) and clashing:
                raise ConfigurationError(f"guard and {clashing[0]} both say what to load; pass one of them")
            try:
                super().__init__(**settings)
            except ValidationError as error:
                raise ConfigurationError(readable(error, type(self).__name__)) from error

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
        return super().__getstate__()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "callback_manager":
            # LlamaIndex sets it where an LLM is chosen: ``Settings.llm = ...``, ``as_query_engine(llm=...)``.
            adopt(self, instead=True)

    @property
    def tokenizer(self) -> ModelTokenizer:
        """From a text to its token ids, by the model itself: for ``Settings.tokenizer`` and others."""
        return ModelTokenizer(self)

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex wants to know of a model.

        The context window is known without loading weights for a folder, for a hub id whose config is in the
        hub's cache, and for the embedded model; for others only once they are loaded, and until then
        LlamaIndex's default holds.
        """
        adopt(self, instead=False)  # who asks for the window is about to fill it
        return LLMMetadata(
            context_window=self.context_window or context_window(self) or DEFAULT_CONTEXT_WINDOW,
            num_output=self.overrides({})["sampling"].max_tokens,
            is_chat_model=True,
            is_function_calling_model=self.is_function_calling_model,
            model_name=self._short_name(),
        )

    def _short_name(self) -> str:
        guard = self.ready()
        model = self.in_hand.get("model") if guard is None else guard.model
        if model is not None:
            return str(model.name)
        folder = Path(self.model_name) if self.model else embedded.chat_model()
        return folder.name if folder.is_dir() else self.model_name

    def _guarded_call(self, prompt: Prompt, kwargs: dict[str, Any]) -> GuardedCall:
        """A call on a prompt, with what it sets differently.

        Raises:
            ConfigurationError: a setting is unknown or wrong.
        """
        if unknown := sorted(kwargs.keys() - CallSettings.model_fields.keys() - _WITHOUT_MEANING):
            known = ", ".join(sorted(CallSettings.model_fields))
            raise ConfigurationError(f"a call takes no setting {unknown[0]!r}; it takes: {known}")
        return self.call(prompt, kwargs, _WITHOUT_MEANING)
