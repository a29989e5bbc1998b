"""How requests end: once each, with a result or an error, whatever holds up the thread that serves them."""

from __future__ import annotations

import logging

from stars_guard.algorithm.trace import Trace
from stars_guard.errors import NoAcceptableSegment, StarsGuardError, kind_and_places, without_foreign_words
from stars_guard.loop.advising import ADVICE
from stars_guard.loop.drawing import Drawer
from stars_guard.loop.metering import Metered, OverBudgetError
from stars_guard.loop.request import RequestInFlight
from stars_guard.loop.sources import Proposers
from stars_guard.rewards.base import RewardModel, forget
from stars_guard.types import StopReason

log = logging.getLogger("stars_guard")


class Endings:
    """Ends requests, and frees what they kept.

    Args:
        proposers: draw candidates; named in traces.
        scorer: the reward model as the loop asks it.
        meter: inside of it.
        drawer: where candidates come from.
    """

    def __init__(self, proposers: Proposers, scorer: RewardModel, meter: Metered, drawer: Drawer) -> None:
        self._proposers = proposers
        self._scorer = scorer
        self._meter = meter
        self._drawer = drawer

    def interrupted(self, request: RequestInFlight) -> bool:
        """End the request if it was cancelled or is out of time; True when it has ended."""
        if not request.ended and (reason := request.interruption()) is not None:
            self.finish(request, reason)
        return request.ended

    def abandon(self, request: RequestInFlight) -> bool:
        """End a request whose thread is held up by a call that does not end in time; True when it has ended.

        For whoever waits for its events. What it kept is freed when that thread comes back.
        """
        reason = request.overdue()
        # Its thread holds the lock only between calls: then it is not held up, and ends the request itself.
        if reason is None or not request.lock.acquire(blocking=False):
            return request.ended
        try:
            if not request.ended:
                # Whoever cancels expects nothing more; whoever has a deadline wants to know what broke it.
                level = logging.WARNING if reason is StopReason.DEADLINE else logging.INFO
                what = (request.run_id, reason, request.awaits)
                log.log(level, "run %s: ended (%s) while held up by %s", *what)
                request.settle_costs()
                self._finish(request, reason)
        finally:
            request.lock.release()
        return True

    def outage(self, request: RequestInFlight, error: BaseException, reason: StopReason) -> None:
        """End a request for which a call failed.

        Args:
            request: of the call.
            error: what it raised; an error that is not the guard's is a bug.
            reason: which call it was.
        """
        if self.interrupted(request):
            return
        if isinstance(error, OverBudgetError):
            self.finish(request, StopReason.REWARD_BUDGET)
            return
        if not isinstance(error, StarsGuardError):
            self.broken(request, error)
            return
        error = without_foreign_words(error, f"answering with {self._proposers.model.name}")
        if request.config.on_error == "stop":
            # The words of a foreign error may quote text, so only its kind is logged.
            what = type(error.__cause__).__name__ if error.__cause__ else error
            log.warning("run %s: stopped by an outage: %s", request.run_id, what)
            self.finish(request, reason)
        else:
            self.fail(request, error, reason)

    def broken(self, request: RequestInFlight, error: BaseException) -> None:
        """End a request by a bug: whatever it was, callers must not wait for ever."""
        log.error("internal error: %s", kind_and_places(error))
        internal = StarsGuardError(f"internal error: {type(error).__name__}")
        internal.__cause__ = error
        self.fail(request, internal)

    def exhausted(self, request: RequestInFlight) -> None:
        """End a request by the exhaustion policy ``raise``."""
        segment = request.run.segment
        best = max(attempt.reward for attempt in segment.attempts)
        error = NoAcceptableSegment(
            f"segment {segment.index}: {len(segment.attempts)} attempts rejected, best reward {best:.4g}, "
            f"last threshold {segment.attempts[-1].threshold:.4g}; lower the target, raise max_attempts, or "
            "choose another exhaustion policy"
        )
        self.fail(request, error)

    def finish(self, request: RequestInFlight, reason: StopReason) -> None:
        """End a request with a result."""
        self.settle(request)
        with request.lock:
            if not request.ended:
                self._finish(request, reason)

    def fail(
        self, request: RequestInFlight, error: StarsGuardError, reason: StopReason | None = None
    ) -> None:
        """End a request with an error.

        Args:
            request: which.
            error: gets the trace.
            reason: for the trace; by default that of the run, if it has one.
        """
        self.settle(request)
        error = without_foreign_words(error, f"answering with {self._proposers.model.name}")
        error.trace = self._trace(request, reason or request.run.stop_reason)
        with request.lock:
            if not request.ended:
                request.fail(error)

    def settle(self, request: RequestInFlight) -> None:
        """Free what a request kept, once. For the thread that served it, and no other."""
        if request.settled:
            return
        request.settled = True
        self._drawer.request_ends(request)
        forget(self._scorer, request.run_id)
        self._meter.close(request.run_id)
        request.close_sessions()
        request.settle_costs()

    def _finish(self, request: RequestInFlight, reason: StopReason) -> None:
        trace = self._trace(request, reason)
        ADVICE.ended(trace)
        request.finish(trace, reason)

    def _trace(self, request: RequestInFlight, reason: StopReason | None) -> Trace:
        proposers = self._proposers
        return request.trace(proposers.model.name, self._meter.name, proposers.guarantee, reason)
