"""The loop for engines that batch on their own: a lane for each request, and no round waits for another.

Each lane is a thread that runs the rounds of one request after another. Candidates of all lanes meet in the
engine's batch, and in the reward model by :class:`stars_guard.rewards.batching.MicroBatched`. While a
round is scored, the engine already continues the candidate that is likeliest to be accepted: the first, since
candidates are judged in index order. If it is accepted, these are the first candidates of the next segment,
drawn with the random numbers that they would have had anyway; if not, they are dropped unseen. So neither
lanes nor drawing ahead change an answer.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from stars_guard.errors import ConfigurationError
from stars_guard.loop.request import Event, Job
from stars_guard.loop.rounds import Engine, Turn
from stars_guard.loop.shutdown import WORKERS
from stars_guard.loop.sources import Source, proposed
from stars_guard.models.base import BatchesItself, LanguageModel, Order, Proposal
from stars_guard.rewards.base import RewardModel
from stars_guard.rewards.batching import MicroBatched, MicroBatching
from stars_guard.types import Candidate


@dataclass(slots=True, eq=False)
class _Ahead:
    """Candidates for the segment after one that is being scored."""

    candidate: Candidate
    order: Order
    proposal: Future[Proposal]
    dropped: threading.Event


@dataclass(slots=True, eq=False)
class _Lane:
    """What a request has drawn ahead: the latest that may be of use, and those that are not."""

    latest: _Ahead | None = None
    dropped: list[_Ahead] = field(default_factory=list)

    def drop(self) -> None:
        """The latest is of no use."""
        if self.latest is not None:
            self.latest.dropped.set()
            self.dropped.append(self.latest)
            self.latest = None


class LaneEngine(Engine):
    """An engine for a language model that :class:`stars_guard.models.base.BatchesItself`.

    Args:
        model: draws candidates.
        reward: judges them.
        safer_model: as for :class:`stars_guard.loop.rounds.Engine`.
        max_rows: most requests at the same time, and about the most candidates. Requests beyond it wait their
            turn, in order of submission.
        micro_batching: how scoring is put together.
    """

    model: BatchesItself

    def __init__(
        self,
        model: BatchesItself,
        reward: RewardModel,
        *,
        safer_model: LanguageModel | None = None,
        max_rows: int = 64,
        micro_batching: MicroBatching | None = None,
    ) -> None:
        super().__init__(model, reward, safer_model=safer_model, max_rows=max_rows)
        self._lanes: dict[str, _Lane] = {}
        self._threads = 0
        self._queue: deque[Job] = deque()
        self._drawers = ThreadPoolExecutor(max_rows, thread_name_prefix="stars-guard-ahead")
        company = _Company(self._lanes)
        self._scorer = MicroBatched(reward, micro_batching or MicroBatching(), company)

    def submit(self, job: Job) -> None:
        """Serve a request as soon as a lane is free."""
        with self._lock:
            self._jobs.append(job)
            self._queue.append(job)
            if self._threads < self._max_rows:
                self._threads += 1
                thread = threading.Thread(target=self._drive, name="stars-guard-lane", daemon=True)
                WORKERS.add(thread)
                thread.start()

    def wait(self, events: queue.SimpleQueue[Event]) -> Event:
        """The next event of a job."""
        return events.get()

    def start_worker(self) -> None:
        """Nothing: every request has a lane, or waits for one."""

    def sweep(self) -> None:
        """Nothing: a lane ends a request that was cancelled within one token step."""

    def _drive(self) -> None:
        while (job := self._next()) is not None:
            while not job.ended:
                self._serve([job])
            with self._lock:
                self._jobs.remove(job)
                del self._lanes[job.run_id]

    def _next(self) -> Job | None:
        with self._lock:
            if not self._queue:
                self._threads -= 1
                return None
            job = self._queue.popleft()
            self._lanes[job.run_id] = _Lane()
            return job

    def _share(self, requests: int) -> int:
        return max(1, self._max_rows // len(self._lanes))

    def _go_ahead(self, turns: Sequence[Turn]) -> None:
        for turn in turns:
            if turn.candidates and self._may_go_ahead(turn):
                self._draw_ahead(turn)

    def _may_go_ahead(self, turn: Turn) -> bool:
        job = turn.job
        return (
            self.model.has_room
            and turn.source is job.sessions.find(None)
            and turn.candidates[0].finish is None
            # Tokens that turn out wasted must not cost an answer its end.
            and job.budget.max_proposed_tokens is None
        )

    def _draw_ahead(self, turn: Turn) -> None:
        candidate = turn.candidates[0]
        session = self.model.ahead(turn.order.session, candidate)
        order = turn.job.order_after(turn.order, candidate, session, self._share(1))
        dropped = threading.Event()
        order = replace(order, alive=lambda: not dropped.is_set() and turn.job.alive())
        proposal = self._drawers.submit(self._drawn_alone, order)
        self._lanes[turn.job.run_id].latest = _Ahead(candidate, order, proposal, dropped)

    def _drawn_alone(self, order: Order) -> Proposal:
        (proposal,) = proposed([(Source(self.model, order.session), order)])
        return proposal

    def _proposals(self, turns: Sequence[Turn]) -> list[Proposal]:
        """From what was drawn ahead, where it fits; drawn now otherwise."""
        proposals = []
        for turn in turns:
            ahead = self._taken(turn)
            proposals += [ahead] if ahead else super()._proposals([turn])
        return proposals

    def _taken(self, turn: Turn) -> Proposal | None:
        job, lane = turn.job, self._lanes[turn.job.run_id]
        ahead = lane.latest
        if ahead is None or ahead.candidate is not job.latest or ahead.order.segment != turn.order.segment:
            lane.drop()
            return None
        lane.latest = None
        with contextlib.suppress(Exception):  # an engine that is down says so when it is asked again
            proposal = ahead.proposal.result()
            job.usage.ahead_tokens += proposal.tokens
            return proposal if proposal.candidates else None
        return None

    def _release(self, job: Job) -> None:
        """Also wait for what was dropped, so that its tokens are counted."""
        lane = self._lanes[job.run_id]
        lane.drop()
        for ahead in lane.dropped:
            with contextlib.suppress(Exception):
                tokens = ahead.proposal.result().tokens
                job.usage.proposed_tokens += tokens
                job.usage.ahead_tokens += tokens
                job.usage.ahead_wasted_tokens += tokens
        lane.dropped.clear()
        super()._release(job)


class _Company:
    """How many lanes are at work. It holds no engine, so that dropping the engine frees its models."""

    def __init__(self, lanes: dict[str, _Lane]) -> None:
        self._lanes = lanes

    def __call__(self) -> int:
        return len(self._lanes)


def engine_for(
    model: LanguageModel,
    reward: RewardModel,
    *,
    safer_model: LanguageModel | None = None,
    max_rows: int = 64,
    micro_batching: MicroBatching | None = None,
) -> Engine:
    """The engine that suits a language model. Arguments as for :class:`LaneEngine`.

    Raises:
        ConfigurationError: ``micro_batching`` for a model that does not batch on its own.
    """
    if isinstance(model, BatchesItself):
        return LaneEngine(
            model, reward, safer_model=safer_model, max_rows=max_rows, micro_batching=micro_batching
        )
    if micro_batching is not None:
        raise ConfigurationError(
            f"micro_batching has no effect with {model.name}, whose requests are scored together anyway; "
            "leave it out"
        )
    return Engine(model, reward, safer_model=safer_model, max_rows=max_rows)
