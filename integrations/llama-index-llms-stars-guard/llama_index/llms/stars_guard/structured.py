"""Structured prediction: pydantic objects by constrained decoding of the answer itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, TextBlock
from llama_index.core.bridge.pydantic import BaseModel, ValidationError
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.events.llm import (
    LLMStructuredPredictEndEvent,
    LLMStructuredPredictStartEvent,
)
from llama_index.core.output_parsers.pydantic import PydanticOutputParser
from llama_index.core.program.utils import process_streaming_objects
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.types import Model, PydanticProgramMode

from llama_index.llms.stars_guard.settings import StarsGuardSettings

dispatcher = get_dispatcher(__name__)

_ABOUT_TOOLS = ("tool_required", "tool_choice", "allow_parallel_tool_calls")


class StructuredPrediction(StarsGuardSettings):
    """Answers that are pydantic objects.

    In program mode ``DEFAULT`` the answer is decoded under the object's JSON schema, so that it always parses
    and streams as it is written; the other modes work as LlamaIndex defines them.
    """

    @dispatcher.span
    def structured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """An object of a pydantic class.

        Args:
            output_cls: the class.
            prompt: what to ask.
            llm_kwargs: settings for this call, as in :meth:`chat`.
            prompt_args: values for the variables of ``prompt``.

        Raises:
            ValueError: the answer was refused, cut off, or breaks a rule that a JSON schema cannot say.
        """
        if not self._by_schema:
            made: Model = super().structured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
            return made
        _announce_start(output_cls, prompt, prompt_args)
        messages, kwargs = self._request(output_cls, prompt, llm_kwargs, prompt_args)
        result = _parsed(output_cls, self.chat(messages, **kwargs))
        dispatcher.event(LLMStructuredPredictEndEvent(output=result))
        return result

    @dispatcher.span
    async def astructured_predict(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Model:
        """Like :meth:`structured_predict` of ``output_cls``, ``prompt`` and ``llm_kwargs``, for tasks."""
        if not self._by_schema:
            made: Model = await super().astructured_predict(output_cls, prompt, llm_kwargs, **prompt_args)
            return made
        _announce_start(output_cls, prompt, prompt_args)
        messages, kwargs = self._request(output_cls, prompt, llm_kwargs, prompt_args)
        result = _parsed(output_cls, await self.achat(messages, **kwargs))
        dispatcher.event(LLMStructuredPredictEndEvent(output=result))
        return result

    def _structured_stream_call(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> Generator[Any, None, None]:
        """What ``stream_structured_predict`` yields: the object so far, and at last the whole of it."""
        if not self._by_schema:
            yield from super()._structured_stream_call(output_cls, prompt, llm_kwargs, **prompt_args)
            return
        messages, kwargs = self._request(output_cls, prompt, llm_kwargs, prompt_args)
        shown: list[Any] = []
        for response in self.stream_chat(messages, **kwargs):
            yield from self._partial(output_cls, response, shown)

    async def _structured_astream_call(
        self,
        output_cls: type[Model],
        prompt: PromptTemplate,
        llm_kwargs: dict[str, Any] | None = None,
        **prompt_args: Any,
    ) -> AsyncGenerator[Any, None]:
        if not self._by_schema:
            return await super()._structured_astream_call(output_cls, prompt, llm_kwargs, **prompt_args)
        messages, kwargs = self._request(output_cls, prompt, llm_kwargs, prompt_args)
        responses = await self.astream_chat(messages, **kwargs)

        async def gen() -> AsyncGenerator[Any, None]:
            shown: list[Any] = []
            async for response in responses:
                for new in self._partial(output_cls, response, shown):
                    yield new

        return gen()

    @property
    def _by_schema(self) -> bool:
        return self.pydantic_program_mode is PydanticProgramMode.DEFAULT

    def _request(
        self,
        output_cls: type[BaseModel],
        prompt: BasePromptTemplate,
        llm_kwargs: dict[str, Any] | None,
        prompt_args: dict[str, Any],
    ) -> tuple[list[ChatMessage], dict[str, Any]]:
        """The messages, with the schema in words, and the arguments of the chat endpoints."""
        messages = self._extend_messages(prompt.format_messages(llm=self, **prompt_args))
        wanted = PydanticOutputParser(output_cls).get_format_string(escape_json=False)
        kwargs = {name: value for name, value in (llm_kwargs or {}).items() if name not in _ABOUT_TOOLS}
        return _with_text(messages, wanted), {"response_schema": output_cls.model_json_schema(), **kwargs}

    def _partial(self, output_cls: type[Model], response: ChatResponse, shown: list[Any]) -> list[Any]:
        """What one chunk adds to the objects ``shown`` before."""
        if response.raw is not None:  # only the last chunk has it
            new: Any = _parsed(output_cls, response)
        else:
            new = process_streaming_objects(response, output_cls, cur_objects=shown[-1:] or None, llm=self)
        if shown[-1:] == [new]:
            return []
        shown.append(new)
        return [new]


def _announce_start(output_cls: type[BaseModel], prompt: PromptTemplate, args: dict[str, Any]) -> None:
    dispatcher.event(
        LLMStructuredPredictStartEvent(output_cls=output_cls, template=prompt, template_args=args)
    )


def _with_text(messages: list[ChatMessage], text: str) -> list[ChatMessage]:
    """The messages, with a text added to the user's last word."""
    if messages and messages[-1].role is MessageRole.USER:
        last = ChatMessage(role=MessageRole.USER, blocks=[*messages[-1].blocks, TextBlock(text=text)])
        return [*messages[:-1], last]
    return [*messages, ChatMessage(role=MessageRole.USER, content=text)]


def _parsed(output_cls: type[Model], response: ChatResponse) -> Model:
    """The object that a finished answer is."""
    text = response.message.content or ""
    reason = response.raw["stop_reason"] if response.raw else None
    if response.raw and response.raw["stars"]["refused"]:
        raise ValueError(f"the guard refused this answer, so there is no {output_cls.__name__}")
    try:
        return output_cls.model_validate_json(text)
    except ValidationError as error:
        # Not by its words, which quote the answer.
        kinds = ", ".join(sorted({problem["type"] for problem in error.errors(include_input=False)}))
        if reason not in (None, "eos", "stop"):
            raise ValueError(
                f"the answer ended before it was a whole {output_cls.__name__} (stop_reason {reason!r}); "
                "raise max_tokens, or the budget that ended it"
            ) from error
        raise ValueError(
            f"the answer, which ended with {reason!r}, is no valid {output_cls.__name__} ({kinds}); raise "
            "max_tokens if it was cut off"
        ) from error
