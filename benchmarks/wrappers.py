"""What the framework classes cost beyond the core, on a scripted model whose tokens cost nothing.

    python -m benchmarks.wrappers [--repeats 60]

Core and wrapper take turns; medians are compared. An answer of one segment gives the cost of a call, one of
64 segments that of a segment. Aims: under 1 ms a call and under 0.1 ms a segment.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated

import typer
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableConfig
from langchain_stars_guard import ChatStarsGuardedLLM
from langchain_stars_guard import StarsGuardedLLM as TextModel
from llama_index.core.llms import ChatMessage
from llama_index.llms.stars_guard import StarsGuardedLLM as IndexLLM

from stars_guard import Constant, GuardConfig, Hard, StarsGuardedLLM
from stars_guard.testing import KeywordReward, ScriptedModel

SEGMENTS = 64
PROMPT = "Hello"

Answer = Callable[[], object]
Way = Callable[[StarsGuardedLLM], Answer]
"""Prepares one way to get an answer from a guard."""

LOOP = asyncio.Runner()


def guard(segments: int) -> StarsGuardedLLM:
    """A guard whose answer has that many segments."""
    config = GuardConfig(threshold=Constant(target=1.0), acceptance=Hard())
    return StarsGuardedLLM(ScriptedModel([["word "]] * segments), KeywordReward([]), config)


def extra_milliseconds(core: Way, wrapper: Way, segments: int, repeats: int) -> float:
    """Median time of the wrapper over that of the core, in milliseconds an answer.

    Args:
        core: how to get an answer from the guard itself.
        wrapper: how to get it from the framework's class.
        segments: of the answer.
        repeats: answers of each.
    """
    llm = guard(segments)
    ways = core(llm), wrapper(llm)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for answer, taken in zip(ways, times, strict=True):
            begun = time.perf_counter()
            answer()
            taken.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times[1]) - statistics.median(times[0])


def measured(name: str, core: Way, wrapper: Way, repeats: int) -> str:
    """One line of the table.

    Args:
        name: of the line.
        core: as for :func:`extra_milliseconds`, like the others.
        wrapper: as there.
        repeats: as there.
    """
    call = extra_milliseconds(core, wrapper, 1, repeats)
    whole = extra_milliseconds(core, wrapper, SEGMENTS, repeats)
    return f"| {name} | {call:.2f} | {(whole - call) / (SEGMENTS - 1):.3f} |"


async def _awaited(answer: Awaitable[object]) -> object:
    return await answer


def generate(llm: StarsGuardedLLM) -> Answer:
    """The core, whole answers."""
    return lambda: llm.generate(PROMPT)


def stream(llm: StarsGuardedLLM) -> Answer:
    """The core, piece by piece."""
    return lambda: list(llm.stream(PROMPT))


def agenerate(llm: StarsGuardedLLM) -> Answer:
    """The core, for tasks."""
    return lambda: LOOP.run(_awaited(llm.agenerate(PROMPT)))


def chat(call: Callable[[ChatStarsGuardedLLM], object]) -> Way:
    """LangChain's chat model."""
    return lambda llm: partial(call, ChatStarsGuardedLLM(guard=llm))


def text(call: Callable[[TextModel], object]) -> Way:
    """LangChain's text model."""
    return lambda llm: partial(call, TextModel(guard=llm))


def index(call: Callable[[IndexLLM], object]) -> Way:
    """LlamaIndex's LLM."""
    return lambda llm: partial(call, IndexLLM(guard=llm))


MESSAGES = [ChatMessage(PROMPT)]
HANDLED: RunnableConfig = {"callbacks": [BaseCallbackHandler()]}
WAYS: dict[str, tuple[Way, Way]] = {
    "LangChain chat, invoke": (generate, chat(lambda llm: llm.invoke(PROMPT))),
    "LangChain chat, invoke, a handler": (generate, chat(lambda llm: llm.invoke(PROMPT, HANDLED))),
    "LangChain chat, stream": (stream, chat(lambda llm: list(llm.stream(PROMPT)))),
    "LangChain chat, ainvoke": (agenerate, chat(lambda llm: LOOP.run(_awaited(llm.ainvoke(PROMPT))))),
    "LangChain text, invoke": (generate, text(lambda llm: llm.invoke(PROMPT))),
    "LangChain text, stream": (stream, text(lambda llm: list(llm.stream(PROMPT)))),
    "LlamaIndex chat": (generate, index(lambda llm: llm.chat(MESSAGES))),
    "LlamaIndex stream_chat": (stream, index(lambda llm: list(llm.stream_chat(MESSAGES)))),
    "LlamaIndex achat": (agenerate, index(lambda llm: LOOP.run(_awaited(llm.achat(MESSAGES))))),
    "LlamaIndex complete": (generate, index(lambda llm: llm.complete(PROMPT))),
}


def main(repeats: Annotated[int, typer.Option(help="Answers timed per figure.")] = 60) -> None:
    """Print a table of milliseconds."""
    for core, wrapper in WAYS.values():
        extra_milliseconds(core, wrapper, 1, 3)
    gc.disable()
    print("| wrapper | ms a call | ms a segment |\n|---|---|---|")
    for name, (core, wrapper) in WAYS.items():
        print(measured(name, core, wrapper, repeats))


if __name__ == "__main__":
    typer.run(main)
