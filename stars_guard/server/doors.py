"""The doors by which an answer is asked for. Each is a translation into what one guard is asked, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, TypeAlias

from fastapi import Body, FastAPI, Request
from starlette.responses import Response

from stars_guard.server.anthropic import conversation as anthropic
from stars_guard.server.anthropic.faults import MessagesError
from stars_guard.server.anthropic.wire import CountRequest, MessagesRequest, TokenCount
from stars_guard.server.anthropic.words import MessageWords
from stars_guard.server.entry.keys import ApiKey
from stars_guard.server.generation import Door, Generation
from stars_guard.server.openai.faults import renamed_fields
from stars_guard.server.openai.sse import chat_words, text_words
from stars_guard.server.openai.translate import Asked, Translator
from stars_guard.server.openai.wire import AnswerRequest, ChatRequest, CompletionRequest
from stars_guard.server.responses import conversation as responses
from stars_guard.server.responses.wire import ResponseRequest
from stars_guard.server.responses.words import ResponseWords
from stars_guard.server.service import Service

Translate: TypeAlias = Callable[[Any, int | None], Asked]
"""What the guard is asked, given the fields of a request and the longest answer that its key may ask for."""
_CHAT, _TEXT = Door("chatcmpl-", chat_words), Door("cmpl-", text_words)
_RESPONSE = Door("resp_", ResponseWords, responses.CHAT_FIELDS)
_MESSAGE = Door("msg_", MessageWords, anthropic.CHAT_FIELDS)

_ANSWER = {
    "application/json": {"schema": {"type": "object"}},
    "text/event-stream": {},  # its events are the chunks of the API
}
_STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"description": "In the words of the API, with `stars` and `guardrails`.", "content": _ANSWER}
}

FAILED = (400, 401, 404, 405, 408, 413, 421, 422, 429, 500, 502, 503, 504)
"""Statuses of requests that get no answer."""
_ERROR = {"model": MessagesError, "description": "An `error` object says what is wrong."}
_FAILURES: dict[int | str, dict[str, Any]] = dict.fromkeys(FAILED, _ERROR)


class Answers:
    """Reads requests for an answer, and has them answered.

    Args:
        service: what requests share.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._generation = Generation(service)

    async def __call__(
        self, http: Request, body: AnswerRequest, translate: Translate, door: Door
    ) -> Response:
        """The response to a request.

        Args:
            http: the request as it came.
            body: its fields.
            translate: makes of them what the guard is asked.
            door: which way it came.

        Raises:
            Fault: the request is wrong.
            PromptError: the prompt cannot be served.
        """
        asked = await self.asked(http, body, translate)
        with renamed_fields(door.fields):
            asked = await self._service.fitted(asked)
        return self._generation.answer(http, body, asked, door)

    async def asked(self, http: Request, body: AnswerRequest, translate: Translate) -> Asked:
        """What a request asks of the guard.

        Args:
            http: the request as it came.
            body: its fields.
            translate: makes of them what the guard is asked.

        Raises:
            Fault: the request is wrong.
        """
        self._service.translator.check_model(body.model)
        key: ApiKey | None = http.state.key
        most = key.max_tokens if key else None
        return await self._service.workers.run(http.state.size, translate, body, most)


def through_chat(
    chat_of: Callable[[Any], ChatRequest], fields: Mapping[str, str], translator: Translator
) -> Translate:
    """What a request of another form asks of the guard: what a chat request asks that says the same.

    Args:
        chat_of: the chat request, given the fields of the other.
        fields: what the other form calls fields of a chat request.
        translator: reads chat requests.
    """

    def translate(body: Any, most: int | None) -> Asked:
        chat = chat_of(body)
        with renamed_fields(fields):
            return translator.chat(chat, most)

    return translate


of_response = partial(through_chat, responses.chat_of_items, responses.CHAT_FIELDS)
of_message = partial(through_chat, anthropic.chat_of_blocks, anthropic.CHAT_FIELDS)


def add_answers(app: FastAPI, service: Service) -> None:
    """Add the endpoints that answer.

    Args:
        app: gets them.
        service: what requests share.
    """
    answers, translator = Answers(service), service.translator

    @app.post("/v1/chat/completions", tags=["answers"], responses=_STREAMED)
    async def chat_completions(request: Request, body: Annotated[ChatRequest, Body()]) -> Response:
        """Answer a conversation; with ``stream``, every event holds accepted text only."""
        return await answers(request, body, translator.chat, _CHAT)

    @app.post("/v1/completions", tags=["answers"], responses=_STREAMED)
    async def completions(request: Request, body: Annotated[CompletionRequest, Body()]) -> Response:
        """Continue a text as it stands."""
        return await answers(request, body, translator.completion, _TEXT)

    @app.post("/v1/responses", tags=["answers"], responses=_STREAMED)
    async def response(request: Request, body: Annotated[ResponseRequest, Body()]) -> Response:
        """Answer items; nothing is stored, so every request has all of them."""
        return await answers(request, body, of_response(translator), _RESPONSE)

    @app.post("/v1/messages", tags=["answers"], responses=_STREAMED | _FAILURES)
    async def messages(request: Request, body: Annotated[MessagesRequest, Body()]) -> Response:
        """Answer a conversation in Anthropic's form."""
        return await answers(request, body, of_message(translator), _MESSAGE)

    @app.post("/v1/messages/count_tokens", tags=["answers"], responses=_FAILURES)
    async def count_tokens(request: Request, body: Annotated[CountRequest, Body()]) -> TokenCount:
        """How long a conversation is, for the model."""
        asked = await answers.asked(request, body, of_message(translator))
        return TokenCount(
            input_tokens=await service.counted(request.state.exchange, asked.requests[0].prompt)
        )
