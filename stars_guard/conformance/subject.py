"""A reward model under examination: asking it, and what every check measures by."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import cache, cached_property
from importlib.resources import files

from stars_guard.errors import ScoringError, failures_as
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import RewardModel, ScoreRequest, checked
from stars_guard.settings import StoredRecord
from stars_guard.types import Reward


class Pair(StoredRecord):
    """One prompt with an answer that is safe and one that is not, of similar length."""

    category: str
    prompt: str
    safe: str
    unsafe: str


@cache
def shipped_pairs() -> tuple[Pair, ...]:
    """The pairs of the package: everyday prompts, kind answers and harsh ones, without any know-how."""
    text = files("stars_guard.conformance").joinpath("pairs.jsonl").read_text(encoding="utf-8")
    return tuple(Pair.model_validate_json(line) for line in text.splitlines())


def request(prompt: str, response: str, *, run_id: str = "", deadline: float | None = None) -> ScoreRequest:
    """A request as a guard makes it while an answer is written.

    Args:
        prompt: what is being answered, as one user message.
        response: the answer so far.
        run_id: name of the answer; empty for none.
        deadline: ``time.monotonic()`` value after which the score is useless, or None.
    """
    tokens = len(response.split())
    return ScoreRequest(
        Prompt.of(prompt), response, finished=False, run_id=run_id, deadline=deadline, tokens=tokens
    )


class Subject:
    """A reward model, the labelled pairs, and its rewards for them, which are the yardstick of all checks.

    Args:
        reward: the reward model.
        pairs: labelled pairs, at least one.
    """

    def __init__(self, reward: RewardModel, pairs: Sequence[Pair]) -> None:
        self.reward = reward
        self.pairs = tuple(pairs)

    def rewards(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """All in one batch.

        Raises:
            ScoringError: the reward model raised, or did not return one finite number per request.
        """
        return checked(self.reward.name, self.raw(requests), len(requests))

    def raw(self, requests: Sequence[ScoreRequest]) -> Sequence[Reward]:
        """What the reward model returns, whatever it is.

        Raises:
            ScoringError: it raised something foreign, which is the error's ``__cause__``.
            StarsGuardError: it raised this.
        """
        with failures_as(ScoringError, f"scoring with {self.reward.name}"):
            return self.reward.score(requests)

    def values(self, requests: Sequence[ScoreRequest]) -> list[float]:
        """The rewards of a batch as numbers; raises as :meth:`rewards`."""
        return [float(reward.value) for reward in self.rewards(requests)]

    def alone(self, requests: Sequence[ScoreRequest]) -> list[float]:
        """Rewards of the requests as numbers, each request in a batch of its own."""
        return [self.values([alone])[0] for alone in requests]

    def at(self, words: int | None) -> tuple[list[float], list[float]]:
        """Rewards of the safe and of the unsafe answers, cut after so many words; None is the whole."""
        answers = [(pair.prompt, text) for pair in self.pairs for text in (pair.safe, pair.unsafe)]
        requests = [request(prompt, first_words(text, words)) for prompt, text in answers]
        values = [value for batch in _batches(requests) for value in self.values(batch)]
        return values[0::2], values[1::2]

    @cached_property
    def whole(self) -> tuple[list[float], list[float]]:
        """Rewards of the safe and of the unsafe answers as they stand."""
        return self.at(None)

    @property
    def spread(self) -> float:
        """Standard deviation of the rewards of all answers; the unit of every tolerance."""
        return statistics.pstdev([*self.whole[0], *self.whole[1]])

    @property
    def gap(self) -> float:
        """Median difference between the two answers to one prompt, whichever is higher."""
        return statistics.median(abs(safe - unsafe) for safe, unsafe in zip(*self.whole, strict=True))

    @property
    def mixed(self) -> list[ScoreRequest]:
        """A batch of answers from a few words to four answers' length, so that padding differs."""
        requests = []
        for number, pair in enumerate(self.pairs[:9]):
            answer = pair.safe if number % 2 else pair.unsafe
            text = " ".join([answer] * 4) if number % 3 == 2 else first_words(answer, (3, 20)[number % 3])
            requests.append(request(pair.prompt, text))
        return requests

    @cached_property
    def noise(self) -> float:
        """Largest difference between the rewards of the same batch, asked for twice, in spreads."""
        return self.off_by(self.values(self.mixed), self.values(self.mixed))

    def off_by(self, first: Sequence[float], second: Sequence[float]) -> float:
        """Largest difference between two rewards that should be equal, in spreads."""
        largest = max(abs(a - b) for a, b in zip(first, second, strict=True))
        return self.in_spreads(largest)

    def in_spreads(self, difference: float) -> float:
        """A difference of rewards, in spreads; infinite if there is one where all rewards are the same."""
        if difference == 0:
            return 0.0
        return difference / self.spread if self.spread else float("inf")


def first_words(text: str, words: int | None) -> str:
    """The text up to the end of a word."""
    return text if words is None else " ".join(text.split()[:words])


def _batches(requests: Sequence[ScoreRequest], size: int = 8) -> list[Sequence[ScoreRequest]]:
    """Small ones: a large reward model on a small machine must not run out of memory here."""
    return [requests[place : place + size] for place in range(0, len(requests), size)]
