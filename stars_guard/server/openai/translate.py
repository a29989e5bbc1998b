"""From the fields of a request to what the guard takes: prompt, sampling, settings and budget."""

from __future__ import annotations

from typing import Any

from stars_guard.algorithm.config import Budget, GuardConfig, SamplingParams
from stars_guard.algorithm.random_numbers import address_hash, fresh_seed
from stars_guard.errors import ConfigurationError, PromptError
from stars_guard.loop.request import Request
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.server.config import ApiKey, RequestLimits, ServerConfig
from stars_guard.server.openai.conversation import conversation, schema_of, tools_of
from stars_guard.server.openai.faults import Fault, refused
from stars_guard.server.openai.wire import ChatRequest, CompletionRequest, ScoreBody, Stars

_CHOICE = -3
"""The step of the random numbers from which the choices of one request get their seeds."""
_SEEDS = 2**63

_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "stop", "stop_token_ids")
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "logprobs": (None, False, 0),
    "top_logprobs": (None, 0),
    "prompt_logprobs": (None,),
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
    "web_search_options": (None,),
    "reasoning_effort": (None,),
    "verbosity": (None, "medium"),
    "min_tokens": (None, 0),
    "ignore_eos": (None, False),
    "bad_words": (None, []),
    "allowed_token_ids": (None,),
    "use_beam_search": (None, False),
    "length_penalty": (None, 1),
    "truncate_prompt_tokens": (None,),
    "add_generation_prompt": (None, True),
    "continue_final_message": (None, False),
    "chat_template": (None,),
    "chat_template_kwargs": (None, {}),
    "guided_json": (None,),
    "guided_regex": (None,),
    "guided_choice": (None,),
    "guided_grammar": (None,),
    "structured_outputs": (None,),
}
"""Fields that other servers know and that are not served, and the values with which they ask for nothing."""


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
        prompt, schema = conversation(asked.messages, tools_of(asked)), schema_of(asked.response_format)
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

    def to_score(self, asked: ScoreBody) -> ScoreRequest:
        """A text that is to be scored.

        Raises:
            Fault: naming the field that is wrong.
        """
        if (asked.prompt is None) == (not asked.messages):
            raise refused("send either prompt or messages", "prompt")
        try:
            prompt = conversation(asked.messages) if asked.messages else Prompt.of(asked.prompt or "")
        except PromptError as error:
            raise refused(str(error), "prompt") from error
        self._check_length(len(prompt.as_text()) + len(asked.response))
        return ScoreRequest(prompt, asked.response, asked.finished)

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
        self._check_length(len(prompt.as_text()))
        sampling = self._sampling(asked, self._longest(max_tokens, key), schema)
        config, budget = self._guarding(asked.stars or Stars())
        return [
            Request(prompt, sampling.changed(seed=seed), config, budget) for seed in _seeds(asked.seed, count)
        ]

    def _check_length(self, characters: int) -> None:
        most = self._config.limits.max_prompt_characters
        if characters > most:
            message = f"the prompt is longer than {most} characters"
            raise refused(message, "messages", "context_length_exceeded")

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
        given = {name: value for name in _SAMPLING if (value := getattr(asked, name)) is not None}
        listed = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
        return self._config.sampling.changed(
            max_tokens=max_tokens, response_schema=schema, **{**given, **listed}
        )

    def _guarding(self, stars: Stars) -> tuple[GuardConfig, Budget]:
        _check_allowed(stars, self._config.limits.requests)
        if stars.trace and not self._config.traces.enabled:
            raise refused("this server keeps no traces; leave stars.trace out", "stars.trace")
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
    for name, value in stars.model_dump(exclude_none=True, exclude={"trace"}).items():
        allowed = getattr(limits, name)
        if allowed is None:
            raise refused(f"stars.{name} is not a request's to choose on this server", f"stars.{name}")
        if problem := allowed.problem(value):
            raise refused(f"stars.{name}={value:g}: {problem}", f"stars.{name}")
