"""Callback handlers that remember."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler


class Recorder(BaseCallbackHandler):
    """Keeps custom events, new text, and everything else as it was said."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any, Any]] = []
        self.runs: list[Any] = []
        self.tokens: list[str] = []
        self.heard: list[str] = []

    def on_chat_model_start(self, *args: Any, run_id: Any, **kwargs: Any) -> None:
        self.runs.append(run_id)

    def on_llm_start(self, *args: Any, run_id: Any, **kwargs: Any) -> None:
        self.runs.append(run_id)

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, **kwargs: Any) -> None:
        self.tokens.append(token)
        self.heard.append(repr((token, chunk)))

    def on_llm_end(self, response: Any, **kwargs: Any) -> None:
        self.heard.append(repr(response))

    def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
        self.heard.append(repr((error, kwargs)))

    def on_custom_event(self, name: str, data: Any, *, run_id: Any, **kwargs: Any) -> None:
        self.events.append((name, data, run_id))
        self.heard.append(repr((name, data)))

    def named(self, name: str) -> list[Any]:
        return [data for event, data, _ in self.events if event == name]


class AsyncRecorder(AsyncCallbackHandler):
    """The same for tasks."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Any, Any]] = []
        self.runs: list[Any] = []

    async def on_chat_model_start(self, *args: Any, run_id: Any, **kwargs: Any) -> None:
        self.runs.append(run_id)

    async def on_llm_start(self, *args: Any, run_id: Any, **kwargs: Any) -> None:
        self.runs.append(run_id)

    async def on_custom_event(self, name: str, data: Any, *, run_id: Any, **kwargs: Any) -> None:
        self.events.append((name, data, run_id))
