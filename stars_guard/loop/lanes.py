"""The driver for engines that batch on their own: a lane for each request, and no round waits for another.

Each lane is a thread that runs the rounds of one request after another. Candidates of all lanes meet in the
engine's batch, and in the reward model by :class:`stars_guard.rewards.batching.MicroBatched`. While a
round is scored, the engine already draws ahead (:mod:`stars_guard.loop.ahead`). Neither changes an answer.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from functools import partial

from stars_guard.forks import renew_in_children
from stars_guard.loop.ahead import DrawAhead
from stars_guard.loop.drivers import next_event
from stars_guard.loop.events import Event
from stars_guard.loop.request import RequestInFlight
from stars_guard.loop.rounds import Rounds
from stars_guard.loop.shutdown import DRIVERS, WORKERS
from stars_guard.loop.sources import Proposers
from stars_guard.models.base import BatchesItself
from stars_guard.rewards.base import RewardModel
from stars_guard.rewards.batching import MicroBatched, MicroBatching


class LaneDriver:
    """Serves each request in a lane of its own.

    Args:
        model: draws candidates, and draws ahead.
        proposers: this model, and what else may draw candidates.
        reward: judges them.
        max_rows: most requests at the same time, and about the most candidates. Requests beyond it wait their
            turn, in order of submission.
        micro_batching: how scoring is put together.
    """

    def __init__(
        self,
        model: BatchesItself,
        proposers: Proposers,
        reward: RewardModel,
        max_rows: int,
        micro_batching: MicroBatching,
    ) -> None:
        at_work: set[str] = set()

        # Parts of the rounds hold the set but not the driver, so that dropping the driver frees its models.
        def share(requests: int = 1) -> int:
            return max(1, max_rows // len(at_work))

        shared = partial(MicroBatched, bounds=micro_batching, company=at_work.__len__)
        drawer = DrawAhead(model, share, max_rows)
        self.rounds = Rounds(proposers, reward, shared, max_rows=max_rows, share=share, drawer=drawer)
        self._at_work = at_work
        self._max_lanes = max_rows
        self._requests: list[RequestInFlight] = []
        self._begin()
        DRIVERS.add(self)
        renew_in_children(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[RequestInFlight] = deque()
        self._lanes = 0

    def renew(self) -> None:
        """No request and no lane, in a forked process."""
        requests, self._requests = self._requests, []
        self._at_work.clear()
        self._begin()
        for request in requests:
            request.leave_to_parent()

    def submit(self, request: RequestInFlight) -> None:
        """Serve a request as soon as a lane is free, whether a thread waits for it or not.

        Raises:
            StarsGuardError: a model or reward of this very loop asks for it.
        """
        self.rounds.refuse_from_within()
        with self._lock:
            self._requests.append(request)
            self._waiting.append(request)
            if self._lanes < self._max_lanes:
                self._lanes += 1
                thread = threading.Thread(target=self._drive, name="stars-guard-lane", daemon=True)
                WORKERS.add(thread)
                thread.start()

    submit_unattended = submit

    def wait(self, request: RequestInFlight, events: queue.SimpleQueue[Event]) -> Event:
        """The next event of a request.

        Args:
            request: taken up here.
            events: where it puts them.
        """
        return next_event(request, events, self.rounds.endings)

    def cancel(self, request: RequestInFlight) -> None:
        """Have a request's lane end it within one token step."""
        request.cancel()

    def stop(self) -> None:
        """Cancel every request; the lanes leave within one token step."""
        for request in list(self._requests):
            request.cancel()

    def _drive(self) -> None:
        while (request := self._next()) is not None:
            while not request.ended:
                self.rounds.serve([request])
            with self._lock:
                self._requests = [other for other in self._requests if other is not request]
                self._at_work.discard(request.run_id)

    def _next(self) -> RequestInFlight | None:
        with self._lock:
            if not self._waiting:
                self._lanes -= 1
                return None
            request = self._waiting.popleft()
            self._at_work.add(request.run_id)
            return request
