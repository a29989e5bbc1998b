"""Drawing ahead: while a round is scored, the engine already continues the likeliest candidate.

That is the first, since candidates are judged in index order. If it is accepted, these are the first
candidates of the next segment, drawn with the random numbers that they would have had anyway; if not, they
are dropped unseen. They are dropped, too, where the decision led to another plan than the one they were drawn
by: a candidate that is forced is not accepted, and settings that adapt look at that. So drawing ahead never
changes an answer.
"""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field, replace

from stars_guard.forks import renew_in_children
from stars_guard.loop.drawing import Entries, RoundEntry
from stars_guard.loop.orders import order_after
from stars_guard.loop.request import RequestInFlight
from stars_guard.loop.sources import Source, proposed
from stars_guard.models.base import BatchesItself, Order, Proposal
from stars_guard.types import Candidate


@dataclass(slots=True, eq=False)
class _Ahead:
    """Candidates for the segment after one that is being scored."""

    candidate: Candidate
    order: Order
    proposal: Future[Proposal]
    dropped: threading.Event


@dataclass(slots=True, eq=False)
class _DrawnAhead:
    """What was drawn ahead for one request: the latest that may be of use, and those that are not."""

    latest: _Ahead | None = None
    dropped: list[_Ahead] = field(default_factory=list)

    def drop(self) -> None:
        """Tell the latest, if there is one, that it is of no use."""
        if self.latest is not None:
            self.latest.dropped.set()
            self.dropped.append(self.latest)
            self.latest = None


class DrawAhead:
    """A drawer for rounds that run in a thread for each request.

    Args:
        model: draws.
        share: most candidates of one request at this moment.
        threads: most requests that are drawn ahead at the same time.
    """

    def __init__(self, model: BatchesItself, share: Callable[[], int], threads: int) -> None:
        self._model = model
        self._share = share
        self._most = threads
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """No thread is drawing, in a forked process."""
        self._threads = ThreadPoolExecutor(self._most, thread_name_prefix="stars-guard-ahead")
        self._drawn: defaultdict[str, _DrawnAhead] = defaultdict(_DrawnAhead)

    def draw(self, entries: Entries) -> list[Proposal]:
        """From what was drawn ahead, where it fits; drawn now otherwise."""
        return [self._taken(entry) or _drawn_alone(entry.source, entry.order) for entry in entries]

    def scoring_begins(self, entries: Entries) -> None:
        """Draw the next segment, wherever the first candidate may be followed by one."""
        for entry in entries:
            if entry.candidates and self._may_draw_ahead(entry):
                self._draw_ahead(entry)

    def request_ends(self, request: RequestInFlight) -> None:
        """Wait for what was dropped, so that its tokens are counted."""
        drawn = self._drawn.pop(request.run_id, _DrawnAhead())
        drawn.drop()
        for ahead in drawn.dropped:
            with contextlib.suppress(Exception):
                request.costs.wasted_ahead(ahead.proposal.result().tokens)

    def _may_draw_ahead(self, entry: RoundEntry) -> bool:
        return (
            self._model.has_room
            and entry.source is entry.request.sessions.find(None)
            and entry.candidates[0].finish is None
            # Tokens that turn out wasted must not cost an answer its end.
            and entry.request.budget.max_proposed_tokens is None
        )

    def _draw_ahead(self, entry: RoundEntry) -> None:
        request, candidate = entry.request, entry.candidates[0]
        session = self._model.ahead(entry.source.session, candidate)
        order = order_after(request, entry.order, candidate, session, self._share())
        dropped = threading.Event()
        order = replace(order, alive=lambda: not dropped.is_set() and request.alive())
        source = Source(self._model, session)
        # In the context of this round: a model that asks the guard from there waits for itself, too.
        proposal = self._threads.submit(copy_context().run, _drawn_alone, source, order)
        self._drawn[request.run_id].latest = _Ahead(candidate, order, proposal, dropped)

    def _taken(self, entry: RoundEntry) -> Proposal | None:
        request, drawn = entry.request, self._drawn[entry.request.run_id]
        ahead = drawn.latest
        if ahead is None or ahead.candidate is not request.latest or not _same_draw(ahead.order, entry.order):
            drawn.drop()
            return None
        drawn.latest = None
        with contextlib.suppress(Exception):  # an engine that is down says so when it is asked again
            proposal = ahead.proposal.result()
            request.costs.used_ahead(proposal.tokens)
            return proposal if proposal.candidates else None
        return None


def _same_draw(ahead: Order, now: Order) -> bool:
    """Whether two orders ask for the same; sessions and ways to ask whether one is alive always differ."""
    return replace(ahead, session=now.session, alive=now.alive) == now


def _drawn_alone(source: Source, order: Order) -> Proposal:
    (proposal,) = proposed([(source, order)])
    return proposal
