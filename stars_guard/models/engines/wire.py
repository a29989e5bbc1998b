"""What goes over the wire in the same way for every server: messages, tools, sampling, schemas."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from stars_guard.algorithm.config import SamplingParams
from stars_guard.errors import PromptError
from stars_guard.models.engines.profiles import ServerProfile
from stars_guard.prompts import Message, Prompt

CallBody: TypeAlias = dict[str, Any]
"""A call, as the JSON object that is sent."""
_NEUTRAL: Mapping[str, float] = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}


def sampling_fields(profile: ServerProfile, params: SamplingParams) -> dict[str, Any]:
    """The fields that make a server sample as ``params`` say."""
    values = {setting: getattr(params, setting) for setting in profile.sampling}
    if values.get("top_k") == 0:
        values["top_k"] = profile.every_token
    fields = {**profile.sampling_extra}
    fields |= {profile.sampling[setting]: value for setting, value in values.items()}
    if profile.sampling_json is None:
        return fields
    # At temperature 0 the server leaves sampling off by itself, but only if it is told so beside the JSON.
    return {profile.sampling_json: json.dumps(fields), "temperature": params.temperature}


def check_sampling(profile: ServerProfile, params: SamplingParams) -> None:
    """Refuse what the server could not do.

    Raises:
        PromptError: it has no field for a setting that is in use.
    """
    for setting, neutral in _NEUTRAL.items():
        value = getattr(params, setting)
        if setting not in profile.sampling and value != neutral:
            raise PromptError(f"{profile.name} cannot sample with {setting}={value}; leave it at {neutral}")


def refuse_grammars(prompt: Prompt, params: SamplingParams) -> None:
    """Refuse what needs a grammar: an engine's begins anew with every call, so it goes with no segments.

    Raises:
        PromptError: a schema or a forced tool call is asked for.
    """
    if params.response_schema is not None or (prompt.tools and prompt.tools.forced):
        raise PromptError(
            "an engine forgets at each segment how far it is in a schema or a forced tool call; use a local "
            "model, or an engine with guarantee='whole'"
        )


def wire_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Messages as OpenAI's API has them: arguments of calls are JSON text there."""
    return [_wired(message) for message in messages]


def chat_messages(prompt: Prompt) -> list[dict[str, Any]]:
    """The messages of a prompt.

    Raises:
        PromptError: it is a raw text.
    """
    if prompt.text is not None:
        raise PromptError("a raw text cannot be continued in a chat; give messages")
    return wire_messages(prompt.messages)


def _wired(message: Message) -> dict[str, Any]:
    calls = [
        {**call, "function": {**call["function"], "arguments": json.dumps(call["function"]["arguments"])}}
        for call in message.get("tool_calls", ())
    ]
    return {**message, **({"tool_calls": calls} if calls else {})}


def tool_fields(prompt: Prompt) -> dict[str, Any]:
    """The tools of a prompt, and what is to be done with them."""
    tools = prompt.tools
    if tools is None:
        return {}
    named = {"type": "function", "function": {"name": tools.choice}}
    words: dict[str, Any] = {"auto": "auto", "none": "none", "any": "required"}
    return {
        "tools": [dict(schema) for schema in tools.schemas],
        "tool_choice": words.get(tools.choice, named),
        "parallel_tool_calls": tools.parallel,
    }


def schema_fields(params: SamplingParams) -> dict[str, Any]:
    """The schema that the answer is to satisfy."""
    if params.response_schema is None:
        return {}
    schema = {"name": "answer", "schema": json.loads(params.response_schema), "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}
