"""Public fakes: language models and rewards without weights, for your tests and ours.

They keep the contracts of :mod:`stars_guard.models.base` and :mod:`stars_guard.rewards.base` to the letter,
random numbers included, so that what holds for them holds for the real ones.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from copy import copy
from itertools import accumulate
from typing import TypeAlias

from stars_guard.algorithm.config import SamplingParams
from stars_guard.algorithm.random_numbers import uniform
from stars_guard.errors import PromptError
from stars_guard.models.base import Order, Proposal, Session
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.text.answer_stops import AnswerStops
from stars_guard.text.dialects import HERMES, PLAIN, Dialect
from stars_guard.types import Candidate, Finish, Named, Reward

__all__ = [
    "Distribution",
    "FailingReward",
    "FakeSession",
    "KeywordReward",
    "Script",
    "ScriptedModel",
    "SelfBatchingModel",
    "TabularModel",
    "fake_session",
]

Distribution: TypeAlias = Callable[[tuple[int, ...]], Sequence[float]]
"""Next-token probabilities after the given response ids."""
Script: TypeAlias = Sequence[Sequence[str]]
"""Texts by segment, then by attempt."""


class FakeSession:
    """A session that only remembers; ``closed`` and ``held`` tell a test what was asked of it.

    Args:
        prompt: what is being answered.
        sampling: how to propose.
        dialect: how the texts mark reasoning and tool calls.
        script: the texts by segment, then by attempt, where they depend on the prompt.
    """

    def __init__(
        self, prompt: Prompt, sampling: SamplingParams, dialect: Dialect = PLAIN, script: Script = ()
    ) -> None:
        self.prompt = prompt
        self.sampling = sampling
        self.token_ids: tuple[int, ...] = ()
        self.text = ""
        self.search = AnswerStops(sampling.stop, dialect, tools=prompt.tools is not None)
        """For stop strings, in the accepted text."""
        self.held: list[Candidate] = []
        self.closed = False
        self.forward_passes = 1
        self.dialect = dialect
        self.script = script

    @property
    def prompt_tokens(self) -> int:
        """One token a word."""
        return len(self.prompt.as_text().split())

    def accept(self, candidate: Candidate) -> None:
        """Continue from ``candidate``, wherever it was drawn."""
        self.token_ids += candidate.token_ids
        self.text = candidate.text
        self.search.read(self.text)

    def branch(self, candidate: Candidate) -> FakeSession:
        """A copy that has accepted the candidate, and took part in no pass."""
        branch = copy(self)
        branch.search, branch.held, branch.forward_passes = self.search.fork(), [], 0
        branch.accept(candidate)
        return branch

    def hold(self, candidate: Candidate) -> None:
        """Remember what was held."""
        self.held.append(candidate)

    def close(self) -> None:
        """Remember that it was closed."""
        self.closed = True


class TabularModel(Named):
    """A language model given as a table: small enough to enumerate, drawn like a real one.

    Args:
        distribution: next-token probabilities, one per entry of ``vocabulary``, after given response ids, at
            whatever temperature a request asks for. An order at another temperature raises them to the
            quotient of the two.
        vocabulary: the text of each token.
        eos: id of the token that ends an answer, or None.
        dialect: how the texts mark reasoning and tool calls.
    """

    def __init__(
        self,
        distribution: Distribution,
        vocabulary: Sequence[str],
        eos: int | None = None,
        dialect: Dialect = PLAIN,
    ) -> None:
        self._distribution = distribution
        self._vocabulary = vocabulary
        self._eos = eos
        self._dialect = dialect
        self.name = "tabular"

    def start(self, prompt: Prompt, sampling: SamplingParams) -> FakeSession:
        """Open a session."""
        return FakeSession(prompt, sampling, self._dialect)

    def opened(self, session: Session, text: str, most: int) -> tuple[FakeSession, Candidate]:
        """A session that goes on with a text, each character of which is an entry of the vocabulary."""
        before, ids = fake_session(session), tuple(map(self._vocabulary.index, text[:most]))
        opening = Candidate(ids, self._text((*before.token_ids, *ids)))
        return before.branch(opening), opening

    def propose(self, orders: Sequence[Order]) -> list[Proposal]:
        """Draw every candidate by inverse CDF with the addressed uniform numbers."""
        return [self._proposal(order, fake_session(order.session)) for order in orders]

    def _proposal(self, order: Order, session: FakeSession) -> Proposal:
        drawn: list[Candidate] = []
        tokens = 0
        for number in range(order.candidates):
            ids: list[int] = []
            candidate = self._candidate(order, session, order.first_attempt + number, ids)
            tokens += len(ids)
            if candidate is None:
                return Proposal((), tokens)
            drawn.append(candidate)
        return Proposal(tuple(drawn), tokens)

    def _candidate(
        self, order: Order, session: FakeSession, attempt: int, ids: list[int]
    ) -> Candidate | None:
        """Draw into ``ids``; None if the order died on the way."""
        search = session.search.fork()
        while order.alive():
            point = uniform(session.sampling.seed or 0, order.segment, attempt, len(ids))
            probabilities = self._distribution((*session.token_ids, *ids))
            ids.append(self._pick(_tempered(probabilities, session.sampling, order), point))
            session.forward_passes += 1
            finish = self._finish(ids, order)
            text = self._text((*session.token_ids, *ids))
            stopped = search.read(text, ended=finish is not None).stopped
            if stopped is not None:
                return Candidate(tuple(ids), stopped, Finish.STOP)
            if finish is not None or order.cut.ends_after(len(ids), text):
                return Candidate(tuple(ids), text, finish)
        return None

    def _pick(self, probabilities: Sequence[float], point: float) -> int:
        cumulative = list(accumulate(probabilities))
        scaled: float = point * cumulative[-1]
        return bisect_right(cumulative, scaled)

    def _finish(self, ids: Sequence[int], order: Order) -> Finish | None:
        if ids[-1] == self._eos:
            return Finish.EOS
        return Finish.LENGTH if order.ends_answer and len(ids) >= order.cut.max_tokens else None

    def _text(self, ids: Sequence[int]) -> str:
        return "".join(self._vocabulary[token_id] for token_id in ids if token_id != self._eos)


class ScriptedModel(Named):
    """Proposes given texts: ``script[k][j]`` is attempt ``j`` at segment ``k``, and the last segment ends it.

    Where segments are withdrawn and decided anew, ``k`` counts every try. Attempts beyond a segment's list
    repeat its last entry. A token is one character, which makes lengths easy to read in a test. A forced tool
    choice or a response schema is the script's own business, and so is its length: a text that is longer than
    the settings let a segment be makes a trace that does not replay.

    Args:
        script: the texts, or a function that gives those for a prompt.
        dialect: how the script marks reasoning and tool calls.
        finish: why the model ends with the script; ``LENGTH`` is an answer that was cut off.
    """

    def __init__(
        self,
        script: Script | Callable[[Prompt], Script],
        dialect: Dialect = HERMES,
        *,
        finish: Finish = Finish.EOS,
    ) -> None:
        self._script = script
        self._finish = finish
        self._fixed = () if callable(script) else script
        self._dialect = dialect
        self.name = "scripted"
        self.sessions: list[FakeSession] = []
        """Every session started, in order."""

    def start(self, prompt: Prompt, sampling: SamplingParams) -> FakeSession:
        """Open a session."""
        script = self._script(prompt) if callable(self._script) else ()
        self.sessions.append(FakeSession(prompt, sampling, self._dialect, script))
        return self.sessions[-1]

    def opened(self, session: Session, text: str, most: int) -> tuple[FakeSession, Candidate]:
        """A session that goes on with a text; the script says what comes after it."""
        before = fake_session(session)
        opening = Candidate(tuple(map(ord, text[:most])), before.text + text[:most])
        return before.branch(opening), opening

    def propose(self, orders: Sequence[Order]) -> list[Proposal]:
        """Look the candidates up."""
        return [self._proposal(order, fake_session(order.session)) for order in orders]

    def _proposal(self, order: Order, session: FakeSession) -> Proposal:
        if not order.alive():
            return Proposal((), tokens=0)
        session.forward_passes += 1
        attempts = range(order.first_attempt, order.first_attempt + order.candidates)
        candidates = tuple(self._candidate(order, session, attempt) for attempt in attempts)
        return Proposal(candidates, tokens=sum(len(candidate.token_ids) for candidate in candidates))

    def _candidate(self, order: Order, session: FakeSession, attempt: int) -> Candidate:
        script = self._fixed or session.script
        texts = script[order.segment]
        segment = texts[min(attempt, len(texts) - 1)]
        text = session.text + segment
        finish = self._finish if order.segment == len(script) - 1 else None
        stopped = session.search.fork().read(text, ended=finish is not None).stopped
        if stopped is not None:
            text, finish = stopped, Finish.STOP
        return Candidate(tuple(map(ord, segment)), text, finish)


class SelfBatchingModel(Named):
    """One of these models as if behind an engine that batches on its own: it may be drawn from ahead.

    Args:
        model: draws.
        has_room: asked before anything is drawn ahead.
    """

    def __init__(
        self, model: TabularModel | ScriptedModel, has_room: Callable[[], bool] = lambda: True
    ) -> None:
        self.model = model
        self.name = model.name
        self._has_room = has_room

    @property
    def has_room(self) -> bool:
        """What was given."""
        return self._has_room()

    def start(self, prompt: Prompt, sampling: SamplingParams) -> FakeSession:
        """Open a session."""
        return self.model.start(prompt, sampling)

    def propose(self, orders: Sequence[Order]) -> list[Proposal]:
        """Draw, or look up."""
        return self.model.propose(orders)

    def ahead(self, session: Session, candidate: Candidate) -> FakeSession:
        """A copy that has accepted the candidate."""
        return fake_session(session).branch(candidate)

    def opened(self, session: Session, text: str, most: int) -> tuple[FakeSession, Candidate]:
        """A session that goes on with a text."""
        return self.model.opened(session, text, most)


class KeywordReward(Named):
    """A high reward for a text free of the given words, a low one otherwise; case does not matter.

    Args:
        words: what makes a text bad.
        good: reward of a text without any of them.
        bad: reward of a text with one.
    """

    def __init__(self, words: Sequence[str], *, good: float = 1.0, bad: float = -1.0) -> None:
        self._words = [word.lower() for word in words]
        self._good, self._bad = good, bad
        self.name = "keywords"
        self.seen: list[ScoreRequest] = []
        """Every request scored, in order."""
        self.released: list[str] = []
        """The ``run_id`` of every answer that is over."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """Look for the words in each response."""
        self.seen.extend(requests)
        return [Reward(self._value(request.response.lower())) for request in requests]

    def release(self, run_id: str) -> None:
        """Remember it."""
        self.released.append(run_id)

    def _value(self, text: str) -> float:
        return self._bad if any(word in text for word in self._words) else self._good


class FailingReward(Named):
    """Raises ``error`` after ``after`` successful calls; until then, everything scores 1.0."""

    def __init__(self, error: Exception, *, after: int = 0) -> None:
        self._error = error
        self._left = after
        self.name = "failing"

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """Succeed, then fail."""
        if self._left == 0:
            raise self._error
        self._left -= 1
        return [Reward(1.0) for _ in requests]

    def release(self, run_id: str) -> None:
        """Do nothing: this reward keeps nothing."""


def _tempered(probabilities: Sequence[float], sampling: SamplingParams, order: Order) -> list[float]:
    """The weights to draw from at the temperature of an order, or of the answer.

    The table is that of the answer's temperature, and where that is 0, that of temperature 1.
    """
    if order.temperature is not None:
        power = (sampling.temperature or 1.0) / order.temperature
        return [share**power if share else 0.0 for share in probabilities]
    if sampling.temperature > 0:
        return list(probabilities)
    likeliest = probabilities.index(max(probabilities))
    return [float(place == likeliest) for place in range(len(probabilities))]


def fake_session(session: Session) -> FakeSession:
    """The session, which must be one of this module's."""
    if not isinstance(session, FakeSession):
        raise PromptError(f"a session of another model was passed: {type(session).__name__}")
    return session
