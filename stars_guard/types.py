"""The plain data that crosses module borders: prompts, candidates, stop reasons. No logic, no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias, TypedDict

from stars_guard.errors import PromptError


class Message(TypedDict):
    """One chat turn, in the form every chat template takes."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the answer answers: chat ``messages``, or raw ``text`` to be continued as it stands.

    Exactly one of the two is set. ``as_messages`` and ``as_text`` give either view to a reward model.
    """

    messages: tuple[Message, ...] = ()
    text: str | None = None

    @classmethod
    def of(cls, prompt: PromptLike) -> Prompt:
        """Normalise what users pass: a string is one user message, a list is a conversation.

        Raises:
            PromptError: the prompt is empty, or a message has no string ``role`` and ``content``.
        """
        if isinstance(prompt, Prompt) and prompt.text:
            return prompt
        if isinstance(prompt, str):
            prompt = [{"role": "user", "content": prompt}]
        given = prompt.messages if isinstance(prompt, Prompt) else prompt
        if not isinstance(given, Sequence):
            raise PromptError(f"a prompt is a text or a list of messages, got {type(given).__name__}")
        messages = tuple(_checked_message(message) for message in given)
        if not any(message["content"].strip() for message in messages):
            raise PromptError("the prompt is empty; give a text, or at least one message with content")
        return cls(messages=messages)

    @classmethod
    def raw(cls, text: str) -> Prompt:
        """Text to be continued as it stands, without a chat template."""
        if not text:
            raise PromptError("the raw prompt is empty; give a text to continue")
        return cls(text=text)

    def as_messages(self) -> list[Message]:
        """The conversation; a raw text counts as one user message."""
        if self.text is not None:
            return [Message(role="user", content=self.text)]
        return list(self.messages)

    def as_text(self) -> str:
        """The conversation as plain text, one turn a line; what pair and text classifiers read."""
        return "\n".join(message["content"] for message in self.as_messages())


PromptLike: TypeAlias = str | Sequence[Message] | Prompt


def _checked_message(message: Any) -> Message:
    try:
        role, content = message["role"], message["content"]
    except (TypeError, KeyError, IndexError):
        role = content = None
    if not isinstance(role, str) or not isinstance(content, str):
        raise PromptError(
            f"a message must be a dict with string 'role' and 'content', got {type(message).__name__}"
        )
    return Message(role=role, content=content)


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
    """No acceptable segment: the refusal text was given instead."""
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


@dataclass(frozen=True, slots=True)
class Candidate:
    """A proposed segment, not judged yet.

    ``text`` is the whole answer if this candidate were accepted: decoded from the accepted ids plus
    ``token_ids``, without an unfinished character at its end and cut before a stop string.
    ``state`` is the backend's own handle for continuing from here; nobody else reads it.
    """

    token_ids: tuple[int, ...]
    text: str
    finish: Finish | None = None
    state: Any = None

    @property
    def finished(self) -> bool:
        """Whether the answer is complete, so that a reward may judge it as finished."""
        return self.finish in (Finish.EOS, Finish.STOP)
