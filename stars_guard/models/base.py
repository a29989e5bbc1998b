"""What a language model is to the guard: it opens a session on a prompt, and draws candidates on demand.

How it reuses work between candidates is its own affair; what it must keep is the law: candidate ``j`` of
segment ``k`` is drawn from the model given the accepted ids, with the random numbers that
:mod:`stars_guard.randomness` gives for (seed, k, j), whatever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from stars_guard.config import SamplingParams
from stars_guard.dialects import Dialect
from stars_guard.segments import Segmenter
from stars_guard.types import Candidate, HiddenStates, ModelIdentity, Prompt


class Session(Protocol):
    """One answer in the making: the accepted ids, and what the backend cached for them."""

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt, in tokens, template included."""
        ...

    @property
    def dialect(self) -> Dialect:
        """How the model marks reasoning and tool calls in this answer."""
        ...

    @property
    def forward_passes(self) -> int:
        """Passes through the model that this session took part in so far, prefill included."""
        ...

    def accept(self, candidate: Candidate) -> None:
        """Continue from ``candidate``, the latest drawn or one that was held."""
        ...

    def hold(self, candidate: Candidate) -> None:
        """``candidate`` may be accepted in a later round: keep what it needs, and only that."""
        ...

    def close(self) -> None:
        """Free everything. Safe to call twice."""
        ...


class ObservedSession(Session, Protocol):
    """A session whose candidates carry hidden states."""

    @property
    def hidden(self) -> HiddenStates:
        """Those of the accepted tokens."""
        ...


@dataclass(frozen=True, slots=True)
class Order:
    """Draw candidates for the next segment of one session.

    Attributes:
        session: from :meth:`LanguageModel.start`.
        segment: segment number, from 0; part of the address of every random number.
        first_attempt: attempt index of the first candidate.
        candidates: how many to draw.
        cut: where the segment ends; its ``max_tokens`` also bounds the answer's remaining room.
        ends_answer: True when a candidate of ``cut.max_tokens`` tokens reaches the answer's limit.
        alive: False once the request is cancelled or out of time; asked before every token step.
    """

    session: Session
    segment: int
    first_attempt: int
    candidates: int
    cut: Segmenter
    ends_answer: bool
    alive: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Proposal:
    """The answer to an :class:`Order`.

    Attributes:
        candidates: in attempt order; fewer than ordered (possibly none) only if the order died.
        tokens: tokens drawn for this order, those of abandoned candidates included.
    """

    candidates: tuple[Candidate, ...]
    tokens: int


@runtime_checkable
class LanguageModel(Protocol):
    """Draws candidate segments."""

    @property
    def name(self) -> str:
        """Short name for traces and error messages."""
        ...

    def start(self, prompt: Prompt, sampling: SamplingParams) -> Session:
        """Read the prompt once. ``sampling.seed`` is set.

        Raises:
            PromptError: the prompt cannot be served.
        """
        ...

    def propose(self, orders: Sequence[Order]) -> list[Proposal]:
        """Draw for several sessions together; one proposal per order, equal to drawing each alone."""
        ...


@runtime_checkable
class ObservableModel(LanguageModel, Protocol):
    """A language model that can hand out its hidden states, which decoding computes anyway."""

    @property
    def identity(self) -> ModelIdentity:
        """Whose states they are."""
        ...

    def observe(self, prompt: Prompt, sampling: SamplingParams, layers: tuple[int, ...]) -> ObservedSession:
        """Like ``start``; every candidate of the session carries the states of ``layers``.

        Every token of such a candidate has been read by the model, but for an end-of-sequence token.
        """
        ...
