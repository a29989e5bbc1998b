"""The plain data that crosses module borders: candidates, rewards, stop reasons. No logic, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol


class _HasName(Protocol):
    @property
    def name(self) -> str: ...


class Named:
    """What is shown by its class and its name, and by nothing else that it holds."""

    def __repr__(self: _HasName) -> str:
        return f"{type(self).__name__}({self.name!r})"


class Channel(StrEnum):
    """Which part of an answer a text is. Each is guarded, with rules of its own if it needs them."""

    ANSWER = "answer"
    """What the user reads."""
    REASONING = "reasoning"
    """What the model writes before it answers, between its reasoning marks."""
    TOOL = "tool"
    """A tool call: the tool's name and arguments."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the answer makes; emitted only once every segment of it was accepted."""

    id: str
    """Unique; nine letters and digits, as the strictest chat templates want."""
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class InvalidToolCall:
    """A call that cannot be made: malformed, cut off, or not allowed. Its text was accepted."""

    id: str
    name: str | None
    """The tool's name, where it could be read."""
    text: str
    """What the model wrote, as it was judged: in words where it can be read."""
    error: str
    """What is wrong with it."""


class Finish(StrEnum):
    """Why a candidate ends the answer."""

    EOS = "eos"
    """The model drew an end-of-sequence token or one of ``stop_token_ids``."""
    STOP = "stop"
    """A stop string appeared; the text ends before it."""
    LENGTH = "length"
    """The answer has reached ``max_tokens``."""


class StopReason(StrEnum):
    """Why a guarded answer ended. The first three come from the candidate, the others from the guard."""

    EOS = "eos"
    STOP = "stop"
    LENGTH = "length"
    REFUSED = "refused"
    """No acceptable segment: the refusal text was given instead, or the model wrote a refusal."""
    EXHAUSTED = "exhausted"
    """No acceptable segment and policy ``raise``: the caller got :class:`NoAcceptableSegment`."""
    TOKEN_BUDGET = "token_budget"
    """Another round would have passed ``Budget.max_proposed_tokens``."""
    REWARD_BUDGET = "reward_budget"
    """Another candidate would have passed ``Budget.max_reward_calls``."""
    DEADLINE = "deadline"
    """``Budget.max_seconds`` ran out."""
    CANCELLED = "cancelled"
    """The caller closed the stream or cancelled the task."""
    GENERATION_ERROR = "generation_error"
    SCORING_ERROR = "scoring_error"


class Guarantee(StrEnum):
    """How exactly candidates continue what was accepted, from the strongest level to the weakest."""

    TOKEN_IDS = "token_ids"
    """By token ids: the law is exact."""
    UNSHARED = "unshared"
    """By token ids, each drawn from a pass over the whole text, alone: the law is exact, at a high price."""
    TEXT = "text"
    """By the text of prompt and answer, encoded anew by the engine: a token may be cut otherwise."""
    PREFILL = "prefill"
    """By a chat turn that the engine is asked to go on with: likewise, and its template has a say."""
    WHOLE = "whole"
    """Not at all: every candidate is a whole answer, which is judged, and drawn again, as one segment."""

    def covers(self, least: Guarantee) -> bool:
        """Whether this level is at least that strong; the two levels of token ids are equally strong."""
        levels = list(Guarantee)
        return self is Guarantee.UNSHARED or levels.index(self) <= levels.index(least)


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """What tells one language model's hidden states from another's.

    Attributes:
        name: of the model.
        layers: number of layers.
        hidden_size: width of a state.
        signature: some weights, which survive a change of precision to about two digits.
    """

    name: str
    layers: int
    hidden_size: int
    signature: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class HiddenStates:
    """What the language model computed while it read an answer so far, for a reward that asked for it.

    Attributes:
        model: whose they are.
        layers: whose output it is, from 1; 0 is the embedding.
        tokens: response tokens read, an end-of-sequence token left out.
        prompt: state of the last prompt token, ``[layers, hidden]`` in float32.
        mean: weighted average over the response tokens, likewise. A token counts half as much for every 32
            tokens after it: a long good beginning cannot hide a bad end. Without tokens: the prompt's.
        last: state of the last response token, likewise; without tokens: the prompt's.
    """

    model: ModelIdentity
    layers: tuple[int, ...]
    tokens: int
    prompt: Any
    mean: Any
    last: Any


@dataclass(frozen=True, slots=True, repr=False)
class Candidate:
    """A proposed segment, not judged yet. Its ``repr`` says how long it is, and quotes nothing.

    ``text`` is the whole answer if this candidate were accepted: decoded from the accepted ids plus
    ``token_ids``, without an unfinished character at its end and cut before a stop string.
    ``state`` is the backend's own handle for continuing from here; nobody else reads it. ``hidden`` is there
    when the session was asked to observe layers, and covers all accepted tokens and those of the candidate.
    The first ``opening_tokens`` of its tokens were put there, and not drawn.
    """

    token_ids: tuple[int, ...]
    text: str
    finish: Finish | None = None
    state: Any = None
    hidden: HiddenStates | None = None
    opening_tokens: int = 0

    def __repr__(self) -> str:
        return f"Candidate({len(self.token_ids)} tokens, {len(self.text)} characters, finish={self.finish})"

    @property
    def finished(self) -> bool:
        """Whether the answer is complete, so that a reward may judge it as finished."""
        return self.finish in (Finish.EOS, Finish.STOP)


@dataclass(frozen=True, slots=True)
class Reward:
    """A judgement: ``value`` decides; the rest is for the trace.

    ``truncated_tokens`` counts prompt and response tokens that did not fit the reward model.
    """

    value: float
    truncated_tokens: int = 0
    components: Mapping[str, float] = field(default_factory=dict)
