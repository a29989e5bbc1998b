"""What a language model is to the guard: it opens a session on a prompt, and draws candidates on demand.

How it reuses work between candidates is its own affair; what it must keep is the law: candidate ``j`` of
segment ``k`` is drawn from the model given the accepted ids, with the random numbers that
:mod:`stars_guard.algorithm.random_numbers` gives for (seed, k, j), whatever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from stars_guard.algorithm.config import SamplingParams
from stars_guard.algorithm.segments import Segmenter
from stars_guard.prompts import Prompt
from stars_guard.text.dialects import Dialect
from stars_guard.types import Candidate, Guarantee, HiddenStates, ModelIdentity


class Session(Protocol):
    """One answer in the making: the accepted ids, and what the backend cached for them."""

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt, in tokens, template included."""

    @property
    def dialect(self) -> Dialect:
        """How the model marks reasoning and tool calls in this answer."""

    @property
    def forward_passes(self) -> int:
        """Passes through the model that this session took part in so far, prefill included."""

    def accept(self, candidate: Candidate) -> None:
        """Continue from ``candidate``: of the latest drawn, or held, or drawn elsewhere.

        One that was drawn elsewhere has no ``state``; the session reads its ids.
        """

    def hold(self, candidate: Candidate) -> None:
        """``candidate`` may be accepted in a later round: keep what it needs, and only that."""

    def close(self) -> None:
        """Free everything. Safe to call twice."""


class ObservedSession(Session, Protocol):
    """A session whose candidates carry hidden states."""

    @property
    def hidden(self) -> HiddenStates:
        """Hidden states of the accepted tokens."""


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
        temperature: to draw at, instead of the session's own, by ``algorithm.retries.redrawn_at``; None
            leaves it.
    """

    session: Session
    segment: int
    first_attempt: int
    candidates: int
    cut: Segmenter
    ends_answer: bool
    alive: Callable[[], bool]
    temperature: float | None = None


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

    def start(self, prompt: Prompt, sampling: SamplingParams) -> Session:
        """Read the prompt once. ``sampling.seed`` is set.

        Raises:
            PromptError: the prompt cannot be served.
        """

    def propose(self, orders: Sequence[Order]) -> list[Proposal]:
        """Draw for several sessions together; one proposal per order, equal to drawing each alone."""


@runtime_checkable
class ObservableModel(LanguageModel, Protocol):
    """A language model that can hand out its hidden states, which decoding computes anyway."""

    @property
    def identity(self) -> ModelIdentity:
        """What tells this model from others, and its states from theirs."""

    def observe(self, prompt: Prompt, sampling: SamplingParams, layers: tuple[int, ...]) -> ObservedSession:
        """Like ``start``; every candidate of the session carries hidden states.

        Every token of such a candidate has been read by the model, but for an end-of-sequence token.

        Args:
            prompt: what is to be answered.
            sampling: how; its seed is set.
            layers: whose output is carried, from 0, the embedding.
        """


@runtime_checkable
class ReadsInPieces(LanguageModel, Protocol):
    """A language model that reads a long prompt piece by piece, between which others can be served."""

    def begin(self, prompt: Prompt, sampling: SamplingParams, layers: tuple[int, ...] = ()) -> Session:
        """Like ``start``, or ``observe`` where there are layers, but the prompt has yet to be read.

        Args:
            prompt: what is to be answered.
            sampling: how; its seed is set.
            layers: whose output candidates carry, from 0, the embedding; none for none.

        Raises:
            PromptError: the prompt cannot be served.
        """

    def read_on(self, session: Session) -> bool:
        """Read the next piece of a session's prompt; True once it was read to its end."""


@runtime_checkable
class DeclaresGuarantee(Protocol):
    """A language model that says how exactly it continues; one that does not is held to token ids."""

    @property
    def guarantee(self) -> Guarantee:
        """The level that holds for every candidate."""


def guarantee_of(model: LanguageModel) -> Guarantee:
    """The level at which a language model continues."""
    return model.guarantee if isinstance(model, DeclaresGuarantee) else Guarantee.TOKEN_IDS


@runtime_checkable
class ChecksSegments(Protocol):
    """A language model that cannot end segments in every way."""

    def check_segments(self, cut: Segmenter) -> None:
        """Called before anything is drawn.

        Raises:
            ConfigurationError: segments cannot end there with this model.
        """


@runtime_checkable
class BatchesItself(LanguageModel, Protocol):
    """A language model behind an engine that batches on its own.

    ``start`` and ``propose`` may be called by many threads at once, each for its own request, and block only
    the caller.
    """

    @property
    def has_room(self) -> bool:
        """Whether the engine could draw more at once than it is asked for now."""

    def ahead(self, session: Session, candidate: Candidate) -> Session:
        """A session like ``session`` with ``candidate`` accepted; costs no call, and ``session`` stays.

        What is drawn for it may be accepted by ``session``, once that has accepted ``candidate``.
        """


@runtime_checkable
class TakesOpenings(LanguageModel, Protocol):
    """A language model whose answers can be made to go on with a given text."""

    def opened(self, session: Session, text: str, most: int) -> tuple[Session, Candidate]:
        """A session like ``session`` whose answer goes on with a text, and what that adds; ``session`` stays.

        What is drawn for it may be accepted by ``session``, once its ids begin with those that were added.

        Args:
            session: whose prompt was read to its end.
            text: what the answer goes on with.
            most: most tokens of it that are taken, 0 or more.
        """


@runtime_checkable
class ReadsLikelihoods(LanguageModel, Protocol):
    """A language model that says how likely it finds answers that were drawn elsewhere."""

    def log_probabilities(self, texts: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        """For each prompt and answer, the log-probability in nats of each of the answer's tokens.

        Raises:
            PromptError: a prompt cannot be served.
        """


@runtime_checkable
class HandsOutLayers(ObservableModel, Protocol):
    """A language model that hands out the states of some of its layers only."""

    handed_out: tuple[int, ...]
    """Layers whose states it hands out, rising."""


@runtime_checkable
class ReadsStates(ObservableModel, Protocol):
    """A language model that reads answers that were drawn elsewhere, and hands out its hidden states."""

    tokenizer: Any

    def read_states(
        self,
        texts: Sequence[tuple[Prompt, str]],
        layers: tuple[int, ...],
        lengths: Sequence[int | None] = (None,),
    ) -> list[list[HiddenStates]]:
        """The states of answers.

        Args:
            texts: prompts and answers.
            layers: whose output is read, from 0, the embedding.
            lengths: response tokens after which to take them; None is the end.

        Returns:
            For each text, one for each length.

        Raises:
            ConfigurationError: those layers cannot be read.
            PromptError: a prompt cannot be served.
        """


@runtime_checkable
class HasTokenizer(Protocol):
    """A language model whose vocabulary can be compared with another's."""

    tokenizer: Any


@runtime_checkable
class CountsPrompts(LanguageModel, Protocol):
    """A language model that says how long a prompt is before it is read, and how much it reads at most."""

    @property
    def context_window(self) -> int | None:
        """Most tokens of prompt and answer together; None if that is not known."""

    def prompt_tokens(self, prompt: Prompt) -> int | None:
        """Length of the prompt, in tokens, template included; None where it is not known.

        Raises:
            PromptError: the prompt cannot be served.
        """


def takes_openings(model: LanguageModel) -> bool:
    """Whether answers of a language model can be made to go on with a given text."""
    return isinstance(model, TakesOpenings) and guarantee_of(model) is not Guarantee.WHOLE
