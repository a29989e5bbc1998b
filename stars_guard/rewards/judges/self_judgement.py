"""Self-judgement: the weights that write under one persona judge under another; no second model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from stars_guard.errors import ConfigurationError, ScoringError
from stars_guard.prompts import Message, Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.types import Named, Reward


class LikelihoodReader(Protocol):
    """Says how likely a language model finds answers that are being written."""

    def read(
        self, answers: Sequence[tuple[str, Prompt, Sequence[int]]], last: int
    ) -> Sequence[Sequence[float]]:
        """Log-probabilities, in nats, of the last tokens of each, given its prompt and all before them.

        Args:
            answers: a key, the prompt and the token ids so far of each; those of one key are candidates for
                the same place.
            last: most tokens of each that are wanted.
        """

    def forget(self, key: str) -> None:
        """Free what is kept for an answer, if anything is."""


class SelfJudgement(Named):
    """Rewards what the judging persona would have written as gladly (Persona-judge, arXiv 2504.12663).

    The reward is ``log p(s | judging persona) - log p(s | prompt)``, in nats at temperature 1, summed over
    the last ``window`` tokens ``s``. With segments of ``window`` tokens, a target of 0 and ``beta = 1``, a
    segment is accepted with probability ``min(1, p_judging / p_proposing)``, as in speculative sampling.

    Args:
        likelihoods: reads with the language model that proposes.
        persona: system message of the judge.
        window: tokens at the end of the answer that are judged.

    Raises:
        ConfigurationError: the persona is empty, or the window is.
    """

    def __init__(self, likelihoods: LikelihoodReader, persona: str, window: int) -> None:
        if not persona.strip():
            raise ConfigurationError("the judging persona is empty; say who judges")
        if window < 1:
            raise ConfigurationError(f"window={window} must be 1 or more")
        self.name = "self-judgement"
        self._likelihoods = likelihoods
        self._persona, self._window = persona, window

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """The log-ratio of each answer's end; 0 where it has not begun.

        Raises:
            ScoringError: a text was given without its tokens.
        """
        if any(request.response and not request.token_ids for request in requests):
            raise ScoringError(
                "self-judgement judges tokens while they are drawn, and got a text without them; have its "
                "own language model write"
            )
        judging = [_asked(request, "judging", self._persona) for request in requests]
        proposing = [_asked(request, "proposing") for request in requests]
        sums = [sum(tokens) for tokens in self._likelihoods.read([*judging, *proposing], self._window)]
        pairs = zip(sums[: len(requests)], sums[len(requests) :], strict=True)
        return [Reward(judged - proposed) for judged, proposed in pairs]

    def release(self, run_id: str) -> None:
        """Free what is kept for an answer."""
        for part in ("judging", "proposing"):
            self._likelihoods.forget(_key(run_id, part))


def _asked(request: ScoreRequest, part: str, persona: str = "") -> tuple[str, Prompt, Sequence[int]]:
    prompt = with_system(request.prompt, persona) if persona else request.prompt
    return _key(request.run_id, part), prompt, request.token_ids


def _key(run_id: str, part: str) -> str:
    return f"{run_id} {part}"


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
