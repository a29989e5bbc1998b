"""What came of a run, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.faults.ledger import Shown
from tests.faults.plan import StreamPlan, WavePlan

KEPT = 20
"""Complaints that are kept word by word; the others are counted."""


@dataclass
class Tally:
    """Counts over all streams or requests of a run.

    Attributes:
        counts: by name.
        faults: that struck, by place and manner.
        complaints: the first of what was wrong.
        wrong: number of all that was wrong.
        growth: blocks of memory that a stream, or a request, leaves for good; the most of any process.
    """

    counts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    wrong: int = 0
    growth: dict[str, float] = field(default_factory=dict)

    def add(self, shown: Iterable[Shown], plan: WavePlan, wrong: list[str]) -> None:
        """Count a wave."""
        for each in shown:
            self.counts["streams"] += 1
            self.counts["characters shown"] += each.characters
            self.counts["forced segments that were shown"] += len(each.forced)
            self.counts[f"ended: {_end(each)}"] += 1
        self.counts["streams on lanes" if plan.lanes else "streams in shared rounds"] += len(plan.streams)
        self.struck(plan.streams)
        self.complain(wrong)

    def struck(self, plans: Iterable[StreamPlan]) -> None:
        """Count the faults that struck."""
        for stream in plans:
            for fault in stream.faults:
                if fault.struck:
                    self.faults[f"{fault.place}: {fault.how}"] += 1

    def complain(self, wrong: list[str]) -> None:
        """Write down what was wrong."""
        self.wrong += len(wrong)
        self.complaints += wrong[: KEPT - len(self.complaints)]

    def join(self, other: Tally) -> None:
        """Add the numbers of another part of the run."""
        self.counts += other.counts
        self.faults += other.faults
        self.wrong += other.wrong
        for what, blocks in other.growth.items():
            self.growth[what] = max(blocks, self.growth.get(what, blocks))
        self.complaints += other.complaints[: KEPT - len(self.complaints)]


def _end(shown: Shown) -> str:
    if shown.error is not None:
        return type(shown.error).__name__
    return str(shown.result.stop_reason) if shown.result else "left by the reader"
