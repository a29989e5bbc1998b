"""Custom events: every decision of the guard, for callback handlers. They never carry text that was rejected.

While a LangGraph graph runs, decisions are in its stream of mode ``custom``, too.

Events belong to the run of the model call. langchain-core hands that run to ``_generate``, but not to
``_stream``; so :class:`AnnouncedChatModel` leaves config and run id where ``ensure_config`` finds them.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar
from uuid import UUID, uuid4

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForLLMRun,
    BaseRunManager,
    CallbackManager,
    CallbackManagerForLLMRun,
    Callbacks,
)
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.runnables import RunnableConfig, ensure_config
from langchain_core.runnables.config import set_config_context, var_child_runnable_config
from stars_guard import AsyncGuardedStream, GuardedResult, Judged
from stars_guard.adapters import decision_payload, trace_payload

_T = TypeVar("_T")
_Manager = TypeVar("_Manager", CallbackManager, AsyncCallbackManager)

DECISION_EVENT = "stars_guard.decision"
"""Name of the event for every judged candidate: segment, verdict, and the attempt without its text."""
TRACE_EVENT = "stars_guard.trace"
"""Name of the event that ends an answer: its whole trace. Text of rejected candidates is in it only if
``GuardConfig.keep_rejected_text`` says so."""


class Announcer:
    """Sends the decisions on one answer to the handlers of its run.

    Args:
        run: the run of the model call, if langchain-core passed it on.
        callbacks: those of the model itself.
        prompt: number of the prompt, where one call answers several.
    """

    def __init__(self, run: CallbackManagerForLLMRun | None, callbacks: Callbacks, prompt: int = 0) -> None:
        self._prompt = prompt
        self._manager, self._run_id = _announcing(CallbackManager, run, callbacks)
        self._write = graph_writer()

    def judged(self, event: Judged) -> None:
        """A candidate was judged."""
        self._write({"name": DECISION_EVENT, "data": decision(event, self._prompt)})
        if self._manager.handlers:
            self._manager.on_custom_event(DECISION_EVENT, decision(event, self._prompt), run_id=self._run_id)

    def ended(self, result: GuardedResult) -> None:
        """The answer is over."""
        if self._manager.handlers:
            self._manager.on_custom_event(TRACE_EVENT, trace(result, self._prompt), run_id=self._run_id)


class AsyncAnnouncer:
    """Sends the decisions on one answer to the handlers of its run, for tasks.

    Args:
        run: the run of the model call, if langchain-core passed it on.
        callbacks: those of the model itself.
        prompt: number of the prompt, where one call answers several.
    """

    def __init__(
        self, run: AsyncCallbackManagerForLLMRun | None, callbacks: Callbacks, prompt: int = 0
    ) -> None:
        self._prompt = prompt
        self._manager, self._run_id = _announcing(AsyncCallbackManager, run, callbacks)
        self._write = graph_writer()

    async def judged(self, event: Judged) -> None:
        """A candidate was judged."""
        data = decision(event, self._prompt)
        self._write({"name": DECISION_EVENT, "data": data})
        if self._manager.handlers:
            await self._manager.on_custom_event(DECISION_EVENT, data, run_id=self._run_id)

    async def followed(self, stream: AsyncGuardedStream) -> GuardedResult:
        """Read an answer to its end, and send its decisions as they fall."""
        async for event in stream.events():
            if isinstance(event, Judged):
                await self.judged(event)
        await self.ended(stream.result)
        return stream.result

    async def ended(self, result: GuardedResult) -> None:
        """The answer is over."""
        if self._manager.handlers:
            await self._manager.on_custom_event(TRACE_EVENT, trace(result, self._prompt), run_id=self._run_id)


def graph_writer() -> Callable[[Any], None]:
    """What writes into the ``custom`` stream of the graph that is running; nowhere outside of one."""
    # A graph can only be running if its package was imported, which is none of ours.
    langgraph: Any = sys.modules.get("langgraph.config")
    try:
        writer: Callable[[Any], None] = langgraph.get_stream_writer()
    except (AttributeError, KeyError, RuntimeError):  # no package; a run of something else; no run at all
        return _unheard
    return writer


def _unheard(event: Any) -> None:
    pass


def decision(event: Judged, prompt: int = 0) -> dict[str, Any]:
    """The data of a decision event, ready for JSON."""
    return {"prompt": prompt, **decision_payload(event)}


def trace(result: GuardedResult, prompt: int = 0) -> dict[str, Any]:
    """The data of a trace event, ready for JSON."""
    return {"prompt": prompt, "trace": trace_payload(result)}


class AnnouncedChatModel(BaseChatModel):
    """A chat model whose ``_stream`` can find out in which run it streams."""

    def invoke(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        """See ``BaseChatModel.invoke``, whose arguments these are."""
        config = _numbered(config)
        with set_config_context(config) as context:
            return context.run(super().invoke, input, config, **kwargs)

    async def ainvoke(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AIMessage:
        """See ``BaseChatModel.ainvoke``, whose arguments these are."""
        config = _numbered(config)
        return await _within(config, super().ainvoke(input, config, **kwargs))

    def stream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> Iterator[AIMessageChunk]:
        """See ``BaseChatModel.stream``, whose arguments these are."""
        config = _numbered(config)
        chunks = super().stream(input, config, **kwargs)
        with set_config_context(config) as context:
            while (chunk := context.run(next, chunks, None)) is not None:
                yield chunk

    async def astream(
        self, input: LanguageModelInput, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[AIMessageChunk]:
        """See ``BaseChatModel.astream``, whose arguments these are."""
        config = _numbered(config)
        chunks = super().astream(input, config, **kwargs)
        while (chunk := await _within(config, anext(chunks, None))) is not None:
            yield chunk


async def _within(config: RunnableConfig, step: Awaitable[_T]) -> _T:
    # Set for one step only: a generator that is left between steps must not change its caller's context.
    token = var_child_runnable_config.set(config)
    try:
        return await step
    finally:
        var_child_runnable_config.reset(token)


def _numbered(config: RunnableConfig | None) -> RunnableConfig:
    """The config of this call, with the id that its run will have."""
    config = ensure_config(config)
    config["run_id"] = config.get("run_id") or uuid4()
    return config


def _announcing(
    kind: type[_Manager], run: BaseRunManager | None, callbacks: Callbacks
) -> tuple[_Manager, UUID]:
    """Who hands events to the handlers of a run, and the run's id."""
    if run is not None:
        return kind(run.handlers, tags=run.tags, metadata=run.metadata), run.run_id
    config = ensure_config()
    manager = kind.configure(config.get("callbacks"), callbacks)
    return manager, config.get("run_id") or manager.parent_run_id or uuid4()
