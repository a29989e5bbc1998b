"""Guarded LLMs on scripts, for the tests: no weights, every attempt known beforehand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events.base import BaseEvent
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from pydantic import Field
from stars_guard import Constant, GuardConfig, Hard, Prompt
from stars_guard import StarsGuardedLLM as Guard
from stars_guard.rewards import RewardModel
from stars_guard.testing import KeywordReward, ScriptedModel

from llama_index.llms.stars_guard import StarsGuardedLLM

BAD = "xyzzy"
"""The word that the scripted reward rejects."""
HARD = GuardConfig(threshold=Constant(target=1.0), acceptance=Hard())

Script = Sequence[Sequence[str]]


def guard_of(
    script: Script | Callable[[Prompt], Script], reward: RewardModel | None = None, config: GuardConfig = HARD
) -> Guard:
    return Guard(ScriptedModel(script), reward or KeywordReward([BAD]), config)


def scripted(script: Script | Callable[[Prompt], Script], **settings: Any) -> StarsGuardedLLM:
    return StarsGuardedLLM(guard=guard_of(script), **settings)


def user(text: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=text)]


def call_text(name: str, /, **arguments: Any) -> str:
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


def last_role(prompt: Prompt) -> str:
    return prompt.messages[-1]["role"]


def last_text(prompt: Prompt) -> str:
    return prompt.as_messages()[-1]["content"]


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


def tools(*functions: Callable[..., Any]) -> list[FunctionTool]:
    return [FunctionTool.from_defaults(function) for function in functions or (add,)]


class Recorder(BaseEventHandler):
    """Keeps every instrumentation event."""

    events: list[BaseEvent] = Field(default_factory=list)

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        self.events.append(event)

    def of(self, kind: type[BaseEvent]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@contextmanager
def recorded() -> Iterator[Recorder]:
    """Record the instrumentation events of a block."""
    handler, root = Recorder(), get_dispatcher()
    root.add_event_handler(handler)
    try:
        yield handler
    finally:
        root.event_handlers.remove(handler)
