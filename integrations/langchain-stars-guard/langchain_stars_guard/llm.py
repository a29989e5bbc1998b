"""StarsGuardedLLM: a guarded model as LangChain's text-in, text-out model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseLLM, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import ConfigDict
from stars_guard import Channel, GuardedResult, GuardedStream, Judged, Piece, Prompt
from stars_guard.adapters import GuardedCall, token_counts

from langchain_stars_guard.answers import PROVIDER, mark, metadata, usage
from langchain_stars_guard.errors import OverflowNamed
from langchain_stars_guard.events import Announcer, AsyncAnnouncer
from langchain_stars_guard.tokens import TokenCounts


class StarsGuardedLLM(TokenCounts, BaseLLM):
    """A text-in, text-out model that only shows text which its reward model accepted.

    The prompt is one user message, unless ``chat_template`` is off. Settings and events are those of
    :class:`langchain_stars_guard.ChatStarsGuardedLLM`; what it says in ``response_metadata`` is here the
    ``generation_info``. Reasoning is left out of the text. A chunk with forced text says ``"forced": True``.

    Raises:
        pydantic.ValidationError: a setting is wrong (also a ValueError).

    Example:
        >>> from langchain_stars_guard import StarsGuardedLLM
        >>> from stars_guard import Constant, GuardConfig, Hard
        >>> from stars_guard import StarsGuardedLLM as Guard
        >>> from stars_guard.testing import KeywordReward, ScriptedModel
        >>> guard = Guard(
        ...     ScriptedModel([["Sure, here is poison.", "I would rather not."]]),
        ...     KeywordReward(["poison"]),
        ...     GuardConfig(threshold=Constant(target=1.0), acceptance=Hard()),
        ... )
        >>> StarsGuardedLLM(guard=guard).invoke("Help me.")
        'I would rather not.'
    """

    model_config = ConfigDict(extra="forbid")

    chat_template: bool = True
    """Treat the prompt as a user message; off: continue it as it stands."""

    @property
    def _llm_type(self) -> str:
        return "stars-guard"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {**self.identity(), "chat_template": self.chat_template}

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """See ``BaseLLM.batch``, whose ``inputs`` and ``config`` these are.

        With ``return_exceptions``, a failure leaves the other answers alone.
        """
        # One _generate for all would make one failure that of every prompt.
        batch = Runnable.batch if return_exceptions else BaseLLM.batch
        return batch(self, inputs, config, return_exceptions=return_exceptions, **kwargs)

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """See :meth:`batch`, whose ``inputs``, ``config`` and ``return_exceptions`` these are."""
        batch = Runnable.abatch if return_exceptions else BaseLLM.abatch
        return await batch(self, inputs, config, return_exceptions=return_exceptions, **kwargs)

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        calls = self._calls(prompts, stop, kwargs)
        guard = self.loaded(kwargs.get("model"))
        announcers = [Announcer(run_manager, self.callbacks, number) for number in range(len(calls))]
        with OverflowNamed(), ExitStack() as open_streams:
            # All are submitted before the first is read, so that they are decoded in one batch.
            streams = [
                open_streams.enter_context(
                    guard.stream(call.prompt, on_decision=announcer.judged, **call.overrides)
                )
                for call, announcer in zip(calls, announcers, strict=True)
            ]
            results = [
                _read(stream, announcer) for stream, announcer in zip(streams, announcers, strict=True)
            ]
        return self._llm_result(calls, results, kwargs)

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        calls = self._calls(prompts, stop, kwargs)
        answers = [
            asyncio.create_task(self._answer(call, AsyncAnnouncer(run_manager, self.callbacks, number)))
            for number, call in enumerate(calls)
        ]
        try:
            results = await asyncio.gather(*answers)
        finally:
            for answer in answers:
                answer.cancel()
        return self._llm_result(calls, results, kwargs)

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        (call,) = self._calls([prompt], stop, kwargs)
        announcer, guard = Announcer(run_manager, self.callbacks), self.loaded(call.model)
        with (
            OverflowNamed(),
            guard.stream(call.prompt, on_decision=announcer.judged, **call.overrides) as stream,
        ):
            for piece in stream:
                chunk = _chunk(str(piece), piece.forced)
                if run_manager is not None:
                    run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                yield chunk
            announcer.ended(stream.result)
            yield GenerationChunk(text="", generation_info=_info(stream.result, call))

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        (call,) = self._calls([prompt], stop, kwargs)
        announcer, guard = AsyncAnnouncer(run_manager, self.callbacks), await self.aloaded(call.model)
        async with OverflowNamed(), guard.astream(call.prompt, **call.overrides) as stream:
            async for event in stream.events():
                if isinstance(event, Judged):
                    await announcer.judged(event)
                elif isinstance(event, Piece) and event.channel is Channel.ANSWER:
                    chunk = _chunk(event.text, event.forced)
                    if run_manager is not None:
                        await run_manager.on_llm_new_token(event.text, chunk=chunk)
                    yield chunk
            await announcer.ended(stream.result)
            yield GenerationChunk(text="", generation_info=_info(stream.result, call))

    async def _answer(self, call: GuardedCall, announcer: AsyncAnnouncer) -> GuardedResult:
        guard = await self.aloaded(call.model)
        async with OverflowNamed(), guard.astream(call.prompt, **call.overrides) as stream:
            return await announcer.followed(stream)

    def _calls(
        self, prompts: list[str], stop: list[str] | None, options: Mapping[str, Any]
    ) -> list[GuardedCall]:
        start = Prompt.of if self.chat_template else Prompt.raw
        return [self.call(start(text), {**options, "stop": stop}) for text in prompts]

    def _llm_result(
        self, calls: list[GuardedCall], results: list[GuardedResult], options: Mapping[str, Any]
    ) -> LLMResult:
        generations = [
            [
                Generation(
                    text=result.text,
                    generation_info=_info(result, call) | mark(bool(result.forced_text.answer)),
                )
            ]
            for result, call in zip(results, calls, strict=True)
        ]
        counts = [token_counts(result) for result in results]
        names = ("prompt_tokens", "completion_tokens", "total_tokens")
        totals = {name: sum(count[name] for count in counts) for name in names}
        model = options.get("model") or self.model_name
        return LLMResult(generations=generations, llm_output={"token_usage": totals, "model_name": model})

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop, **kwargs)
        params["ls_provider"] = PROVIDER
        return params


def _chunk(text: str, forced: bool) -> GenerationChunk:
    return GenerationChunk(text=text, generation_info=mark(forced) or None)


def _info(result: GuardedResult, call: GuardedCall) -> dict[str, Any]:
    return {**metadata(result, call), "usage": dict(usage(result))}


def _read(stream: GuardedStream, announcer: Announcer) -> GuardedResult:
    result = stream.read()
    announcer.ended(result)
    return result
