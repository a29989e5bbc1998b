"""One answer as the transformers backend keeps it between rounds: accepted ids and their prefix cache."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import torch
from transformers import DynamicCache

from stars_guard.algorithm.config import SamplingParams
from stars_guard.models.base import Session
from stars_guard.models.local import prefix_cache
from stars_guard.models.local.grammar import GrammarState
from stars_guard.models.local.prefix_cache import Rows
from stars_guard.text.answer_text import AnswerText
from stars_guard.text.dialects import PLAIN, Dialect
from stars_guard.types import Candidate, HiddenStates


class RowState:
    """What it takes to go on from a candidate: its row of a batch cache, cut out when needed.

    Args:
        cache: batch cache of the round that drew it.
        row: its row there.
        length: tokens of that row.
        side: that of the session that it was drawn for.
        pending: its last token where the model has not read it yet, otherwise empty.
        logits: those after its last token ``[vocabulary]``, where that was read.
    """

    def __init__(
        self,
        cache: Rows,
        row: int,
        length: int,
        *,
        side: int | None,
        pending: list[int],
        logits: torch.Tensor | None,
    ) -> None:
        self._cache = cache
        self._row: int | None = row
        self._length = length
        self.side = side
        self.pending = pending
        self.logits = logits

    def detach(self) -> None:
        """Cut the row out, so that the batch can be freed."""
        if self._row is not None:
            self._cache, self._row = prefix_cache.take(self._cache, self._row, self._length), None

    def taken(self) -> Rows:
        """The row as a prefix cache."""
        self.detach()
        return self._cache


class TransformersSession:
    """One answer's prefix cache, and the logits after its last token where they are known.

    Args:
        cache: empty, for the prompt.
        side: of the turning points of the model on which the prompt is read.
        ids: token ids of the prompt, template included.
        answer: the text of what is accepted: of nothing yet.
        sampling: how to draw; its seed is set.
        dialect: how the answer marks reasoning and calls.
        grammar: what the answer must be written by; None if it is free.
        layers: of the model that are observed.
    """

    def __init__(
        self,
        cache: Rows,
        side: int | None,
        ids: list[int],
        answer: AnswerText,
        sampling: SamplingParams,
        *,
        dialect: Dialect = PLAIN,
        grammar: GrammarState | None = None,
        layers: tuple[int, ...] = (),
    ) -> None:
        self.dialect = dialect
        self.layers = layers
        self.grammar = grammar
        self.cache = cache
        self.side = side
        self.sampling = sampling
        self.answer = answer
        self.seed = sampling.seed or 0
        # Answers that differ only in their seed are sampled in one call.
        self.shared_sampling = sampling.model_copy(update={"seed": None})
        self.prompt_ids = ids
        self.unread = ids
        self.logits: torch.Tensor | None = None
        self.pending: list[int] = []
        self.forward_passes = 0
        self.observed: HiddenStates | None = None

    @property
    def token_ids(self) -> list[int]:
        """What was accepted."""
        return self.answer.token_ids

    @property
    def prompt_tokens(self) -> int:
        """Length of the prompt, template included."""
        return len(self.prompt_ids)

    @property
    def hidden(self) -> HiddenStates:
        """Hidden states of the accepted tokens, in a session that is observed."""
        if self.observed is None:
            raise RuntimeError("this session was not asked to observe layers")
        return self.observed

    @property
    def known_logits(self) -> torch.Tensor:
        """The logits ``[vocabulary]`` after the last token; there once nothing is pending."""
        if self.logits is None:
            raise RuntimeError("the last accepted token was not fed yet")
        return self.logits

    @property
    def total(self) -> int:
        """Tokens of prompt and answer so far."""
        return len(self.prompt_ids) + len(self.token_ids)

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return self.total - len(self.pending)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the answer whose ids are the accepted ones plus ``ids``."""
        return self.answer.complete(ids)

    def accept(self, candidate: Candidate) -> None:
        """Continue from ``candidate``."""
        self.answer.accept(candidate.token_ids, candidate.text)
        if self.grammar is not None:
            self.grammar.advance(candidate.token_ids)
        if candidate.finish is not None:
            return
        state: RowState | None = candidate.state
        if state is None:
            self.pending = [*self.pending, *candidate.token_ids]
            self.logits = None
        else:
            self.cache, self.side = state.taken(), state.side
            self.logits, self.pending = state.logits, state.pending
            self.observed = candidate.hidden

    def branch(self, opening: Candidate) -> TransformersSession:
        """A copy that has accepted a candidate, with passes of its own; caches are never written in place.

        Answers that are written by a grammar take no openings.
        """
        branch = copy(self)
        branch.answer = self.answer.fork()
        branch.forward_passes = 0
        branch.accept(opening)
        return branch

    def advance(self, cache: Rows, logits: torch.Tensor, read: int = 1) -> None:
        """Pending tokens were fed.

        Args:
            cache: what is kept of the text now.
            logits: those after its last token ``[vocabulary]``.
            read: tokens that were fed.
        """
        self.cache, self.logits, self.pending = cache, logits, self.pending[read:]

    def hold(self, candidate: Candidate) -> None:
        """Keep the candidate's own row, and let the batch it came from go."""
        if candidate.state is not None:
            candidate.state.detach()

    def close(self) -> None:
        """Free the cache."""
        self.cache = DynamicCache()
        self.logits = None


def our_session(session: Session) -> TransformersSession:
    """The session, which must be one of this backend's."""
    if not isinstance(session, TransformersSession):
        raise TypeError(f"a session of another model was passed: {type(session).__name__}")
    return session
