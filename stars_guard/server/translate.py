"""From the fields of a request to what the guard takes: prompt, sampling, settings and budget."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from stars_guard.config import Budget, GuardConfig, SamplingParams
from stars_guard.errors import ConfigurationError, PromptError
from stars_guard.job import Request
from stars_guard.randomness import address_hash, fresh_seed
from stars_guard.server.config import ApiKey, RequestLimits, ServerConfig
from stars_guard.server.faults import Fault, refused
from stars_guard.server.wire import ChatRequest, CompletionRequest, Stars, Turn
from stars_guard.types import Message, MessageToolCall, Prompt, Tools

_CHOICE = -3
"""The step of the random numbers from which the choices of one request get their seeds."""
_SEEDS = 2**63

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "logprobs": (None, False, 0),
    "top_logprobs": (None, 0),
    "echo": (None, False),
    "suffix": (None, ""),
    "best_of": (None, 1),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "prediction": (None,),
    "web_search_options": (None,),
}
"""Fields that are not served, and the values with which they ask for nothing."""


class Translator:
    """Reads requests by what the server is set up for.

    Args:
        config: the server's.
        guard: how to guard unless a request says otherwise.
    """

    def __init__(self, config: ServerConfig, guard: GuardConfig) -> None:
        self._config = config
        self._guard = guard

    def chat(self, asked: ChatRequest, key: ApiKey | None) -> list[Request]:
        """One request of the guard for each choice.

        Raises:
            Fault: naming the field that is wrong.
        """
        tools = _tools(asked)
        try:
            prompt = Prompt.of([_message(turn, n) for n, turn in enumerate(asked.messages)], tools)
        except PromptError as error:
            raise refused(str(error), "messages") from error
        schema = _schema(asked.response_format)
        longest = asked.max_completion_tokens or asked.max_tokens
        return self._choices(asked, prompt, longest, schema, key)

    def completion(self, asked: CompletionRequest, key: ApiKey | None) -> list[Request]:
        """Likewise for a text that is continued."""
        texts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
        if len(texts) != 1:
            raise refused(f"{len(texts)} prompts were sent; send one a request", "prompt")
        try:
            prompt = Prompt.raw(texts[0])
        except PromptError as error:
            raise refused(str(error), "prompt") from error
        return self._choices(asked, prompt, asked.max_tokens, None, key)

    def conversation(self, prompt: str | None, turns: Sequence[Turn] | None) -> Prompt:
        """The prompt of a text that is to be scored."""
        if (prompt is None) == (not turns):
            raise refused("send either prompt or messages", "prompt")
        try:
            return Prompt.of(prompt or [_message(turn, n) for n, turn in enumerate(turns or ())])
        except PromptError as error:
            raise refused(str(error), "prompt" if prompt is not None else "messages") from error

    def check_model(self, model: str | None) -> None:
        """The model's name must be ours, if one is given.

        Raises:
            Fault: 404.
        """
        if model not in (None, self._config.served_name):
            message = f"there is no model {model!r:.200}; this server has {self._config.served_name!r}"
            raise Fault(404, message, param="model", code="model_not_found")

    def _choices(
        self,
        asked: ChatRequest | CompletionRequest,
        prompt: Prompt,
        max_tokens: int | None,
        schema: str | None,
        key: ApiKey | None,
    ) -> list[Request]:
        _check_served(asked)
        limits, count = self._config.limits, asked.n or 1
        if count > limits.max_choices:
            raise refused(f"n={count} is over the {limits.max_choices} of this server", "n")
        if len(prompt.as_text()) > limits.max_prompt_characters:
            message = f"the prompt is longer than {limits.max_prompt_characters} characters"
            raise refused(message, "messages", "context_length_exceeded")
        sampling = self._sampling(asked, self._longest(max_tokens, key), schema)
        config, budget = self._guarding(asked.stars or Stars())
        return [
            Request(prompt, sampling.changed(seed=seed), config, budget) for seed in _seeds(asked.seed, count)
        ]

    def _longest(self, asked: int | None, key: ApiKey | None) -> int:
        most = self._config.limits.max_tokens
        if key is not None and key.max_tokens is not None:
            most = min(most, key.max_tokens)
        if asked is not None and asked > most:
            raise refused(f"max_tokens={asked} is over the {most} that are allowed here", "max_tokens")
        return asked or min(most, self._config.limits.default_tokens)

    def _sampling(
        self, asked: ChatRequest | CompletionRequest, max_tokens: int, schema: str | None
    ) -> SamplingParams:
        names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "stop")
        given = {name: value for name in names if (value := getattr(asked, name)) is not None}
        if isinstance(given.get("stop"), list):
            given["stop"] = tuple(given["stop"])
        try:
            return self._config.sampling.changed(max_tokens=max_tokens, response_schema=schema, **given)
        except ConfigurationError as error:
            raise refused(str(error)) from error

    def _guarding(self, stars: Stars) -> tuple[GuardConfig, Budget]:
        _check_allowed(stars, self._config.limits.requests)
        try:
            config = self._guard.adjusted(
                target=stars.target,
                beta=stars.beta,
                segment_tokens=stars.segment_tokens,
                max_attempts=stars.max_attempts,
            )
        except ConfigurationError as error:
            raise refused(str(error), "stars") from error
        most = self._config.budget
        return config, Budget(
            max_seconds=_least(stars.max_seconds, most.max_seconds, self._config.limits.max_seconds),
            max_proposed_tokens=_least(stars.max_proposed_tokens, most.max_proposed_tokens),
            max_reward_calls=_least(stars.max_reward_calls, most.max_reward_calls),
        )


def _least(*bounds: float | None) -> Any:
    return min((one for one in bounds if one is not None), default=None)


def _seeds(seed: int | None, count: int) -> list[int]:
    """A seed for each choice; the first is the request's own, if it is one that the guard takes."""
    first = fresh_seed() if seed is None else seed % _SEEDS
    return [first, *(address_hash(first, 0, choice, _CHOICE) % _SEEDS for choice in range(1, count))]


def _check_served(asked: ChatRequest | CompletionRequest) -> None:
    for name, value in (asked.model_extra or {}).items():
        if name in _NEUTRAL and value not in _NEUTRAL[name]:
            raise refused(f"{name} is not served; leave it out", name, "unsupported_parameter")


def _check_allowed(stars: Stars, limits: RequestLimits) -> None:
    for name, value in stars.model_dump(exclude_none=True).items():
        allowed = getattr(limits, name)
        if allowed is None:
            raise refused(f"stars.{name} is not a request's to choose on this server", f"stars.{name}")
        if problem := allowed.problem(value):
            raise refused(f"stars.{name}={value:g}: {problem}", f"stars.{name}")


def _message(turn: Turn, place: int) -> Message:
    """A turn as chat templates take it."""
    role = "system" if turn.role == "developer" else turn.role
    message = Message(role=role, content=_text(turn.content, place))
    if turn.tool_calls:
        message["tool_calls"] = [_call(call, place) for call in turn.tool_calls]
    if turn.tool_call_id:
        message["tool_call_id"] = turn.tool_call_id
    if turn.name:
        message["name"] = turn.name
    return message


def _text(content: str | list[dict[str, Any]] | None, place: int) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    for part in content:
        if part.get("type") not in ("text", "refusal") or not isinstance(part.get(part["type"]), str):
            kind = str(part.get("type"))[:50]
            raise refused(f"messages[{place}]: only text can be read here, not {kind!r}", "messages")
    return "".join(part[part["type"]] for part in content)


def _call(call: dict[str, Any], place: int) -> MessageToolCall:
    function = call.get("function")
    try:
        name, arguments = function["name"], function["arguments"]  # type: ignore[index]
        parsed = json.loads(arguments or "{}") if isinstance(arguments, str) else arguments
    except (TypeError, KeyError, ValueError) as error:
        message = f"messages[{place}].tool_calls: a call needs function.name and JSON function.arguments"
        raise refused(message, "messages") from error
    return {
        "id": str(call.get("id", "")),
        "type": "function",
        "function": {"name": name, "arguments": parsed},
    }


def _tools(asked: ChatRequest) -> Tools | None:
    if not asked.tools:
        return None
    try:
        return Tools(tuple(asked.tools), _choice(asked.tool_choice), asked.parallel_tool_calls is not False)
    except (PromptError, AttributeError, TypeError) as error:
        raise refused(f"tools: {error}", "tools") from error


def _choice(choice: str | dict[str, Any] | None) -> str:
    """The tool choice in our words."""
    if choice is None:
        return "auto"
    if isinstance(choice, str):
        if choice not in ("auto", "none", "required"):
            raise refused("tool_choice is auto, none, required, or names a function", "tool_choice")
        return "any" if choice == "required" else choice
    function = choice.get("function")
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or name in ("auto", "none", "any"):
        raise refused('tool_choice names a function as {"type": "function", "function": ...}', "tool_choice")
    return name


def _schema(wanted: dict[str, Any] | None) -> str | None:
    """The JSON schema that the answer must satisfy, if any."""
    kind = (wanted or {}).get("type", "text")
    if kind == "text":
        return None
    if kind == "json_object":
        return '{"type": "object"}'
    named = (wanted or {}).get("json_schema")
    schema = named.get("schema") if isinstance(named, dict) else None
    if kind != "json_schema" or not isinstance(schema, dict):
        message = "response_format is text, json_object, or json_schema with a schema"
        raise refused(message, "response_format")
    return json.dumps(schema)
