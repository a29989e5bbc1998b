"""LangChain models that only show what a reward model accepted: text, reasoning and tool calls alike.

``ChatStarsGuardedLLM`` is a chat model, ``StarsGuardedLLM`` is text in, text out; both are thin over one
``stars_guard.StarsGuardedLLM``. ``RunnableReward`` lets a chain be the judge. ``StarsGuardMiddleware`` needs
the extra ``agents``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_stars_guard.chat import ChatStarsGuardedLLM
from langchain_stars_guard.events import DECISION_EVENT, TRACE_EVENT
from langchain_stars_guard.llm import StarsGuardedLLM
from langchain_stars_guard.rewards import RunnableReward

if TYPE_CHECKING:
    from langchain_stars_guard.middleware import StarsGuardMiddleware as StarsGuardMiddleware

# The middleware is not listed, so that importing everything needs no extra.
__all__ = ["DECISION_EVENT", "TRACE_EVENT", "ChatStarsGuardedLLM", "RunnableReward", "StarsGuardedLLM"]


def __getattr__(name: str) -> object:
    if name == "StarsGuardMiddleware":
        from langchain_stars_guard.middleware import StarsGuardMiddleware

        return StarsGuardMiddleware
    raise AttributeError(f"module 'langchain_stars_guard' has no attribute {name!r}")
