"""A round: propose for all requests, score all candidates, offer each in index order.

Requests join and leave at segment borders, so the same rounds serve a single request, a batch, and many
threads and tasks at once. Nothing else decides what is shown. Which thread runs a round, and for which
requests, is up to a driver (:mod:`stars_guard.loop.drivers`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from stars_guard.algorithm.escalation import Redraw
from stars_guard.algorithm.trace import Trace
from stars_guard.errors import (
    GenerationError,
    NoAcceptableSegment,
    PromptError,
    ScoringError,
    StarsGuardError,
    failures_as,
    kind_and_places,
    without_foreign_words,
)
from stars_guard.loop.request import RequestInFlight
from stars_guard.loop.sources import Proposers, Source, proposed
from stars_guard.models.base import Order, Proposal
from stars_guard.rewards.base import RewardModel, ScoreRequest, score_checked
from stars_guard.types import Candidate, Channel, Reward, StopReason

log = logging.getLogger("stars_guard")


@dataclass(frozen=True, slots=True)
class RoundEntry:
    """One request's part in a round."""

    request: RequestInFlight
    source: Source
    order: Order
    candidates: tuple[Candidate, ...] = ()
    texts: Sequence[Sequence[ScoreRequest]] = ()
    """What is scored of each candidate."""
    rewards: Sequence[Sequence[tuple[Channel, Reward]]] = ()
    """The rewards of each candidate, by channel."""


Entries: TypeAlias = Sequence[RoundEntry]


class Drawer(Protocol):
    """Where the candidates of a round come from: drawn now, or while earlier ones were scored."""

    def draw(self, entries: Entries) -> list[Proposal]:
        """One proposal for each entry.

        Raises:
            GenerationError: a model failed.
        """

    def scoring_begins(self, entries: Entries) -> None:
        """The candidates of these entries are scored next, which leaves time to draw ahead."""

    def request_ends(self, request: RequestInFlight) -> None:
        """The bill of a request is made next."""


class DrawNow:
    """The plain drawer: each candidate is drawn in the round that judges it."""

    def draw(self, entries: Entries) -> list[Proposal]:
        """One proposal for each entry; each model draws for all its entries in one batch."""
        return proposed([(entry.source, entry.order) for entry in entries])

    def scoring_begins(self, entries: Entries) -> None:
        """No candidate is drawn ahead."""

    def request_ends(self, request: RequestInFlight) -> None:
        """No candidate was drawn ahead."""


class Rounds:
    """What is done for requests, round by round. It has no thread and keeps no list of requests.

    Args:
        proposers: draw candidates.
        reward: judges them.
        scorer: the reward model as it may be asked by the threads that run rounds.
        max_rows: most candidates in one batch, over all requests. Requests beyond it wait their turn, which
            also bounds the memory for caches.
        share: most candidates of one request in a round with so many requests.
        drawer: where candidates come from.
    """

    def __init__(
        self,
        proposers: Proposers,
        reward: RewardModel,
        scorer: RewardModel,
        *,
        max_rows: int,
        share: Callable[[int], int],
        drawer: Drawer,
    ) -> None:
        self.proposers = proposers
        self.reward = reward
        self._scorer = scorer
        self._max_rows = max_rows
        self._share = share
        self._drawer = drawer

    def score(self, texts: Sequence[ScoreRequest]) -> list[Reward]:
        """Score texts, of requests or of one's own beside them. Blocks until they were scored.

        Raises:
            ScoringError: the reward model failed.
        """
        return score_checked(self._scorer, texts)

    def serve(self, requests: Sequence[RequestInFlight]) -> None:
        """One round, whatever happens in it: what is no error of the guard's ends the requests, too."""
        try:
            self.step(requests)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001
            # Whatever it was, callers must not wait for ever and the next request must be served.
            log.error("internal error: %s", kind_and_places(error))
            for request in requests:
                if not request.ended:
                    self._fail(request, _internal(error))

    def step(self, requests: Sequence[RequestInFlight]) -> None:
        """One round: every request that fits is offered candidates, or ends.

        Args:
            requests: none of which has ended, in order of submission.
        """
        waiting = [request for request in requests if not self.end_if_interrupted(request)]
        share = self._share(len(waiting))
        fitting = self._fitting(waiting, share)
        entries = [entry for request in fitting if (entry := self._prepare(request, share))]
        entries = self._together(self._propose, entries, StopReason.GENERATION_ERROR)
        entries = [entry for entry in entries if not self.end_if_interrupted(entry.request)]
        self._drawer.scoring_begins(entries)
        entries = self._together(self._score, entries, StopReason.SCORING_ERROR)
        entries = [entry for entry in entries if not self.end_if_interrupted(entry.request)]
        for entry in entries:
            self._together(self._offer, [entry], StopReason.GENERATION_ERROR)

    def end_if_interrupted(self, request: RequestInFlight) -> bool:
        """End the request if it was cancelled or is out of time; True when it has ended."""
        if not request.ended and (reason := request.interruption()) is not None:
            self._finish(request, reason)
        return request.ended

    def _fitting(self, requests: Sequence[RequestInFlight], share: int) -> Iterator[RequestInFlight]:
        rows = 0
        for request in requests:
            candidates = min(request.run.plan.candidates, share)
            rows += candidates
            if rows > self._max_rows and rows > candidates:
                return
            yield request

    def _prepare(self, request: RequestInFlight, share: int) -> RoundEntry | None:
        """The request's order for this round; None when it ended instead."""
        try:
            if not request.started:
                self._start(request)
            if self.end_if_interrupted(request):
                return None
            affordable = request.affordable(share)
            if isinstance(affordable, StopReason):
                self._finish(request, affordable)
                return None
            draw = request.run.draw
            source = self._source(request, draw.policy)
        except StarsGuardError as error:
            if isinstance(error, PromptError) and not request.started:
                self._fail(request, error)
            else:
                scoring = isinstance(error, ScoringError)
                reason = StopReason.SCORING_ERROR if scoring else StopReason.GENERATION_ERROR
                self._outage(request, error, reason)
            return None
        if self.end_if_interrupted(request):
            return None
        return RoundEntry(request, source, request.order(source.session, affordable, draw.override))

    def _start(self, request: RequestInFlight) -> None:
        request.costs.work_began()
        source = self._opened(request, None)
        request.begin(source.session)
        if bare := request.bare_texts(source.hidden):
            begun = time.monotonic()
            rewards = self.score(bare)
            request.run.base_rewards = {
                text.channel: reward.value for text, reward in zip(bare, rewards, strict=True)
            }
            request.costs.scored(begun)

    def _source(self, request: RequestInFlight, policy: Redraw | None) -> Source:
        """Where the next attempts come from, opened if it is not open and brought to the accepted prefix."""
        source = request.sessions.find(policy) or self._opened(request, policy)
        with failures_as(GenerationError, f"continuing with {source.model.name}"):
            request.sessions.catch_up(source, request.run.token_ids, request.text)
        return source

    def _opened(self, request: RequestInFlight, policy: Redraw | None) -> Source:
        begun = time.monotonic()
        source = self.proposers.open(request.prompt, request.sampling, policy)
        request.sessions.add(policy, source)
        request.costs.prompt_opened(begun)
        return source

    def _together(
        self, phase: Callable[[Entries], list[RoundEntry]], entries: Entries, reason: StopReason
    ) -> list[RoundEntry]:
        """Run a phase for all entries at once; if it fails, for each alone: only the culprit fails."""
        if not entries:
            return []
        try:
            return phase(entries)
        except StarsGuardError as error:
            if len(entries) > 1:
                return [done for entry in entries for done in self._together(phase, [entry], reason)]
            self._outage(entries[0].request, error, reason)
            return []

    def _propose(self, entries: Entries) -> list[RoundEntry]:
        begun = time.monotonic()
        proposals = self._drawer.draw(entries)
        done = []
        for entry, proposal in zip(entries, proposals, strict=True):
            entry.request.costs.proposed(proposal, begun)
            texts = entry.request.texts(proposal.candidates)
            if texts or not proposal.candidates:
                done.append(replace(entry, candidates=proposal.candidates, texts=texts))
            else:
                self._finish(entry.request, StopReason.REWARD_BUDGET)
        return done

    def _score(self, entries: Entries) -> list[RoundEntry]:
        begun = time.monotonic()
        rewards = iter(self.score([text for entry in entries for texts in entry.texts for text in texts]))
        done = []
        for entry in entries:
            entry.request.costs.scored(begun)
            by_channel = [[(text.channel, next(rewards)) for text in texts] for texts in entry.texts]
            done.append(replace(entry, rewards=by_channel))
        return done

    def _offer(self, entries: Entries) -> list[RoundEntry]:
        for entry in entries:
            request = entry.request
            with failures_as(GenerationError, f"continuing with {self.proposers.model.name}"):
                request.judge(entry.source, entry.candidates, entry.rewards)
            if request.run.stop_reason is StopReason.EXHAUSTED:
                self._fail(request, _exhausted(request))
            elif request.run.stop_reason is not None:
                self._finish(request, request.run.stop_reason)
        return []

    def _outage(self, request: RequestInFlight, error: StarsGuardError, reason: StopReason) -> None:
        error = without_foreign_words(error, f"answering with {self.proposers.model.name}")
        if request.config.on_error == "stop":
            # The words of a foreign error may quote text, so only its kind is logged.
            what = type(error.__cause__).__name__ if error.__cause__ else error
            log.warning("run %s: stopped by an outage: %s", request.run_id, what)
            self._finish(request, reason)
        else:
            self._fail(request, error, reason)

    def _finish(self, request: RequestInFlight, reason: StopReason) -> None:
        self._release(request)
        request.finish(self._trace(request, reason), reason)

    def _fail(
        self, request: RequestInFlight, error: StarsGuardError, reason: StopReason | None = None
    ) -> None:
        self._release(request)
        error = without_foreign_words(error, f"answering with {self.proposers.model.name}")
        error.trace = self._trace(request, reason or request.run.stop_reason)
        request.fail(error)

    def _trace(self, request: RequestInFlight, reason: StopReason | None) -> Trace:
        proposers = self.proposers
        return request.trace(proposers.model.name, self.reward.name, proposers.guarantee, reason)

    def _release(self, request: RequestInFlight) -> None:
        self._drawer.request_ends(request)
        try:
            self._scorer.release(request.run_id)
        except Exception as error:  # noqa: BLE001
            # The answer is complete; a reward model that cannot forget must not undo it.
            what = kind_and_places(error)
            log.error("run %s: %s failed to release its cache: %s", request.run_id, self.reward.name, what)


def _internal(error: BaseException) -> StarsGuardError:
    internal = StarsGuardError(f"internal error: {type(error).__name__}")
    internal.__cause__ = error
    return internal


def _exhausted(request: RequestInFlight) -> NoAcceptableSegment:
    segment = request.run.segment
    best = max(attempt.reward for attempt in segment.attempts)
    return NoAcceptableSegment(
        f"segment {segment.index}: {len(segment.attempts)} attempts rejected, best reward {best:.4g}, last "
        f"threshold {segment.attempts[-1].threshold:.4g}; lower the target, raise max_attempts, or choose "
        "another exhaustion policy"
    )
