"""The sessions of one answer: the language model's own, and those that escalation draws from, all in step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from stars_guard.algorithm.config import SamplingParams
from stars_guard.algorithm.escalation import Redraw, SaferModel, SafetyHint
from stars_guard.errors import GenerationError, PromptError, boundary
from stars_guard.models.base import (
    LanguageModel,
    ObservableModel,
    Order,
    Proposal,
    Session,
    guarantee_of,
)
from stars_guard.prompts import Message, Prompt
from stars_guard.rewards.base import RewardModel, hidden_state_readers
from stars_guard.types import Candidate, Guarantee, HiddenStates


@dataclass(eq=False, slots=True)
class Source:
    """Where candidates come from. The session was handed the first ``tokens`` accepted ids."""

    model: LanguageModel
    session: Session
    hidden: HiddenStates | None = None
    """The states of the bare prompt, if the reward reads hidden states."""
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Proposers:
    """The language models that candidates may come from, and which layers of the first are observed."""

    model: LanguageModel
    safer_model: LanguageModel | None
    layers: tuple[int, ...]

    @classmethod
    def of(cls, model: LanguageModel, safer_model: LanguageModel | None, reward: RewardModel) -> Proposers:
        """With the layers of ``model`` whose states the reward wants.

        Raises:
            ConfigurationError: the reward reads the states of another model.
        """
        identity = model.identity if isinstance(model, ObservableModel) else None
        readers = [reader for reader in hidden_state_readers(reward) if reader.observes(identity)]
        layers = {layer for reader in readers for layer in reader.hidden_layers}
        return cls(model, safer_model, tuple(sorted(layers)))

    @property
    def guarantee(self) -> Guarantee:
        """The weakest level of those that may draw."""
        levels = [guarantee_of(one) for one in (self.model, self.safer_model) if one is not None]
        return max(levels, key=list(Guarantee).index)

    def open(self, prompt: Prompt, sampling: SamplingParams, policy: Redraw | None) -> Source:
        """Read the prompt, for the attempts that a policy draws.

        Raises:
            PromptError: the prompt cannot be served.
            GenerationError: whatever else the model raised.
        """
        safer = self.safer_model if isinstance(policy, SaferModel) else None
        model = safer or self.model
        with boundary(GenerationError, f"reading the prompt with {model.name}"):
            if isinstance(policy, SafetyHint):
                return Source(model, model.start(hinted(prompt, policy.text), sampling))
            if safer is None and self.layers and isinstance(model, ObservableModel):
                observed = model.observe(prompt, sampling, self.layers)
                return Source(model, observed, observed.hidden)
            return Source(model, model.start(prompt, sampling))


def proposed(asked: Sequence[tuple[Source, Order]]) -> list[Proposal]:
    """One proposal for each order; each model draws for all its sources in one batch.

    Raises:
        GenerationError: a model raised, or did not draw what was ordered.
    """
    found: dict[int, Proposal] = {}
    for model in {id(source.model): source.model for source, _ in asked}.values():
        own = [(n, order) for n, (source, order) in enumerate(asked) if source.model is model]
        with boundary(GenerationError, f"drawing candidates with {model.name}"):
            proposals = model.propose([order for _, order in own])
            for (n, order), proposal in zip(own, proposals, strict=True):
                _check_count(order, proposal)
                found[n] = proposal
    return [found[n] for n in range(len(asked))]


def _check_count(order: Order, proposal: Proposal) -> None:
    if len(proposal.candidates) != order.candidates and order.alive():
        raise GenerationError(f"{len(proposal.candidates)} of {order.candidates} candidates came back")


class Sessions:
    """Opened when they are first needed, and brought to the accepted prefix by token ids."""

    def __init__(self) -> None:
        self._sources: dict[Redraw | None, Source] = {}
        self._drew: dict[int, Source] = {}
        self._closed_passes = 0

    def __len__(self) -> int:
        """How many are open."""
        return len(self._sources)

    @property
    def forward_passes(self) -> int:
        """Passes through the models that these sessions took part in, those closed since included."""
        return self._closed_passes + sum(one.session.forward_passes for one in self._sources.values())

    def find(self, policy: Redraw | None) -> Source | None:
        """The source of a policy's attempts, if it is open."""
        return self._sources.get(_place(policy))

    def add(self, policy: Redraw | None, source: Source) -> None:
        """A source that was opened now."""
        self._sources[_place(policy)] = source

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
        own = self._sources.get(None)
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


def _place(policy: Redraw | None) -> Redraw | None:
    """Another temperature needs no other session."""
    return policy if isinstance(policy, SafetyHint | SaferModel) else None


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
