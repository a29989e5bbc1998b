"""Where the candidates of a round come from: drawn in that round, unless a drawer knows better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from stars_guard.loop.request import RequestInFlight
from stars_guard.loop.sources import Source, proposed
from stars_guard.models.base import Order, Proposal
from stars_guard.rewards.base import ScoreRequest
from stars_guard.types import Candidate, Channel, Reward


@dataclass(frozen=True, slots=True)
class RoundEntry:
    """One request's part in a round."""

    request: RequestInFlight
    source: Source
    order: Order
    opening: Candidate | None = None
    """What the candidates begin with, if they were drawn after an opening."""
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
