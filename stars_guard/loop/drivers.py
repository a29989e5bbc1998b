"""Which thread runs the rounds of which request: what a driver is, and the one that serves all together."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable
from typing import Protocol

from stars_guard.forks import renew_in_children
from stars_guard.loop.drawing import DrawNow
from stars_guard.loop.endings import Endings
from stars_guard.loop.events import Event
from stars_guard.loop.request import RequestInFlight
from stars_guard.loop.rounds import Rounds
from stars_guard.loop.shutdown import DRIVERS, WORKERS
from stars_guard.loop.sources import Proposers
from stars_guard.rewards.base import OneAtATime, RewardModel

_COMFORTABLE_ROWS = 16
"""When requests share a batch, each draws at most its part of this many candidates at once: in a wide batch a
candidate costs its full price. Answers do not depend on it, since draws are addressed by attempt."""
_LOOK = 0.05
"""Seconds between two looks at whether a request is held up."""


class Driver(Protocol):
    """Takes requests up and has rounds run for them, until each has ended."""

    @property
    def rounds(self) -> Rounds:
        """What it runs."""

    def submit(self, request: RequestInFlight) -> None:
        """Take up a request for whose events a thread will :meth:`wait`."""

    def submit_unattended(self, request: RequestInFlight) -> None:
        """Take up a request for which no thread will wait, such as a task's."""

    def wait(self, request: RequestInFlight, events: queue.SimpleQueue[Event]) -> Event:
        """The next event of a request, for a thread that has nothing else to do.

        Args:
            request: taken up here.
            events: where it puts them.
        """

    def cancel(self, request: RequestInFlight) -> None:
        """End a request within one token step."""

    def stop(self) -> None:
        """Cancel every request; whoever is at work leaves within one token step."""


class SharedDriver:
    """Serves all requests in the same rounds: those of a thread that waits alone, or a worker's.

    Args:
        proposers: draw candidates.
        reward: judges them.
        max_rows: most candidates in one batch. Requests beyond it wait in order of submission.
    """

    def __init__(self, proposers: Proposers, reward: RewardModel, max_rows: int) -> None:
        self.rounds = Rounds(proposers, reward, OneAtATime, max_rows=max_rows, share=_share, drawer=DrawNow())
        self._requests: list[RequestInFlight] = []
        self._forked = False
        self._begin()
        DRIVERS.add(self)
        renew_in_children(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # held by whoever computes
        self._thread: threading.Thread | None = None

    def renew(self) -> None:
        """No request and no thread, in a forked process."""
        # The thread that forked keeps no workers of torch, and would wait for them for ever.
        self._forked = True
        requests, self._requests = self._requests, []
        self._begin()
        for request in requests:
            request.leave_to_parent()

    def submit(self, request: RequestInFlight) -> None:
        """Take a request up; its rounds begin when someone waits for it, or a worker is at work.

        Raises:
            StarsGuardError: a model or reward of this very loop asks for it.
        """
        self.rounds.refuse_from_within()
        with self._lock:
            self._requests.append(request)

    def submit_unattended(self, request: RequestInFlight) -> None:
        """Take a request up and have the worker serve it."""
        self.submit(request)
        self.start_worker()

    def wait(self, request: RequestInFlight, events: queue.SimpleQueue[Event]) -> Event:
        """The next event of a request, for a thread that has nothing else to do.

        A thread that is alone does the work itself: a second thread that computes would have torch split the
        cores between two pools, and both would be slow. As soon as others wait, a worker serves them all. So
        it does where there is a deadline, which a thread could not keep while it is in a call of its own.

        Args:
            request: taken up here.
            events: where it puts them.
        """
        while events.empty():
            if self._needs_worker() or not self._turn.acquire(blocking=False):
                self.start_worker()
                return next_event(request, events, self.rounds.endings)
            try:
                self._advance(until=lambda: not events.empty())
            finally:
                self._turn.release()
        return events.get()

    def cancel(self, request: RequestInFlight) -> None:
        """End a request: at once where nobody computes, within one token step otherwise."""
        request.cancel()
        self._sweep()

    def stop(self) -> None:
        """Cancel every request; whoever is at work leaves within one token step."""
        for request in list(self._requests):
            request.cancel()

    def start_worker(self) -> None:
        """Serve every request from a thread of the driver's own, until none is left."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="stars-guard", daemon=True)
                WORKERS.add(self._thread)
                self._thread.start()

    def _needs_worker(self) -> bool:
        with self._lock:
            timed = any(request.deadline is not None for request in self._requests)
        return timed or self._forked or self._thread is not None

    def _sweep(self) -> None:
        """End the requests that were cancelled; whoever is at work does so within one token step."""
        if self._turn.acquire(blocking=False):
            try:
                # Without the lock: the garbage collector may call this while the same thread holds it.
                for request in list(self._requests):
                    self.rounds.end_if_interrupted(request)
            finally:
                self._turn.release()

    def _work(self) -> None:
        while True:
            with self._turn:
                self._advance(until=lambda: True)
            with self._lock:
                if all(request.ended for request in self._requests):
                    self._thread = None
                    return

    def _advance(self, until: Callable[[], bool]) -> None:
        """Rounds, at least one, until the condition holds or nothing is left to do."""
        while requests := self._unfinished():
            self.rounds.serve(requests)
            if until():
                return

    def _unfinished(self) -> list[RequestInFlight]:
        with self._lock:
            self._requests = [request for request in self._requests if not request.ended]
            return list(self._requests)


def next_event(request: RequestInFlight, events: queue.SimpleQueue[Event], endings: Endings) -> Event:
    """The next event of a request that is served elsewhere, which may be held up there.

    Args:
        request: which.
        events: where it puts them.
        endings: end it then.
    """
    while True:
        try:
            return events.get(timeout=_LOOK)
        except queue.Empty:
            endings.abandon(request)


def _share(requests: int) -> int:
    """Most candidates of one request in a round with so many requests."""
    return max(1, _COMFORTABLE_ROWS // requests) if requests > 1 else sys.maxsize
