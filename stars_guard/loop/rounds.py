"""A round: propose for all requests, score all candidates, offer each in index order.

Requests join and leave at segment borders, so the same rounds serve a single request, a batch, and many
threads and tasks at once. Nothing else decides what is shown. Which thread runs a round, and for which
requests, is up to a driver (:mod:`stars_guard.loop.drivers`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from stars_guard.algorithm.escalation import OtherSource
from stars_guard.errors import (
    GenerationError,
    PromptError,
    ScoringError,
    ends_program,
    outages_as,
)
from stars_guard.loop.drawing import Drawer, Entries, RoundEntry
from stars_guard.loop.endings import Endings
from stars_guard.loop.metering import Metered
from stars_guard.loop.openings import begun_with, put_after
from stars_guard.loop.orders import affordable, next_order, order_after_opening
from stars_guard.loop.request import RequestInFlight
from stars_guard.loop.sources import Proposers, Source
from stars_guard.models.base import takes_openings
from stars_guard.models.wanted import wanted_while
from stars_guard.rewards.asking import asked_from_within, asking
from stars_guard.rewards.base import RewardModel, ScoreRequest, score_checked
from stars_guard.rewards.halves import ByHalves
from stars_guard.types import Reward, StopReason


class Rounds:
    """What is done for requests, round by round. It has no thread and keeps no list of requests.

    Args:
        proposers: draw candidates.
        reward: judges them.
        shared: makes of a reward model one that may be asked by the threads that run rounds.
        max_rows: most candidates in one batch, over all requests. Requests beyond it wait their turn, which
            also bounds the memory for caches.
        share: most candidates of one request in a round with so many requests.
        drawer: where candidates come from.

    Attributes:
        endings: how requests end.
    """

    def __init__(
        self,
        proposers: Proposers,
        reward: RewardModel,
        shared: Callable[[RewardModel], RewardModel],
        *,
        max_rows: int,
        share: Callable[[int], int],
        drawer: Drawer,
    ) -> None:
        self.proposers = proposers
        self.reward = reward
        self._meter = Metered(reward)
        self._scorer = shared(self._meter)
        self._max_rows = max_rows
        self._share = share
        self._drawer = drawer
        self.endings = Endings(proposers, self._scorer, self._meter, drawer)

    def score(self, texts: Sequence[ScoreRequest]) -> list[Reward]:
        """Score texts of one's own beside those of requests. Blocks until they were scored.

        Raises:
            ScoringError: the reward model failed, or this was asked by the reward model itself.
        """
        self.refuse_from_within()
        return self._scored(texts)

    def refuse_from_within(self) -> None:
        """Refuse what a model or reward asks of the guard that is waiting for it.

        Raises:
            GenerationError: this runs in the language model, on behalf of this very guard.
            ScoringError: this runs in the reward model.
        """
        if error := asked_from_within(self):
            part = self.reward.name if error is ScoringError else self.proposers.model.name
            raise error(
                f"{part} asks the guard that is waiting for it, and both would wait for ever; "
                "give it a guard of its own"
            )

    def serve(self, requests: Sequence[RequestInFlight]) -> None:
        """One round, whatever happens in it: what is no error of the guard's ends the requests, too."""
        waiting = frozenset().union(*(request.askers for request in requests))
        try:
            with asking(self, GenerationError, waiting), wanted_while(_anybody(requests)):
                self.step(requests)
        except BaseException as error:
            if ends_program(error):
                raise
            # Whatever it was, callers must not wait for ever and the next request must be served.
            for request in requests:
                if not request.ended:
                    self.endings.broken(request, error)
        for request in requests:
            if request.ended:
                self.endings.settle(request)

    def step(self, requests: Sequence[RequestInFlight]) -> None:
        """One round: every request that fits is offered candidates, or ends.

        Args:
            requests: none of which has ended, in order of submission.
        """
        waiting = self._in_time(requests)
        share = self._share(len(waiting))
        fitting = self._fitting(waiting, share)
        entries = [entry for request in fitting if (entry := self._prepared(request, share))]
        entries = self._together(self._propose, entries, StopReason.GENERATION_ERROR)
        entries = self._together(self._ahead, entries, StopReason.GENERATION_ERROR)
        entries = self._together(self._score, entries, StopReason.SCORING_ERROR)
        for entry in entries:
            self._together(self._offer, [entry], StopReason.GENERATION_ERROR)

    def end_if_interrupted(self, request: RequestInFlight) -> bool:
        """End the request if it was cancelled or is out of time; True when it has ended."""
        with asking(self, GenerationError):
            return self.endings.interrupted(request)

    def _in_time(self, requests: Sequence[RequestInFlight]) -> list[RequestInFlight]:
        return [request for request in requests if not self.endings.interrupted(request)]

    def _fitting(self, requests: Sequence[RequestInFlight], share: int) -> Iterator[RequestInFlight]:
        rows = 0
        for request in requests:
            candidates = min(request.run.plan.candidates, share)
            rows += candidates
            if rows > self._max_rows and rows > candidates:
                return
            yield request

    def _prepared(self, request: RequestInFlight, share: int) -> RoundEntry | None:
        """The request's part in this round; None when it ended instead, or has yet to read on."""
        try:
            return self._entry(request, share)
        except BaseException as error:
            if ends_program(error):
                raise
            if isinstance(error, PromptError) and not request.started:
                self.endings.fail(request, error)
            else:
                scoring = isinstance(error, ScoringError)
                reason = StopReason.SCORING_ERROR if scoring else StopReason.GENERATION_ERROR
                self.endings.outage(request, error, reason)
            return None

    def _entry(self, request: RequestInFlight, share: int) -> RoundEntry | None:
        if not request.started and not self._started(request):
            return None
        if self.endings.interrupted(request):
            return None
        candidates = affordable(request, share)
        if isinstance(candidates, StopReason):
            self.endings.finish(request, candidates)
            return None
        draw = request.run.draw
        source = self._source(request, draw.source)
        if source is None or self.endings.interrupted(request):
            return None
        entry = RoundEntry(request, source, next_order(request, source.session, candidates))
        return entry if draw.opening is None else _after_opening(entry, draw.opening)

    def _started(self, request: RequestInFlight) -> bool:
        """Read the prompt, or a piece of it, and score it bare if that is needed; False before its end."""
        if not request.sessions:
            request.costs.work_began()
            self._meter.open(request)
        source = self._read(request, None)
        if source is None:
            return False
        with request.lock:
            request.begin(source.session, takes_openings=takes_openings(source.model))
        if bare := request.bare_texts(source.hidden):
            begun = time.monotonic()
            request.awaits = f"scoring with {self.reward.name}"
            rewards = self._scored(bare)
            request.run.base_rewards = {
                text.channel: reward.value for text, reward in zip(bare, rewards, strict=True)
            }
            request.costs.scored(begun)
        return True

    def _source(self, request: RequestInFlight, policy: OtherSource | None) -> Source | None:
        """Where the next attempts come from, brought to the accepted prefix; None before it is read."""
        source = self._read(request, policy)
        if source is not None:
            with outages_as(GenerationError, f"continuing with {source.model.name}"):
                request.sessions.catch_up(source, request.run.token_ids, request.text)
        return source

    def _read(self, request: RequestInFlight, policy: OtherSource | None) -> Source | None:
        """The source of a policy's attempts: opened if it is not open, and read on; None before its end."""
        source = request.sessions.find(policy)
        if source is not None and source.read:
            return source
        begun = time.monotonic()
        request.awaits = "reading the prompt"
        if source is None:
            source = self.proposers.begin(request.prompt, request.sampling, policy)
            request.sessions.add(policy, source)
        self.proposers.read_on(source)
        request.costs.prompt_read(begun)
        return source if source.read else None

    def _together(
        self, phase: Callable[[Entries], list[RoundEntry]], entries: Entries, reason: StopReason
    ) -> list[RoundEntry]:
        """Run a phase for all entries at once; if it fails, for halves of them: only the culprit fails."""

        def call(entries: Entries) -> list[RoundEntry]:
            wanted = [entry for entry in entries if not self.endings.interrupted(entry.request)]
            return phase(wanted) if wanted else []

        def alone(entry: RoundEntry, error: BaseException) -> list[RoundEntry]:
            self.endings.outage(entry.request, error, reason)
            return []

        return ByHalves(call, alone).results(entries)

    def _propose(self, entries: Entries) -> list[RoundEntry]:
        entries = [paid for entry in entries if (paid := self._paid(entry))]
        begun = time.monotonic()
        try:
            proposals = self._drawer.draw(entries)
        except GenerationError:
            for entry in entries:
                entry.request.costs.drawing_failed(entry.order.candidates * entry.order.cut.max_tokens)
            raise
        done = []
        for entry, drawn in zip(entries, proposals, strict=True):
            if entry.request.ended:
                continue
            proposal = begun_with(entry.opening, drawn)
            entry.request.costs.proposed(proposal, begun)
            texts = entry.request.texts(proposal.candidates)
            if texts or not proposal.candidates:
                done.append(replace(entry, candidates=proposal.candidates, texts=texts))
            else:
                self.endings.finish(entry.request, StopReason.REWARD_BUDGET)
        return done

    def _paid(self, entry: RoundEntry) -> RoundEntry | None:
        """The entry with as many candidates as its request can pay, also after a call that failed."""
        request, order = entry.request, entry.order
        candidates = affordable(request, order.candidates)
        if isinstance(candidates, StopReason):
            self.endings.finish(request, candidates)
            return None
        request.awaits = f"drawing with {entry.source.model.name}"
        return replace(entry, order=replace(order, candidates=candidates))

    def _ahead(self, entries: Entries) -> list[RoundEntry]:
        with outages_as(GenerationError, f"drawing ahead with {self.proposers.model.name}"):
            self._drawer.scoring_begins(entries)
        return list(entries)

    def _score(self, entries: Entries) -> list[RoundEntry]:
        begun = time.monotonic()
        for entry in entries:
            entry.request.awaits = f"scoring with {self.reward.name}"
        rewards = iter(self._scored([text for entry in entries for texts in entry.texts for text in texts]))
        done = []
        for entry in entries:
            entry.request.costs.scored(begun)
            by_channel = [[(text.channel, next(rewards)) for text in texts] for texts in entry.texts]
            done.append(replace(entry, rewards=by_channel))
        return done

    def _scored(self, texts: Sequence[ScoreRequest]) -> list[Reward]:
        with asking(self, ScoringError):
            return score_checked(self._scorer, texts)

    def _offer(self, entries: Entries) -> list[RoundEntry]:
        for entry in entries:
            request = entry.request
            with request.lock, outages_as(GenerationError, f"continuing with {self.proposers.model.name}"):
                if not request.ended:
                    request.judge(entry.source, entry.candidates, entry.rewards)
            if request.run.stop_reason is StopReason.EXHAUSTED:
                self.endings.exhausted(request)
            elif request.run.stop_reason is not None:
                self.endings.finish(request, request.run.stop_reason)
        return []


def _after_opening(entry: RoundEntry, opening: str) -> RoundEntry:
    """The entry whose candidates begin with an opening, and are drawn after it."""
    request, order = entry.request, entry.order
    with outages_as(GenerationError, f"continuing with {entry.source.model.name}"):
        text = put_after(request.text, opening)
        session, opened = request.sessions.opened(entry.source, text, order.cut.max_tokens - 1)
    return replace(entry, order=order_after_opening(order, session, opened), opening=opened)


def _anybody(requests: Sequence[RequestInFlight]) -> Callable[[], bool]:
    return lambda: any(request.alive() for request in requests)
