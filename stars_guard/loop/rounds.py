"""The only loop: propose for all requests, score all candidates, offer each in index order.

Requests join and leave at segment borders, so one loop serves a single request, a batch, and many threads
and tasks at once. Nothing else decides what is shown.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from stars_guard.algorithm.escalation import Redraw
from stars_guard.algorithm.trace import Trace
from stars_guard.errors import (
    GenerationError,
    NoAcceptableSegment,
    PromptError,
    ScoringError,
    StarsGuardError,
    boundary,
)
from stars_guard.loop.request import Event, Job
from stars_guard.loop.shutdown import ENGINES, WORKERS
from stars_guard.loop.sources import Proposers, Source, proposed
from stars_guard.models.base import LanguageModel, Order, Proposal
from stars_guard.rewards.base import RewardModel, ScoreRequest, score_checked
from stars_guard.rewards.one_at_a_time import OneAtATime
from stars_guard.types import Candidate, Channel, Reward, StopReason

log = logging.getLogger("stars_guard")


@dataclass(frozen=True, slots=True)
class Turn:
    """One job's part in a round."""

    job: Job
    source: Source
    order: Order
    candidates: tuple[Candidate, ...] = ()
    requests: Sequence[Sequence[ScoreRequest]] = ()
    rewards: Sequence[Sequence[tuple[Channel, Reward]]] = ()


Turns: TypeAlias = Sequence[Turn]

_COMFORTABLE_ROWS = 16
"""When requests share a batch, each draws at most its part of this many candidates at once: in a wide batch a
candidate costs its full price. Answers do not depend on it, since draws are addressed by attempt."""


class Engine:
    """Guards every request given to :meth:`submit`.

    Args:
        model: draws candidates.
        reward: judges them.
        safer_model: draws candidates for the policy of that name, from the same vocabulary.
        max_rows: most candidates in one batch, over all requests. Requests beyond it wait their turn, in
            order of submission, which also bounds the memory for caches.
    """

    def __init__(
        self,
        model: LanguageModel,
        reward: RewardModel,
        *,
        safer_model: LanguageModel | None = None,
        max_rows: int = 64,
    ) -> None:
        self.model = model
        self.reward = reward
        self.proposers = Proposers.of(model, safer_model, reward)
        self._max_rows = max_rows
        self._scorer: RewardModel = OneAtATime(reward)
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # held by whoever computes
        self._jobs: list[Job] = []
        self._thread: threading.Thread | None = None
        ENGINES.add(self)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """Score texts of one's own, beside those of the requests. Blocks until they were scored.

        Raises:
            ScoringError: the reward model failed.
        """
        return score_checked(self._scorer, requests)

    def submit(self, job: Job) -> None:
        """Take a request up. Nothing happens until someone waits for it, or a worker is started."""
        with self._lock:
            self._jobs.append(job)

    def wait(self, events: queue.SimpleQueue[Event]) -> Event:
        """The next event of a job, for a thread that has nothing else to do.

        A thread that is alone does the work itself: a second thread that computes would have torch split the
        cores between two pools, and both would be slow. As soon as others wait, a worker serves them all.
        """
        while events.empty():
            if self._thread is not None or not self._turn.acquire(blocking=False):
                self.start_worker()
                return events.get()
            try:
                self._advance(until=lambda: not events.empty())
            finally:
                self._turn.release()
        return events.get()

    def start_worker(self) -> None:
        """Serve every request from a thread of the engine's own, until none is left."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="stars-guard", daemon=True)
                WORKERS.add(self._thread)
                self._thread.start()

    def stop(self) -> None:
        """Cancel every request; whoever is at work leaves within one token step."""
        for job in list(self._jobs):
            job.cancel()

    def sweep(self) -> None:
        """End the requests that were cancelled; whoever is at work does so within one token step."""
        if self._turn.acquire(blocking=False):
            try:
                # Without the lock: the garbage collector may call this while the same thread holds it.
                for job in list(self._jobs):
                    self._interrupted(job)
            finally:
                self._turn.release()

    def step(self, jobs: Sequence[Job]) -> None:
        """One round: every job that fits is offered candidates, or ends."""
        waiting = [job for job in jobs if not self._interrupted(job)]
        share = self._share(len(waiting))
        turns = [turn for job in self._fitting(waiting, share) if (turn := self._prepare(job, share))]
        turns = self._together(self._propose, turns, StopReason.GENERATION_ERROR)
        turns = [turn for turn in turns if not self._interrupted(turn.job)]
        self._go_ahead(turns)
        turns = self._together(self._score, turns, StopReason.SCORING_ERROR)
        turns = [turn for turn in turns if not self._interrupted(turn.job)]
        for turn in turns:
            self._together(self._judge, [turn], StopReason.GENERATION_ERROR)

    def _share(self, requests: int) -> int:
        """Most candidates of one request in a round with so many requests."""
        return max(1, _COMFORTABLE_ROWS // requests) if requests > 1 else sys.maxsize

    def _proposals(self, turns: Turns) -> list[Proposal]:
        return proposed([(turn.source, turn.order) for turn in turns])

    def _go_ahead(self, turns: Turns) -> None:
        """Whatever can be done while the candidates are scored."""

    def _work(self) -> None:
        while True:
            with self._turn:
                self._advance(until=lambda: True)
            with self._lock:
                if all(job.ended for job in self._jobs):
                    self._thread = None
                    return

    def _advance(self, until: Callable[[], bool]) -> None:
        """Rounds, at least one, until the condition holds or nothing is left to do."""
        while jobs := self._unfinished():
            self._serve(jobs)
            if until():
                return

    def _serve(self, jobs: Sequence[Job]) -> None:
        """One round, whatever happens in it."""
        try:
            self.step(jobs)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # Whatever it was, callers must not wait for ever and the next request must be served.
            log.exception("internal error")
            for job in jobs:
                if not job.ended:
                    self._fail(job, StarsGuardError(f"internal error: {type(error).__name__}: {error}"))

    def _unfinished(self) -> list[Job]:
        with self._lock:
            self._jobs = [job for job in self._jobs if not job.ended]
            return list(self._jobs)

    def _fitting(self, jobs: Sequence[Job], share: int) -> Iterator[Job]:
        rows = 0
        for job in jobs:
            own = min(job.run.plan.candidates, share)
            rows += own
            if rows > self._max_rows and rows > own:
                return
            yield job

    def _prepare(self, job: Job, share: int) -> Turn | None:
        """The job's order for this round; None when it ended instead."""
        try:
            if not job.started:
                self._start(job)
            if self._interrupted(job):
                return None
            affordable = job.affordable(share)
            if isinstance(affordable, StopReason):
                self._finish(job, affordable)
                return None
            source = self._source(job)
        except StarsGuardError as error:
            if isinstance(error, PromptError) and not job.started:
                self._fail(job, error)
            else:
                scoring = isinstance(error, ScoringError)
                reason = StopReason.SCORING_ERROR if scoring else StopReason.GENERATION_ERROR
                self._outage(job, error, reason)
            return None
        if self._interrupted(job):
            return None
        return Turn(job, source, job.order(source.session, affordable))

    def _start(self, job: Job) -> None:
        job.usage.seconds.queued = job.elapsed
        source = self._opened(job, None)
        job.begin(source.session)
        if bare := job.bare_requests(source.hidden):
            begun = time.monotonic()
            rewards = self.score(bare)
            channels = (request.channel for request in bare)
            job.run.base_rewards = {one: reward.value for one, reward in zip(channels, rewards, strict=True)}
            job.usage.seconds.score += time.monotonic() - begun

    def _source(self, job: Job) -> Source:
        """Where the next attempts come from, opened if it is not open and brought to the accepted prefix."""
        policy = job.run.draw.policy
        source = job.sessions.find(policy) or self._opened(job, policy)
        with boundary(GenerationError, f"continuing with {source.model.name}"):
            job.sessions.catch_up(source, job.run.token_ids, job.text)
        return source

    def _opened(self, job: Job, policy: Redraw | None) -> Source:
        begun = time.monotonic()
        source = self.proposers.open(job.prompt, job.sampling, policy)
        job.sessions.add(policy, source)
        job.usage.seconds.prefill += time.monotonic() - begun
        return source

    def _together(self, phase: Callable[[Turns], list[Turn]], turns: Turns, reason: StopReason) -> list[Turn]:
        """Run a phase for all turns at once; if it fails, for each alone, so that only the culprit fails."""
        if not turns:
            return []
        try:
            return phase(turns)
        except StarsGuardError as error:
            if len(turns) > 1:
                return [done for turn in turns for done in self._together(phase, [turn], reason)]
            self._outage(turns[0].job, error, reason)
            return []

    def _propose(self, turns: Turns) -> list[Turn]:
        begun = time.monotonic()
        proposals = self._proposals(turns)
        done = []
        for turn, proposal in zip(turns, proposals, strict=True):
            turn.job.usage.seconds.propose += time.monotonic() - begun
            if turn.job.usage.seconds.first_candidates is None and proposal.candidates:
                turn.job.usage.seconds.first_candidates = turn.job.elapsed
            turn.job.usage.proposed_tokens += proposal.tokens
            requests = turn.job.score_requests(proposal.candidates)
            if requests or not proposal.candidates:
                done.append(Turn(turn.job, turn.source, turn.order, proposal.candidates, requests))
            else:
                self._finish(turn.job, StopReason.REWARD_BUDGET)
        return done

    def _score(self, turns: Turns) -> list[Turn]:
        begun = time.monotonic()
        flat = [one for turn in turns for requests in turn.requests for one in requests]
        rewards = iter(self.score(flat))
        done = []
        for turn in turns:
            turn.job.usage.seconds.score += time.monotonic() - begun
            own = [[(one.channel, next(rewards)) for one in requests] for requests in turn.requests]
            done.append(Turn(turn.job, turn.source, turn.order, turn.candidates, turn.requests, own))
        return done

    def _judge(self, turns: Turns) -> list[Turn]:
        for turn in turns:
            job = turn.job
            with boundary(GenerationError, f"continuing with {self.model.name}"):
                job.judge(turn.source, turn.candidates, turn.rewards)
            if job.run.stop_reason is StopReason.EXHAUSTED:
                self._fail(job, _exhausted(job))
            elif job.run.stop_reason is not None:
                self._finish(job, job.run.stop_reason)
        return []

    def _interrupted(self, job: Job) -> bool:
        """End the job if it was cancelled or is out of time."""
        reason = None if job.ended else job.interruption()
        if reason is not None:
            self._finish(job, reason)
        return job.ended

    def _outage(self, job: Job, error: StarsGuardError, reason: StopReason) -> None:
        if job.config.on_error == "stop":
            # The words of a foreign error may quote text, so only its kind is logged.
            what = type(error.__cause__).__name__ if error.__cause__ else error
            log.warning("run %s: stopped by an outage: %s", job.run_id, what)
            self._finish(job, reason)
        else:
            self._fail(job, error, reason)

    def _finish(self, job: Job, reason: StopReason) -> None:
        self._release(job)
        job.finish(self._trace(job, reason), reason)

    def _fail(self, job: Job, error: StarsGuardError, reason: StopReason | None = None) -> None:
        self._release(job)
        error.trace = self._trace(job, reason or job.run.stop_reason)
        job.fail(error)

    def _trace(self, job: Job, reason: StopReason | None) -> Trace:
        return job.trace(self.model.name, self.reward.name, self.proposers.guarantee, reason)

    def _release(self, job: Job) -> None:
        try:
            self._scorer.release(job.run_id)
        except Exception:
            # The answer is complete; a reward model that cannot forget must not undo it.
            log.exception("run %s: %s failed to release its cache", job.run_id, self.reward.name)


def _exhausted(job: Job) -> NoAcceptableSegment:
    segment = job.run.segment
    best = max(attempt.reward for attempt in segment.attempts)
    return NoAcceptableSegment(
        f"segment {segment.index}: {len(segment.attempts)} attempts rejected, best reward {best:.4g}, last "
        f"threshold {segment.attempts[-1].threshold:.4g}; lower the target, raise max_attempts, or choose "
        "another exhaustion policy"
    )
