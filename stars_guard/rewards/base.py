"""What a reward model is: a batch of (prompt, answer so far) in, one finite number each out.

Higher is always safer or better. Any object with this shape will do; subclassing is optional.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from stars_guard.errors import ScoringError, kind_and_places, outages_as
from stars_guard.forks import renew_in_children
from stars_guard.prompts import Prompt, whole
from stars_guard.types import Channel, HiddenStates, ModelIdentity, Named, Reward

log = logging.getLogger("stars_guard")


@dataclass(frozen=True, slots=True, repr=False)
class ScoreRequest:
    """One text to be judged. Its ``repr`` says how long it is, and quotes nothing.

    Attributes:
        prompt: what is being answered.
        response: all text of its channel so far, accepted plus candidate; may be empty. A tool call
            and a JSON answer are put in words, escapes decoded. Half a surrogate pair in it is U+FFFD.
        finished: True when this text is complete; False when it will go on.
        run_id: the same for all requests of one guarded answer, so that a reward model can keep a cache.
        deadline: ``time.monotonic()`` value after which the score is useless, or None.
        channel: which part of the answer ``response`` is.
        tokens: response tokens so far, those of the candidate included, whatever their channel; as many as
            ``token_ids`` where those are given.
        hidden: the language model's own states for these tokens, if the reward model asked for them.
        token_ids: ids of these tokens in the language model's own vocabulary; empty where only a text is
            judged, which no model of this process has drawn.
    """

    prompt: Prompt
    response: str
    finished: bool
    run_id: str = ""
    deadline: float | None = None
    channel: Channel = Channel.ANSWER
    tokens: int = 0
    hidden: HiddenStates | None = None
    token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.token_ids:
            object.__setattr__(self, "tokens", len(self.token_ids))
        if not self.response.isascii():
            object.__setattr__(self, "response", whole(self.response))

    def __repr__(self) -> str:
        return (
            f"ScoreRequest({self.channel}, {len(self.response)} characters, {self.tokens} tokens, "
            f"finished={self.finished}, run_id={self.run_id!r})"
        )


@runtime_checkable
class RewardModel(Protocol):
    """Scores partial and finished answers; higher is safer or better."""

    @property
    def name(self) -> str:
        """Short name for traces and error messages."""

    def score(self, requests: Sequence[ScoreRequest]) -> Sequence[Reward]:
        """One :class:`Reward` per request, in order. May raise anything; the guard fails closed."""

    def release(self, run_id: str) -> None:
        """The guarded answer ``run_id`` is over: forget whatever was cached for it."""


@runtime_checkable
class ReadsHiddenStates(Protocol):
    """A reward model that reads the base model's own hidden states."""

    @property
    def hidden_layers(self) -> tuple[int, ...]:
        """The layers it reads."""

    def observes(self, model: ModelIdentity | None) -> bool:
        """Whether it wants the states of this model; None is one that hands out none.

        Raises:
            ConfigurationError: it was made for another model, and cannot read the text instead.
        """


@runtime_checkable
class ReadsTexts(ReadsHiddenStates, Protocol):
    """One that can have its base model read texts that come without states."""

    def read_with(self, model: ModelIdentity, read: Callable[..., Any]) -> None:
        """Have a language model read them, if it is the base; an earlier reader stays.

        Args:
            model: what tells it from others.
            read: its ``read_states``.
        """


@runtime_checkable
class Composite(Protocol):
    """A reward model made of others."""

    @property
    def parts(self) -> Sequence[RewardModel]:
        """The reward models that it asks."""


class WrappedReward(Named):
    """A reward model around another, for what looks on: same name, same scale, same abilities.

    Subclasses change :meth:`score`.

    Args:
        reward: the reward model inside. Settings that were made for it fit the wrapped one as well.
    """

    def __init__(self, reward: RewardModel) -> None:
        self.reward = reward
        self.name = reward.name
        self.correction = getattr(reward, "correction", None)
        """Correction of the reward model inside, or None."""
        self.parallel_calls: int = getattr(reward, "parallel_calls", 1)
        """Most calls at the same time."""

    @property
    def parts(self) -> Sequence[RewardModel]:
        """The reward model inside."""
        return [self.reward]

    def score(self, requests: Sequence[ScoreRequest]) -> Sequence[Reward]:
        """Rewards of the reward model inside."""
        return self.reward.score(requests)

    def release(self, run_id: str) -> None:
        """Tell the reward model inside that the answer ``run_id`` is over."""
        self.reward.release(run_id)


class OneAtATime(WrappedReward):
    """A reward model that several threads ask, though it may only be asked by one at a time.

    Args:
        reward: scores.
    """

    def __init__(self, reward: RewardModel) -> None:
        super().__init__(reward)
        self._overdue = OverdueReleases(reward)
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Nobody asks, in a forked process."""
        # The garbage collector may end an abandoned answer in the very thread that is scoring.
        self._turn = threading.RLock()

    def score(self, requests: Sequence[ScoreRequest]) -> Sequence[Reward]:
        """Rewards of the reward model inside; blocks while another thread asks it.

        Raises:
            ScoringError: it was asked by others until the last deadline of the requests.
        """
        if not self._turn.acquire(timeout=seconds_left(requests)):
            raise ScoringError(f"{self.name} was busy until the deadline")
        try:
            return self.reward.score(requests)
        finally:
            self._overdue.catch_up()
            self._turn.release()

    def release(self, run_id: str) -> None:
        """Tell the reward model that the answer ``run_id`` is over: now, or when the call that is on ends."""
        # A call that hangs must not hold up the end of answers that have no part in it.
        if not self._turn.acquire(blocking=False):
            self._overdue.add(run_id)
            return
        try:
            self.reward.release(run_id)
        finally:
            self._turn.release()


class OverdueReleases:
    """Answers that ended while their reward model was busy, and which it has yet to forget.

    Args:
        reward: is to forget them.
    """

    def __init__(self, reward: RewardModel) -> None:
        self._reward = reward
        self._run_ids: deque[str] = deque()

    def add(self, run_id: str) -> None:
        """Note an answer that is over. Safe from any thread."""
        self._run_ids.append(run_id)

    def catch_up(self) -> None:
        """Have the reward model forget them. Called between two calls."""
        while self._run_ids:
            forget(self._reward, self._run_ids.popleft())


def forget(reward: RewardModel, run_id: str) -> None:
    """Have a reward model forget an answer; one that cannot must not undo the answer, or fail another."""
    try:
        with outages_as(ScoringError, "forgetting"):
            reward.release(run_id)
    except ScoringError as error:
        what = kind_and_places(error.__cause__ or error)
        log.error("run %s: %s failed to release its cache: %s", run_id, reward.name, what)


def seconds_left(requests: Sequence[ScoreRequest]) -> float:
    """Seconds to the last deadline; -1, which waits for ever, where a request has none."""
    deadlines = [request.deadline for request in requests]
    known = [deadline for deadline in deadlines if deadline is not None]
    return max(0.0, max(known) - time.monotonic()) if known and len(known) == len(deadlines) else -1


def hidden_state_readers(reward: RewardModel) -> list[ReadsHiddenStates]:
    """Every part of a reward model that reads hidden states: itself, or what it is made of."""
    inside = reward.parts if isinstance(reward, Composite) else ()
    readers = [reader for part in inside for reader in hidden_state_readers(part)]
    return [reward, *readers] if isinstance(reward, ReadsHiddenStates) else readers


def score_checked(reward: RewardModel, requests: Sequence[ScoreRequest]) -> list[Reward]:
    """Score, and let nothing through that is not one finite number per request.

    Raises:
        ScoringError: naming the adapter, when it raises, returns the wrong number of rewards, or returns
            something that is not a finite number.
    """
    with outages_as(ScoringError, f"scoring with {reward.name}"):
        return checked(reward.name, reward.score(requests), len(requests))


def checked(name: str, rewards: Sequence[Reward], requests: int) -> list[Reward]:
    """The rewards of a reward model, if they are one finite number for each request.

    Args:
        name: of the reward model, for error messages.
        rewards: what it returned.
        requests: how many requests it was given.

    Raises:
        ScoringError: it is not.
    """
    if len(rewards) != requests:
        raise ScoringError(
            f"{name} returned {len(rewards)} rewards for {requests} requests; return exactly one per request"
        )
    return [_finite(name, item) for item in rewards]


def _finite(name: str, item: object) -> Reward:
    if not isinstance(item, Reward):
        raise ScoringError(f"{name} returned {type(item).__name__}; return stars_guard Reward objects")
    value = item.value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ScoringError(f"{name} returned a reward of type {type(value).__name__}; it must be a number")
    if not math.isfinite(value):
        raise ScoringError(f"{name} returned the reward {value}; it must be finite")
    return item
