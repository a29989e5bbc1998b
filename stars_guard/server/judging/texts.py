"""From requests to judge texts to what a reward model is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stars_guard.errors import PromptError
from stars_guard.prompts import Message, Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.server.judging.wire import GuardrailRequest, ModerationRequest
from stars_guard.server.openai.faults import bad_request
from stars_guard.types import Channel

ALONE = Prompt(messages=(Message(role="user", content=""),))
"""What a text is taken to answer where that is not said: an empty turn, which says nothing."""


def moderated(body: ModerationRequest) -> list[ScoreRequest]:
    """The texts of a moderation request, one for each result.

    Raises:
        Fault: naming what is no text.
    """
    given = [body.input] if isinstance(body.input, str) else body.input
    parts = [part for part in given if not isinstance(part, str)]
    texts = [text for text in given if isinstance(text, str)]
    if not given or (parts and texts):
        raise bad_request("input is a text, a list of texts, or a list of parts of type text", "input")
    if parts:
        texts = ["".join(_text(part, place) for place, part in enumerate(parts))]
    prompt = Prompt.of(body.prompt) if body.prompt and body.prompt.strip() else ALONE
    return [ScoreRequest(prompt, text, finished=True) for text in texts]


def _text(part: Mapping[str, Any], place: int) -> str:
    if part.get("type") != "text" or not isinstance(part.get("text"), str):
        kind = str(part.get("type"))[:50]
        raise bad_request(f"input[{place}]: only text can be judged here, not {kind!r}", "input")
    text: str = part["text"]
    return text


def guarded(body: GuardrailRequest) -> list[ScoreRequest]:
    """The texts and calls that LiteLLM is about to pass on."""
    prompt = _asked(body.structured_messages or ()) if body.input_type == "response" else ALONE
    answers = [ScoreRequest(prompt, text, finished=True) for text in body.texts or () if text.strip()]
    calls = [
        ScoreRequest(prompt, _call(call), finished=True, channel=Channel.TOOL)
        for call in body.tool_calls or ()
    ]
    return [*answers, *calls]


def _call(call: Mapping[str, Any]) -> str:
    """A call as a judge reads it; whatever it is, all of it is there."""
    function = call.get("function")
    if isinstance(function, dict) and isinstance(function.get("arguments"), str):
        return f"{function.get('name')} {function['arguments']}"
    return str(call)


def _asked(messages: Sequence[Mapping[str, Any]]) -> Prompt:
    """The conversation that is answered, as far as it is text."""
    turns = [
        Message(role=message["role"], content=_content(message.get("content")))
        for message in messages
        if isinstance(message.get("role"), str)
    ]
    while turns and turns[-1]["role"] == "assistant":
        turns.pop()
    try:
        return Prompt.of(turns)
    except PromptError:
        return ALONE


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "".join(str(part.get("text") or "") for part in parts if isinstance(part, dict))
