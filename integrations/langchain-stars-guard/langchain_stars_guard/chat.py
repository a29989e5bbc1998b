"""ChatStarsGuardedLLM: a guarded model as LangChain's chat model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.output_parsers import JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel, ConfigDict
from stars_guard import ConfigurationError, GuardedResult, Judged, Prompt
from stars_guard.adapters import GuardedCall, requested_schema

from langchain_stars_guard.answers import PROVIDER, ChunkFold, to_message
from langchain_stars_guard.errors import OverflowNamed
from langchain_stars_guard.events import AnnouncedChatModel, Announcer, AsyncAnnouncer
from langchain_stars_guard.messages import conversation
from langchain_stars_guard.profile import profile
from langchain_stars_guard.structured import checked
from langchain_stars_guard.tokens import TokenCounts
from langchain_stars_guard.tools import ToolChoice, ToolLike, bound, offered, schemas

Method = Literal["function_calling", "json_schema", "json_mode"]

# "stream" is read by langchain-core, and passed on.
_CHAT_OPTIONS = frozenset({"tools", "tool_choice", "parallel_tool_calls", "response_format", "stream"})


class ChatStarsGuardedLLM(TokenCounts, AnnouncedChatModel):
    """A chat model that only shows text, reasoning and tool calls which its reward model accepted.

    Without arguments it is the small embedded model with the embedded harmlessness reward. All settings are
    those of :class:`langchain_stars_guard.settings.GuardSettings`; most may be set per call as well. Weights
    load on first use. Calls that overlap, from any number of threads and tasks, are decoded in one batch.

    Answers say in ``response_metadata`` why they ended and what the guard did (``stars``); ``include_trace``
    adds every decision. Callback handlers get each decision as the custom event ``stars_guard.decision``, and
    the trace as ``stars_guard.trace``.

    Raises:
        pydantic.ValidationError: a setting is wrong (also a ValueError).

    Example:
        >>> from langchain_stars_guard import ChatStarsGuardedLLM
        >>> from stars_guard import Constant, GuardConfig, Hard, StarsGuardedLLM
        >>> from stars_guard.testing import KeywordReward, ScriptedModel
        >>> guard = StarsGuardedLLM(
        ...     ScriptedModel([["Sure, here is poison.", "I would rather not."]]),
        ...     KeywordReward(["poison"]),
        ...     GuardConfig(threshold=Constant(target=1.0), acceptance=Hard()),
        ... )
        >>> ChatStarsGuardedLLM(guard=guard).invoke("Help me.").text
        'I would rather not.'
    """

    # Said here, since langchain-core's classes ignore unknown settings.
    model_config = ConfigDict(extra="forbid")

    streaming: bool = False
    """Let ``invoke`` stream inside, so that handlers see new text as it is accepted."""

    @property
    def _llm_type(self) -> str:
        return "chat-stars-guard"

    def _resolve_model_profile(self) -> ModelProfile:
        return profile(self)

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return self.identity()

    def bind_tools(
        self,
        tools: Sequence[ToolLike],
        *,
        tool_choice: ToolChoice = None,
        parallel_tool_calls: bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer tools to the model; the guard judges a call's arguments like any other text.

        Args:
            tools: functions, pydantic classes, LangChain tools, or schemas.
            tool_choice: ``auto`` (None), ``none``, ``any`` (``required``, True), or a tool's name, as text or
                in OpenAI's form. ``any`` and a name are guaranteed by constrained decoding.
            parallel_tool_calls: whether one answer may make several calls; None is yes.
            strict: written into the schemas.
            kwargs: further call options.

        Raises:
            ConfigurationError: the choice has an unknown form, or names no tool.
        """
        options: dict[str, Any] = {"tools": schemas(tools, strict=strict)}
        if tool_choice is not None:
            options["tool_choice"] = bound(options["tools"], tool_choice)
        if parallel_tool_calls is not None:
            options["parallel_tool_calls"] = parallel_tool_calls
        return self.bind(**options, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: Method = "function_calling",
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Answer with data of a given shape.

        Args:
            schema: a pydantic class, a typed dict, or a JSON schema.
            include_raw: give ``raw``, ``parsed`` and ``parsing_error`` instead of the parsed data alone.
            method: ``function_calling`` forces a tool call, ``json_schema`` constrains the text of the answer
                to the schema, ``json_mode`` to any JSON object. All three are guaranteed by constrained
                decoding, unless ``max_tokens`` ends the answer early.
            strict: no effect, since decoding is constrained anyway.
            kwargs: none are known.

        Raises:
            ConfigurationError: an unknown method.
            ValueError: unknown arguments. Running it raises ``OutputParserException`` with the stop reason
                where the answer was refused or cut off; a refusal is langchain-core's own
                ``ModelRefusalError`` where it has one.
        """
        if method == "function_calling":
            steps: Any = super().with_structured_output(schema, **kwargs)
            calling, read = steps.first, checked() | steps.last
            return _keep_raw(calling, read) if include_raw else calling | read
        if kwargs:
            raise ValueError(f"with_structured_output takes no {', '.join(kwargs)}")
        model = self.bind(
            response_format=_format(schema, method),
            ls_structured_output_format={"kwargs": {"method": method, "strict": strict}, "schema": schema},
        )
        parser = checked() | _parser(schema)
        return _keep_raw(model, parser) if include_raw else model | parser

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call = self._call(messages, stop, kwargs)
        announcer = Announcer(run_manager, self.callbacks)
        guard = self.loaded(call.model)
        with OverflowNamed():
            result = guard.generate(call.prompt, on_decision=announcer.judged, **call.overrides)
        announcer.ended(result)
        return _chat_result(result, call)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        call = self._call(messages, stop, kwargs)
        announcer = AsyncAnnouncer(run_manager, self.callbacks)
        guard = await self.aloaded(call.model)
        async with OverflowNamed(), guard.astream(call.prompt, **call.overrides) as stream:
            return _chat_result(await announcer.followed(stream), call)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        call = self._call(messages, stop, kwargs)
        announcer, fold = Announcer(run_manager, self.callbacks), ChunkFold()
        guard = self.loaded(call.model)
        with OverflowNamed(), guard.stream(call.prompt, **call.overrides) as stream:
            for event in stream.events():
                if isinstance(event, Judged):
                    announcer.judged(event)
                if chunk := fold.take(event):
                    yield ChatGenerationChunk(message=chunk)
            announcer.ended(stream.result)
            yield ChatGenerationChunk(message=fold.last(stream.result, call))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        call = self._call(messages, stop, kwargs)
        announcer, fold = AsyncAnnouncer(run_manager, self.callbacks), ChunkFold()
        guard = await self.aloaded(call.model)
        async with OverflowNamed(), guard.astream(call.prompt, **call.overrides) as stream:
            async for event in stream.events():
                if isinstance(event, Judged):
                    await announcer.judged(event)
                if chunk := fold.take(event):
                    yield ChatGenerationChunk(message=chunk)
            await announcer.ended(stream.result)
            yield ChatGenerationChunk(message=fold.last(stream.result, call))

    def _call(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, options: Mapping[str, Any]
    ) -> GuardedCall:
        tools, schema = offered(options), requested_schema(options.get("response_format"))
        if tools is not None and schema is not None:
            raise ConfigurationError(
                "response_format constrains the whole answer, which then cannot call tools; "
                "leave one of them out, or use with_structured_output(method='function_calling')"
            )
        settings = {**options, "stop": stop}
        if schema is not None:
            settings["response_schema"] = schema
        return self.call(Prompt.of(conversation(messages), tools), settings, _CHAT_OPTIONS)

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop, **kwargs)
        params["ls_provider"] = PROVIDER
        return params


def _chat_result(result: GuardedResult, call: GuardedCall) -> ChatResult:
    return ChatResult(generations=[ChatGeneration(message=to_message(result, call))])


def _format(schema: dict[str, Any] | type, method: str) -> dict[str, Any]:
    if method == "json_mode":
        return {"type": "json_object"}
    if method == "json_schema":
        wanted = convert_to_json_schema(schema)
        return {"type": "json_schema", "json_schema": {"name": wanted["title"], "schema": wanted}}
    raise ConfigurationError(f"method={method!r} is unknown; use function_calling, json_schema or json_mode")


def _parser(schema: dict[str, Any] | type) -> PydanticOutputParser[Any] | JsonOutputParser:
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return PydanticOutputParser(pydantic_object=schema)
    return JsonOutputParser()


def _keep_raw(
    model: Runnable[LanguageModelInput, AIMessage], parser: Runnable[Any, Any]
) -> Runnable[LanguageModelInput, dict[str, Any]]:
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=model) | parsed.with_fallbacks([failed], exception_key="parsing_error")
