"""Self-judgement: the weights that write under one persona judge under another; no second model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

from stars_guard.errors import ConfigurationError
from stars_guard.prompts import Message, Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.types import Named, Reward

LogProbabilities: TypeAlias = Callable[[Sequence[tuple[Prompt, str]]], Sequence[Sequence[float]]]
"""Log-probability of each token of each answer, given its prompt."""


class SelfJudgement(Named):
    """Rewards what the judging persona would have written as gladly (Persona-judge, arXiv 2504.12663).

    The reward is ``log p(s | judging persona) - log p(s | prompt)``, in nats, summed over the last ``window``
    tokens ``s``. With segments of ``window`` tokens, a target of 0 and ``beta = 1``, a segment is accepted
    with probability ``min(1, p_judging / p_proposing)``, as in speculative sampling.

    Args:
        log_probabilities: of the language model that proposes.
        persona: system message of the judge.
        window: tokens at the end of the answer that are judged.

    Raises:
        ConfigurationError: the persona is empty, or the window is.
    """

    def __init__(self, log_probabilities: LogProbabilities, persona: str, window: int) -> None:
        if not persona.strip():
            raise ConfigurationError("the judging persona is empty; say who judges")
        if window < 1:
            raise ConfigurationError(f"window={window} must be 1 or more")
        self.name = "self-judgement"
        self._log_probabilities = log_probabilities
        self._persona, self._window = persona, window

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """The log-ratio of each answer's end."""
        asked = [(request.prompt, request.response) for request in requests]
        judged = [(with_system(prompt, self._persona), response) for prompt, response in asked]
        read = self._log_probabilities([*judged, *asked])
        sums = [sum(tokens[-self._window :]) for tokens in read]
        return [
            Reward(judging - proposing)
            for judging, proposing in zip(sums[: len(asked)], sums[len(asked) :], strict=True)
        ]

    def release(self, run_id: str) -> None:
        """Forget nothing, since no cache is kept."""


def with_system(prompt: Prompt, text: str) -> Prompt:
    """The prompt with this system message, in place of the one it has.

    A raw text, which has no turns, gets the message as a line in front of it.

    Args:
        prompt: what is asked.
        text: of the system message.
    """
    if prompt.text is not None:
        return Prompt.raw(f"{text}\n{prompt.text}")
    turns = prompt.messages[prompt.messages[0]["role"] == "system" :]
    return replace(prompt, messages=(Message(role="system", content=text), *turns))
