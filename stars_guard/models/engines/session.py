"""One answer as a remote engine sees it: nothing but ids (or text), sent anew with every call."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import Any

from stars_guard.algorithm.config import SamplingParams
from stars_guard.models.base import Session
from stars_guard.text.answer_text import AnswerText
from stars_guard.text.decoding import AnswerDecoder, Opaque
from stars_guard.text.dialects import Dialect
from stars_guard.types import Candidate, HiddenStates


@dataclass(slots=True)
class CandidateCount:
    """Candidates that the engine was asked for; shared by an answer and what is drawn ahead for it."""

    candidates: int = 0


class EngineSession:
    """What was accepted, and how to go on from it. The engine's prefix cache does the rest.

    Args:
        opening: the prompt, in the form in which it is sent.
        prompt_tokens: its length in tokens; 0 where only the engine knows.
        sampling: with its seed.
        dialect: how the answer marks reasoning and calls.
        tools: whether it may call tools.
        decode: ids of an answer to text, where it goes on by ids.

    Attributes:
        layers: layers whose hidden states its candidates carry; none unless it is observed.
        hidden: hidden states of what was accepted, as far as that was drawn here.
    """

    def __init__(
        self,
        opening: Any,
        prompt_tokens: int,
        sampling: SamplingParams,
        dialect: Dialect,
        *,
        tools: bool,
        decode: AnswerDecoder | None = None,
    ) -> None:
        self.opening = opening
        self.prompt_tokens = prompt_tokens
        self.sampling = sampling
        self.seed = sampling.seed or 0
        self.dialect = dialect
        decode = decode or AnswerDecoder(Opaque(lambda ids: ""))
        self.answer = AnswerText(decode, sampling.stop, dialect, tools=tools)
        self.drawn = CandidateCount()
        self.layers: tuple[int, ...] = ()
        self.hidden: HiddenStates | None = None

    @property
    def token_ids(self) -> tuple[int, ...]:
        """What was accepted."""
        return tuple(self.answer.token_ids)

    @property
    def text(self) -> str:
        """The text of what was accepted."""
        return self.answer.text

    @property
    def forward_passes(self) -> int:
        """Candidates asked for so far, each one a pass over what the engine has not cached."""
        return self.drawn.candidates

    def accept(self, candidate: Candidate) -> None:
        """Continue from ``candidate``, wherever it was drawn."""
        self.answer.accept(candidate.token_ids, candidate.text)
        self.hidden = candidate.hidden or self.hidden

    def branch(self, candidate: Candidate) -> EngineSession:
        """A copy that has accepted ``candidate``; what is drawn for it counts here as well."""
        branch = copy(self)
        branch.answer = self.answer.fork()
        branch.accept(candidate)
        return branch

    def hold(self, candidate: Candidate) -> None:
        """Do nothing: the ids of a candidate are all that is needed of it."""

    def close(self) -> None:
        """Do nothing: the engine keeps what there is to keep."""


def engine_session(session: Session) -> EngineSession:
    """The session, which must be one of a remote engine."""
    if not isinstance(session, EngineSession):
        raise TypeError(f"a session of another model was passed: {type(session).__name__}")
    return session
