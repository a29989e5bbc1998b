"""A whole run: waves of streams and of requests, shared out among processes."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from tests.faults.exchanges import Exchanges
from tests.faults.plan import STREAMS
from tests.faults.requests import REQUESTS
from tests.faults.streams import Streams
from tests.faults.tally import Tally
from tests.faults.watch import Watch, is_at_work, is_ours

SAMPLES = 24
"""Times at which memory is measured, in each part of a run."""


class Waves(Protocol):
    """What can run a wave of the one or the other kind."""

    def wave(self, seed: int, number: int, tally: Tally) -> None:
        """Run a wave and write down what came of it."""

    def close(self) -> None:
        """End what was kept between waves."""


SIZES = {"streams": STREAMS, "requests": REQUESTS}
_KINDS: dict[str, tuple[type[Waves], Callable[[str], bool]]] = {
    "streams": (Streams, is_ours),
    "requests": (Exchanges, is_at_work),  # FastAPI's caches keep every application, and so its guard
}
"""What runs waves of each kind, and which threads must have ended then."""


@dataclass(frozen=True)
class Part:
    """What one process runs, of one kind: every ``step``-th wave from ``first`` on, up to ``end``."""

    kind: str
    seed: int
    first: int
    end: int
    step: int = 1
    progress: bool = False

    def run(self) -> Tally:
        """Run it, and see what it leaves behind."""
        tally = Tally()
        make_waves, ends = _KINDS[self.kind]
        with Watch(ends) as watch:
            waves = make_waves()
            try:
                self._waves(waves, watch, tally)
            finally:
                waves.close()
            tally.complain(watch.complaints())
        tally.growth[self.kind] = watch.growth
        tally.counts["log lines"] = watch.log.lines
        return tally

    def _waves(self, waves: Waves, watch: Watch, tally: Tally) -> None:
        numbers = range(self.first, self.end, self.step)
        every, begun = max(1, len(numbers) // SAMPLES), time.monotonic()
        for count, number in enumerate(numbers, start=1):
            waves.wave(self.seed, number, tally)
            if not count % every:
                watch.sample(tally.counts[self.kind])
                self._say(tally, time.monotonic() - begun)

    def _say(self, tally: Tally, seconds: float) -> None:
        if self.progress:
            served = tally.counts[self.kind]
            line = f"{served} {self.kind}, {served / seconds:.0f} a second, {tally.wrong} complaints\n"
            sys.stderr.write(f"process {self.first}: {line}")


def parts(streams: int, requests: int, seed: int, processes: int) -> list[list[Part]]:
    """What each process runs, one after the other.

    Args:
        streams: at least so many, over all processes; likewise ``requests``.
        requests: of HTTP.
        seed: of the run.
        processes: at the same time.
    """
    asked = {"streams": streams, "requests": requests}
    ends = {kind: -(-count // SIZES[kind]) for kind, count in asked.items()}
    return [
        [Part(kind, seed, process, end, processes, progress=True) for kind, end in ends.items() if end]
        for process in range(processes)
    ]


def run_all(shares: Sequence[Sequence[Part]]) -> Tally:
    """Run each share in a process of its own, and add everything up."""
    tally = Tally()
    # Not forked: a process that was forked from one with threads is a fault that is not looked for here.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(shares), mp_context=context) as processes:
        for part in processes.map(run_in_turn, shares):
            tally.join(part)
    return tally


def run_in_turn(share: Sequence[Part]) -> Tally:
    """Run parts one after the other."""
    tally = Tally()
    for part in share:
        tally.join(part.run())
    return tally
