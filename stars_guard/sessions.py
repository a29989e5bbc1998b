"""The sessions of one answer: the language model's own, and those that escalation draws from, all in step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from stars_guard.errors import PromptError
from stars_guard.escalation import MODEL, Redraw, SaferModel, SafetyHint
from stars_guard.models.base import LanguageModel, Session
from stars_guard.types import Candidate, Message, Prompt


@dataclass(eq=False, slots=True)
class Source:
    """Where candidates come from. The session was handed the first ``tokens`` accepted ids."""

    model: LanguageModel
    session: Session
    tokens: int = 0


class Sessions:
    """Opened when they are first needed, and brought to the accepted prefix by token ids."""

    def __init__(self) -> None:
        self._sources: dict[str, Source] = {}
        self._drew: dict[int, Source] = {}
        self._closed_passes = 0

    @property
    def forward_passes(self) -> int:
        """Passes through the models that these sessions took part in, those closed since included."""
        return self._closed_passes + sum(one.session.forward_passes for one in self._sources.values())

    def find(self, policy: Redraw | None) -> Source | None:
        """The source of a policy, if it is open."""
        return self._sources.get(_place(policy))

    def add(self, policy: Redraw | None, model: LanguageModel, session: Session) -> Source:
        """A source that was opened now."""
        source = self._sources[_place(policy)] = Source(model, session)
        return source

    def catch_up(self, source: Source, token_ids: Sequence[int], text: str) -> None:
        """Hand a source the accepted tokens that it has not seen; ``text`` is the answer with them."""
        if source.tokens < len(token_ids):
            source.session.accept(Candidate(tuple(token_ids[source.tokens :]), text))
            source.tokens = len(token_ids)

    def drew(self, source: Source, first_attempt: int, candidates: int) -> None:
        """These attempts at the current segment were drawn by ``source``."""
        self._drew |= dict.fromkeys(range(first_attempt, first_attempt + candidates), source)

    def accept(self, chosen: Candidate, attempt: int) -> None:
        """The source that drew it goes on from it; the language model's own reads its tokens anew."""
        owner = self._drew[attempt]
        self._drew.clear()
        owner.session.accept(chosen)
        owner.tokens += len(chosen.token_ids)
        own = self._sources.get(MODEL)
        if own is not None and own is not owner:
            own.session.accept(replace(chosen, state=None, hidden=None))
            own.tokens += len(chosen.token_ids)

    def hold(self, candidate: Candidate, attempt: int) -> None:
        """The candidate may yet be accepted."""
        self._drew[attempt].session.hold(candidate)

    def close(self) -> Iterator[Exception]:
        """Close all, also after one could not be closed; what that raised is handed out."""
        for source in self._sources.values():
            try:
                self._closed_passes += source.session.forward_passes
                source.session.close()
            except Exception as error:  # noqa: BLE001 - the caller decides
                yield error
        self._sources.clear()
        self._drew.clear()


def _place(policy: Redraw | None) -> str:
    return policy.kind if isinstance(policy, SafetyHint | SaferModel) else MODEL


def hinted(prompt: Prompt, hint: str) -> Prompt:
    """The prompt with a hint at the end of its last user message.

    Raises:
        PromptError: it is a raw text, which has no place for a hint, or no user speaks in it.
    """
    places = [n for n, message in enumerate(prompt.messages) if message["role"] == "user"]
    if not places:
        raise PromptError("a safety hint needs a conversation with a user message; leave the policy out")
    messages = list(prompt.messages)
    said = messages[places[-1]]
    messages[places[-1]] = Message(**{**said, "content": f"{said['content']}\n\n{hint}"})
    return replace(prompt, messages=tuple(messages))
