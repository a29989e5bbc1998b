"""Where the candidates of one answer come from: the language model's own session, and those of escalation.

All sessions of an answer are kept in step, by token ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

from stars_guard.algorithm.config import SamplingParams
from stars_guard.algorithm.escalation import OtherSource, SaferModel, SafetyHint
from stars_guard.errors import GenerationError, PromptError, ends_program, outages_as
from stars_guard.models.base import (
    LanguageModel,
    ObservableModel,
    ObservedSession,
    Order,
    Proposal,
    ReadsInPieces,
    Session,
    TakesOpenings,
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
    layers: tuple[int, ...] = ()
    """Layers of the model that are observed, if the reward reads hidden states."""
    hidden: HiddenStates | None = None
    """The states of the bare prompt, if the reward reads hidden states."""
    tokens: int = 0
    read: bool = False
    """Whether the model has read the prompt, to its end."""


@dataclass(frozen=True)
class Proposers:
    """The language models that candidates may come from, and which layers of the first are observed."""

    model: LanguageModel
    safer_model: LanguageModel | None
    layers: tuple[int, ...]

    @classmethod
    def of(cls, model: LanguageModel, safer_model: LanguageModel | None, reward: RewardModel) -> Proposers:
        """The proposers of a loop, with the layers whose states the reward wants.

        Args:
            model: draws candidates, and is observed.
            safer_model: draws candidates for the policy of that name, if there is one.
            reward: may read hidden states.

        Raises:
            ConfigurationError: the reward reads the states of another model.
        """
        identity = model.identity if isinstance(model, ObservableModel) else None
        readers = [reader for reader in hidden_state_readers(reward) if reader.observes(identity)]
        layers = {layer for reader in readers for layer in reader.hidden_layers}
        return cls(model, safer_model, tuple(sorted(layers)))

    @cached_property
    def guarantee(self) -> Guarantee:
        """The weakest level of those that may draw."""
        levels = [guarantee_of(model) for model in (self.model, self.safer_model) if model is not None]
        return max(levels, key=list(Guarantee).index)

    def open(self, prompt: Prompt, sampling: SamplingParams, policy: OtherSource | None) -> Source:
        """Read the prompt to its end. Arguments and errors are those of :meth:`begin`."""
        source = self.begin(prompt, sampling, policy)
        while not source.read:
            self.read_on(source)
        return source

    def begin(self, prompt: Prompt, sampling: SamplingParams, policy: OtherSource | None) -> Source:
        """Open a session on the prompt, for the attempts that a policy draws; it may have yet to be read.

        Args:
            prompt: what to answer.
            sampling: how to draw; its ``seed`` is set.
            policy: None for the attempts that are drawn as usual.

        Raises:
            PromptError: the prompt cannot be served.
            GenerationError: whatever else the model raised.
        """
        safer = self.safer_model if isinstance(policy, SaferModel) else None
        model = safer or self.model
        with outages_as(GenerationError, f"reading the prompt with {model.name}"):
            layers = () if safer or isinstance(policy, SafetyHint) else self.layers
            if isinstance(policy, SafetyHint):
                prompt = hinted(prompt, policy.text)
            if isinstance(model, ReadsInPieces):
                return Source(model, model.begin(prompt, sampling, layers), layers)
            if layers and isinstance(model, ObservableModel):
                observed = model.observe(prompt, sampling, layers)
                return Source(model, observed, layers, observed.hidden, read=True)
            return Source(model, model.start(prompt, sampling), read=True)

    def read_on(self, source: Source) -> None:
        """Read the next piece of the prompt, if it was not read to its end.

        Raises:
            GenerationError: the model failed.
        """
        if source.read or not isinstance(source.model, ReadsInPieces):
            return
        with outages_as(GenerationError, f"reading the prompt with {source.model.name}"):
            source.read = source.model.read_on(source.session)
            if source.read and source.layers:
                source.hidden = cast("ObservedSession", source.session).hidden


def proposed(orders: Sequence[tuple[Source, Order]]) -> list[Proposal]:
    """One proposal for each order; each model draws for all its sources in one batch.

    Raises:
        GenerationError: a model raised, or did not draw what was ordered.
    """
    proposals: dict[int, Proposal] = {}
    for model in {id(source.model): source.model for source, _ in orders}.values():
        its_orders = {n: order for n, (source, order) in enumerate(orders) if source.model is model}
        with outages_as(GenerationError, f"drawing candidates with {model.name}"):
            drawn = model.propose(list(its_orders.values()))
            for (n, order), proposal in zip(its_orders.items(), drawn, strict=True):
                _check_count(order, proposal)
                proposals[n] = proposal
    return [proposals[n] for n in range(len(orders))]


def _check_count(order: Order, proposal: Proposal) -> None:
    if len(proposal.candidates) != order.candidates and order.alive():
        raise GenerationError(f"{len(proposal.candidates)} of {order.candidates} candidates came back")


class Sessions:
    """The sources that are open for one answer, each opened when it is first needed."""

    def __init__(self) -> None:
        self._sources: dict[OtherSource | None, Source] = {}
        self._drew: dict[int, Source] = {}
        self._opened: dict[tuple[str, int], tuple[Session, Candidate]] = {}
        self._unclosed: list[BaseException] = []
        self._closed_passes = 0

    def __len__(self) -> int:
        """How many are open."""
        return len(self._sources)

    @property
    def forward_passes(self) -> int:
        """Passes through the models that these sessions took part in, those closed since included."""
        sessions = [source.session for source in self._sources.values()]
        opened = [session for session, _ in self._opened.values()]
        return self._closed_passes + sum(session.forward_passes for session in (*sessions, *opened))

    def find(self, policy: OtherSource | None) -> Source | None:
        """The source of a policy's attempts, if it is open."""
        return self._sources.get(policy)

    def add(self, policy: OtherSource | None, source: Source) -> None:
        """A source that was opened now."""
        self._sources[policy] = source

    def catch_up(self, source: Source, token_ids: Sequence[int], text: str) -> None:
        """Hand a source the accepted tokens that it has not seen.

        Args:
            source: one of these.
            token_ids: all accepted tokens.
            text: the whole answer with them.
        """
        if source.tokens < len(token_ids):
            source.session.accept(Candidate(tuple(token_ids[source.tokens :]), text))
            source.tokens = len(token_ids)

    def opened(self, source: Source, text: str, most: int) -> tuple[Session, Candidate]:
        """A session that has gone on from a source with a text, and what that adds; kept for this segment.

        What is drawn there may be accepted by the source itself, beginning with what was added.

        Args:
            source: one of these, brought to the accepted prefix, of a model that takes openings.
            text: what to go on with.
            most: most tokens of it.
        """
        if (text, most) not in self._opened:
            self._opened[text, most] = cast("TakesOpenings", source.model).opened(source.session, text, most)
        return self._opened[text, most]

    def drew(self, source: Source, first_attempt: int, candidates: int) -> None:
        """Note which source drew which attempts at the current segment.

        Args:
            source: drew them.
            first_attempt: number of the first, from 0.
            candidates: how many they are.
        """
        self._drew |= dict.fromkeys(range(first_attempt, first_attempt + candidates), source)

    def accept(self, chosen: Candidate, attempt: int) -> None:
        """The source that drew it goes on from it; the language model's own reads its tokens anew."""
        owner = self._drew[attempt]
        self._drew.clear()
        self._drop_openings()
        owner.session.accept(chosen)
        owner.tokens += len(chosen.token_ids)
        usual = self._sources.get(None)
        if usual is not None and usual is not owner:
            usual.session.accept(replace(chosen, state=None, hidden=None))
            usual.tokens += len(chosen.token_ids)

    def hold(self, candidate: Candidate, attempt: int) -> None:
        """The candidate may yet be accepted."""
        self._drew[attempt].session.hold(candidate)

    def close(self) -> list[BaseException]:
        """Close all, also after one could not be closed; returns what that raised, earlier ones included."""
        self._let_go(source.session for source in self._sources.values())
        self._drop_openings()
        self._sources.clear()
        self._drew.clear()
        errors, self._unclosed = self._unclosed, []
        return errors

    def _drop_openings(self) -> None:
        """The answer goes on from another place than the one that the openings were put after."""
        self._let_go(session for session, _ in self._opened.values())
        self._opened.clear()

    def _let_go(self, sessions: Iterable[Session]) -> None:
        for session in sessions:
            try:
                self._closed_passes += session.forward_passes
                session.close()
            except BaseException as error:
                if ends_program(error):
                    raise
                self._unclosed.append(error)


def hinted(prompt: Prompt, hint: str) -> Prompt:
    """The prompt with a hint at the end of its last user message.

    Raises:
        PromptError: it is a raw text, which has no place for a hint, or no user speaks in it.
    """
    places = [n for n, message in enumerate(prompt.messages) if message["role"] == "user"]
    if not places:
        raise PromptError("a safety hint needs a conversation with a user message; leave the policy out")
    messages = list(prompt.messages)
    last = messages[places[-1]]
    messages[places[-1]] = Message(**{**last, "content": f"{last['content']}\n\n{hint}"})
    return replace(prompt, messages=tuple(messages))
