"""From the fields of a request to what the guard takes: prompt, sampling, settings and budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stars_guard.algorithm.acceptance import AcceptanceKey
from stars_guard.algorithm.config import Budget, GuardConfig, SamplingParams
from stars_guard.algorithm.random_numbers import address_hash, fresh_seed
from stars_guard.errors import PromptError
from stars_guard.loop.events import Request
from stars_guard.prompts import Prompt, Tools
from stars_guard.rewards.base import ScoreRequest
from stars_guard.server.openai.answers import AnswerLength
from stars_guard.server.openai.conversation import argument_characters, prompt_of, schema_of, tools_of
from stars_guard.server.openai.faults import Fault, bad_request
from stars_guard.server.openai.limits import SizeLimits
from stars_guard.server.openai.policy import RequestPolicy
from stars_guard.server.openai.unserved import NEUTRAL, refuse_unserved
from stars_guard.server.openai.wire import ChatRequest, CompletionRequest, ScoreBody, Stars, Turn

_CHOICE = -3
"""The step of the random numbers from which the choices of one request get their seeds."""
_SEEDS = 2**63


@dataclass(frozen=True, slots=True)
class Asked:
    """What one HTTP request asks of the guard."""

    requests: list[Request]
    """One for each choice."""
    length: AnswerLength
    """Longest answer that it asked for, and that it gets."""

    def shortened(self, granted: int) -> Asked:
        """A copy whose answers are no longer than ``granted`` tokens."""
        requests = [
            replace(request, sampling=request.sampling.changed(max_tokens=granted))
            for request in self.requests
        ]
        return Asked(requests, replace(self.length, granted=granted))


@dataclass(frozen=True)
class Translator:
    """Reads requests by what the server is set up for."""

    served_name: str
    """What clients call the model."""
    policy: RequestPolicy
    """What a request may set, and what holds where it does not."""
    sizes: SizeLimits
    """How long prompts and answers may be."""
    traces: bool
    """Whether a request may ask for traces."""
    acceptance_key: AcceptanceKey
    """What acceptance draws are hashed with, so that a client's ``seed`` does not choose them."""

    def chat(self, body: ChatRequest, most_tokens: int | None = None) -> Asked:
        """What a chat request asks of the guard.

        Args:
            body: the chat request.
            most_tokens: longest answer that its key may ask for; None is that of the server.

        Raises:
            Fault: naming the field that is wrong.
        """
        prompt, schema = self._prompt(body.messages, tools_of(body)), schema_of(body.response_format)
        longest = body.max_completion_tokens or body.max_tokens
        return self._choices(body, prompt, (longest, most_tokens), schema)

    def completion(self, body: CompletionRequest, most_tokens: int | None = None) -> Asked:
        """What a request to continue a text asks of the guard.

        Args:
            body: the text, and how it is continued.
            most_tokens: longest answer that its key may ask for; None is that of the server.

        Raises:
            Fault: naming the field that is wrong.
        """
        texts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
        if len(texts) != 1:
            raise bad_request(f"{len(texts)} prompts were sent; send one a request", "prompt")
        try:
            prompt = Prompt.raw(texts[0])
        except PromptError as error:
            raise bad_request(str(error), "prompt") from error
        return self._choices(body, prompt, (body.max_tokens, most_tokens), None)

    def to_score(self, body: ScoreBody) -> ScoreRequest:
        """The text that is to be scored.

        Raises:
            Fault: naming the field that is wrong.
        """
        if (body.prompt is None) == (not body.messages):
            raise bad_request("send either prompt or messages", "prompt")
        try:
            prompt = self._prompt(body.messages) if body.messages else Prompt.of(body.prompt or "")
        except PromptError as error:
            raise bad_request(str(error), "prompt") from error
        self.check_length(len(prompt.as_text()) + len(body.response))
        return ScoreRequest(prompt, body.response, body.finished)

    def bar(self, stars: Stars) -> GuardConfig:
        """How texts are judged that others wrote, where a request asks for a higher bar.

        Args:
            stars: what it asks for.

        Raises:
            Fault: naming the field that is not a request's to choose, or not so.
        """
        return self.policy.guarding(stars, self.policy.sampling)[0]

    def check_length(self, characters: int, field: str = "messages") -> None:
        """Refuse texts that are too long.

        Args:
            characters: length of all together.
            field: where they stand.

        Raises:
            Fault: 400.
        """
        most = self.sizes.max_prompt_characters
        if characters > most:
            message = f"the prompt is longer than {most} characters"
            raise bad_request(message, field, "context_length_exceeded")

    def check_model(self, model: str | None) -> None:
        """Refuse a model that is not served; a request need not name one.

        Raises:
            Fault: 404.
        """
        if model not in (None, self.served_name):
            message = f"there is no such model; this server has {self.served_name!r}"
            raise Fault(404, message, param="model", code="model_not_found")

    def _choices(
        self,
        body: ChatRequest | CompletionRequest,
        prompt: Prompt,
        lengths: tuple[int | None, int | None],
        schema: str | None,
    ) -> Asked:
        refuse_unserved(body.model_extra or {}, NEUTRAL)
        count, most = body.n or 1, self.sizes.max_choices
        if count > most:
            raise bad_request(f"n={count} is over the {most} of this server", "n")
        self.check_length(len(prompt.as_text()))
        length = self._length(*lengths)
        sampling = self._sampling(body, length.granted, schema)
        config, budget = self._guarding(body.stars or Stars(), sampling)
        requests = [
            Request(prompt, sampling.changed(seed=seed), config, budget, self.acceptance_key)
            for seed in _seeds(body.seed, count)
        ]
        return Asked(requests, length)

    def _prompt(self, turns: Sequence[Turn], tools: Tools | None = None) -> Prompt:
        # Before the arguments are parsed: their values were not counted with those of the body.
        self.check_length(argument_characters(turns))
        return prompt_of(turns, tools)

    def _length(self, max_tokens: int | None, most_tokens: int | None) -> AnswerLength:
        """Longest answer to a request that asks for ``max_tokens`` and may ask for ``most_tokens``."""
        most = self.sizes.max_tokens if most_tokens is None else min(self.sizes.max_tokens, most_tokens)
        requested = max_tokens or min(most, self.sizes.default_tokens)
        return AnswerLength(requested, min(requested, most))

    def _sampling(
        self, body: ChatRequest | CompletionRequest, max_tokens: int, schema: str | None
    ) -> SamplingParams:
        return self.policy.proposing(body).changed(max_tokens=max_tokens, response_schema=schema)

    def _guarding(self, stars: Stars, sampling: SamplingParams) -> tuple[GuardConfig, Budget]:
        if stars.trace and not self.traces:
            raise bad_request("this server keeps no traces; leave stars.trace out", "stars.trace")
        return self.policy.guarding(stars, sampling)


def _seeds(seed: int | None, count: int) -> list[int]:
    """Seeds of the choices; the first is the request's own, brought into the range that the guard takes."""
    first = fresh_seed() if seed is None else seed % _SEEDS
    return [first, *(address_hash(first, 0, choice, _CHOICE) % _SEEDS for choice in range(1, count))]
