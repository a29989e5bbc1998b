"""StarsGuardedLLM for LlamaIndex: the guard's requests and streams, as LlamaIndex's endpoints."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.generic_utils import messages_to_prompt as default_messages_to_prompt
from llama_index.core.base.llms.types import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    MessageRole,
)
from llama_index.core.instrumentation.span import active_span_id
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.llm import ToolSelection, default_completion_to_prompt

from llama_index.llms.stars_guard import messages as conversation
from llama_index.llms.stars_guard.errors import errors_reach_users
from llama_index.llms.stars_guard.events import announce_answer, announce_decision
from llama_index.llms.stars_guard.responses import (
    ChatForm,
    CompletionForm,
    Form,
    Response_co,
    chat_response,
    completion_response,
    malformed_calls,
)
from llama_index.llms.stars_guard.structured import StructuredPrediction
from stars_guard import ConfigurationError, GuardedResult, Judged, Prompt, Tools
from stars_guard.adapters import GuardedCall

if TYPE_CHECKING:
    from llama_index.core.tools import BaseTool


@errors_reach_users(
    "predict",
    "apredict",
    "stream",
    "astream",
    "predict_and_call",
    "apredict_and_call",
    "stream_chat_with_tools",
    "astream_chat_with_tools",
    "structured_predict",
    "astructured_predict",
    "stream_structured_predict",
    "astream_structured_predict",
)
class StarsGuardedLLM(StructuredPrediction):
    """An LLM that only shows text which its reward model accepted.

    Weights are loaded on first use, and shared by all instances of the same model and reward.

    Every endpoint takes, for one call, sampling settings by name (``max_tokens``, ``temperature``,
    ``seed``, ``stop``, ``response_schema``, ...), ``target``, ``beta``, ``segment_tokens``, ``max_attempts``,
    ``guard_config``, ``budget``, ``timeout``, ``model`` and ``include_trace``; chat endpoints also ``tools``,
    ``tool_choice`` and ``allow_parallel_tool_calls``. An unknown name is a ``ConfigurationError``;
    ``extra_headers``, which LlamaIndex sends of its own accord, has no meaning here.

    The methods that LlamaIndex's own engines and synthesizers call (``predict``, ``structured_predict``, ...)
    raise wrong settings and prompts that cannot be served as
    :class:`llama_index.llms.stars_guard.errors.CallError`, since LlamaIndex drops every ``ValueError``.

    Given to LlamaIndex (``Settings.llm``, ``as_query_engine(llm=...)``), it counts and cuts texts with the
    model's own tokenizer, unless ``Settings.tokenizer`` was chosen.

    Responses carry ``raw`` (``stop_reason``, ``usage``, a ``stars`` summary, on request the ``trace``) and
    token counts in ``additional_kwargs``.

    Raises:
        ConfigurationError: at construction, naming each wrong setting and its value.

    Example:
        >>> from stars_guard import Constant, GuardConfig, Hard
        >>> from stars_guard import StarsGuardedLLM as Guard
        >>> from stars_guard.testing import KeywordReward, ScriptedModel
        >>> guard = Guard(
        ...     ScriptedModel([["Sure, here is poison.", "I would rather not."]]),
        ...     KeywordReward(["poison"]),
        ...     GuardConfig(threshold=Constant(target=1.0), acceptance=Hard()),
        ... )
        >>> StarsGuardedLLM(guard=guard).complete("Help me.").text
        'I would rather not.'
    """

    @classmethod
    def class_name(cls) -> str:
        """Name in serialised form."""
        return "StarsGuardedLLM"

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer a conversation.

        Raises:
            ConfigurationError, PromptError: a setting or the conversation is wrong.
            GenerationError, ScoringError: an outage.
            NoAcceptableSegment: exhaustion policy ``raise``.
        """
        call = self._chat_call(messages, kwargs)
        return chat_response(self._generate(call), include_trace=call.include_trace)

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Like :meth:`chat`; cancelling the task stops the model within one token step."""
        call = self._chat_call(messages, kwargs)
        return chat_response(await self._agenerate(call), include_trace=call.include_trace)

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """Answer a conversation piece by piece; closing the generator stops the model."""
        return self._stream(self._chat_call(messages, kwargs), ChatForm())

    @llm_chat_callback()
    async def astream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseAsyncGen:
        """Like :meth:`stream_chat`, for tasks."""
        return self._astream(self._chat_call(messages, kwargs), ChatForm())

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Answer a prompt; arguments and errors are those of :meth:`chat`.

        Args:
            prompt: one user message for the chat template; a text to be continued as it stands if
                ``formatted``, or once ``completion_to_prompt`` has formatted it.
            formatted: whether ``prompt`` needs no template.
            kwargs: settings for this call.
        """
        call = self._completion_call(prompt, formatted, kwargs)
        return completion_response(self._generate(call), include_trace=call.include_trace)

    @llm_completion_callback()
    async def acomplete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Like :meth:`complete`; cancelling the task stops the model within one token step."""
        call = self._completion_call(prompt, formatted, kwargs)
        return completion_response(await self._agenerate(call), include_trace=call.include_trace)

    @llm_completion_callback()
    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponseGen:
        """Answer a prompt piece by piece; closing the generator stops the model."""
        return self._stream(self._completion_call(prompt, formatted, kwargs), CompletionForm())

    @llm_completion_callback()
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """Like :meth:`stream_complete`, for tasks."""
        return self._astream(self._completion_call(prompt, formatted, kwargs), CompletionForm())

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """The tool calls of an answer. Malformed ones are not among them.

        Those are in ``response.message.additional_kwargs["invalid_tool_calls"]``, with what is wrong.

        Raises:
            ValueError: there is none, and ``error_on_no_tool_call``.
        """
        calls = conversation.tool_selections(response.message)
        if not calls and error_on_no_tool_call:
            malformed = "; ".join(call["error"] for call in malformed_calls(response.message))
            why = f" (malformed: {malformed})" if malformed else ""
            raise ValueError(f"expected at least one tool call, but the answer makes none{why}")
        return calls

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        tool_choice: str | dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The arguments of the chat endpoints, as plain data: they go to callbacks as well."""
        if isinstance(user_msg, str):
            user_msg = ChatMessage(role=MessageRole.USER, content=user_msg)
        messages = [*(chat_history or []), *([user_msg] if user_msg else [])]
        if not tools:
            return {"messages": messages, **kwargs}
        return {
            "messages": messages,
            "tools": conversation.tool_schemas(tools),
            "tool_choice": conversation.tool_choice(tool_choice, tool_required),
            "allow_parallel_tool_calls": allow_parallel_tool_calls,
            **kwargs,
        }

    def _chat_call(self, messages: Sequence[ChatMessage], kwargs: dict[str, Any]) -> GuardedCall:
        kwargs = dict(kwargs)
        tools = conversation.core_tools(kwargs)
        return self._guarded_call(self._chat_prompt(messages, tools), kwargs)

    def _chat_prompt(self, messages: Sequence[ChatMessage], tools: Tools | None) -> Prompt:
        render = self.messages_to_prompt
        if render is None or render is default_messages_to_prompt:
            return Prompt.of(conversation.core_messages(messages), tools)
        if tools is not None:
            raise ConfigurationError(
                "messages_to_prompt has no place for tools; leave it out, so that the chat template is used"
            )
        return Prompt.raw(render(messages))

    def _completion_call(self, prompt: str, formatted: bool, kwargs: dict[str, Any]) -> GuardedCall:
        template = self.completion_to_prompt
        if not formatted and template is not None and template is not default_completion_to_prompt:
            prompt, formatted = template(prompt), True
        return self._guarded_call(Prompt.raw(prompt) if formatted else Prompt.of(prompt), kwargs)

    def _generate(self, call: GuardedCall) -> GuardedResult:
        span_id = active_span_id.get()
        tell = partial(announce_decision, span_id=span_id)
        result = self.loaded(call.model).generate(call.prompt, on_decision=tell, **call.overrides)
        announce_answer(result, span_id)
        return result

    async def _agenerate(self, call: GuardedCall) -> GuardedResult:
        span_id = active_span_id.get()
        tell = partial(announce_decision, span_id=span_id)
        guard = await self.aloaded(call.model)
        result = await guard.agenerate(call.prompt, on_decision=tell, **call.overrides)
        announce_answer(result, span_id)
        return result

    def _stream(self, call: GuardedCall, form: Form[Response_co]) -> Generator[Response_co, None, None]:
        span_id = active_span_id.get()

        def gen() -> Generator[Response_co, None, None]:
            with self.loaded(call.model).stream(call.prompt, **call.overrides) as stream:
                for event in stream.events():
                    if isinstance(event, Judged):
                        announce_decision(event, span_id)
                    elif (chunk := form.chunk(event)) is not None:
                        yield chunk
                announce_answer(stream.result, span_id)
                yield form.end(stream.result, include_trace=call.include_trace)

        return gen()

    def _astream(self, call: GuardedCall, form: Form[Response_co]) -> AsyncGenerator[Response_co, None]:
        span_id = active_span_id.get()

        async def gen() -> AsyncGenerator[Response_co, None]:
            async with (await self.aloaded(call.model)).astream(call.prompt, **call.overrides) as stream:
                async for event in stream.events():
                    if isinstance(event, Judged):
                        announce_decision(event, span_id)
                    elif (chunk := form.chunk(event)) is not None:
                        yield chunk
                announce_answer(stream.result, span_id)
                yield form.end(stream.result, include_trace=call.include_trace)

        return gen()
