"""Waves of streams in process, on both drivers: planned, read, and held against the ledger."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from stars_guard import GuardConfig, NoAcceptableSegment, StarsGuardedLLM, StarsGuardError
from stars_guard.algorithm.rules import Soft
from stars_guard.rewards.batching import MicroBatching
from stars_guard.testing import SelfBatchingModel
from tests.faults.ledger import Ledger, Shown
from tests.faults.parts import FaultyModel, FaultyReward
from tests.faults.plan import StreamPlan, WavePlan, wave
from tests.faults.readers import aread, read
from tests.faults.tally import Tally

TOGETHER = 8
"""Streams of a batch, and threads that read at the same time."""
PATIENCE = 60.0
"""Seconds that only a hang reaches."""


class _Plan(Protocol):
    @property
    def lanes(self) -> bool: ...
    @property
    def config(self) -> GuardConfig: ...
    @property
    def streams(self) -> tuple[StreamPlan, ...]: ...


@dataclass(frozen=True)
class Guarded:
    """A guard of faulty parts, and what they write down."""

    plans: dict[int, StreamPlan]
    llm: StarsGuardedLLM
    models: tuple[FaultyModel, FaultyModel]
    reward: FaultyReward
    ledger: Ledger

    @classmethod
    def by(cls, plan: _Plan, max_rows: int) -> Guarded:
        """The guard of a wave.

        Args:
            plan: of the wave.
            max_rows: of the guard.
        """
        plans = {stream.number: stream for stream in plan.streams}
        ledger = Ledger(poor_may_be_accepted=isinstance(plan.config.acceptance, Soft))
        model, safer, reward = FaultyModel(plans), FaultyModel(plans), FaultyReward(plans, ledger)
        options: dict[str, Any] = {"safer_model": safer, "max_rows": max_rows}
        if plan.lanes:
            options["micro_batching"] = MicroBatching(max_wait=0.0)
        batching: Any = model  # of the shape that is wrapped, though not of the class
        given = SelfBatchingModel(batching) if plan.lanes else model
        llm = StarsGuardedLLM(given, reward, plan.config, **options)
        return cls(plans, llm, (model, safer), reward, ledger)

    def expect(self, streams: tuple[StreamPlan, ...]) -> None:
        """Forget the streams of the last wave, and have these plans for the next."""
        self.plans.clear()
        self.plans.update({stream.number: stream for stream in streams})
        self.reward.released.clear()
        self.ledger.clear()

    def complaints(self, shown: Iterable[Shown]) -> list[str]:
        """Everything that is wrong: with what was shown, with neighbours of faults, with what is left."""
        wrong = []
        for each in shown:
            wrong += self.ledger.complaints(each)
            if self.plans[each.number].is_faultless and _is_outage(each.error):
                wrong.append(f"stream {each.number}: hit by the fault of another: {each.error!r}")
        left = {
            "sessions that are not closed": lambda: sum(len(model.open) for model in self.models),
            "runs that the reward still knows": lambda: len(self.reward.kept),
        }
        wrong += [what for what, count in left.items() if not becomes_zero(count)]
        if twice := [run for run, times in self.reward.released.items() if times > 1]:
            wrong.append(f"{len(twice)} runs that were released more than once")
        return wrong


def _is_outage(error: BaseException | None) -> bool:
    return isinstance(error, StarsGuardError) and not isinstance(error, NoAcceptableSegment)


def becomes_zero(count: Callable[[], int]) -> bool:
    """Whether a number falls to zero before long."""
    until = time.monotonic() + PATIENCE
    while count():
        if time.monotonic() > until:
            return False
        time.sleep(0.0005)
    return True


class Streams:
    """Runs waves, one after the other, with the same threads and the same event loop."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(TOGETHER, thread_name_prefix="reader")
        self._tasks = asyncio.Runner()

    def close(self) -> None:
        """End the threads and the event loop."""
        self._threads.shutdown()
        self._tasks.close()

    def wave(self, seed: int, number: int, tally: Tally) -> None:
        """Run a wave and write down what came of it.

        Args:
            seed: of the whole run.
            number: of the wave.
            tally: of the whole run.
        """
        plan = wave(seed, number)
        guarded = Guarded.by(plan, plan.max_rows)
        shown = self._read(plan, guarded.llm)
        wrong = [f"wave {plan.seed}: {complaint}" for complaint in guarded.complaints(shown)]
        tally.add(shown, plan, wrong)

    def _read(self, plan: WavePlan, llm: StarsGuardedLLM) -> list[Shown]:
        if plan.served == "tasks":
            return self._tasks.run(_as_tasks(llm, plan.streams))
        if plan.served == "batches":
            starts = range(0, len(plan.streams), TOGETHER)
            batches = [plan.streams[start : start + TOGETHER] for start in starts]
            return [shown for streams in batches for shown in _batch(llm, streams)]
        read_all = self._threads.map if plan.served == "threads" else map
        return list(read_all(lambda stream: read(llm, stream), plan.streams))


async def _as_tasks(llm: StarsGuardedLLM, streams: tuple[StreamPlan, ...]) -> list[Shown]:
    async with asyncio.timeout(PATIENCE):
        return list(await asyncio.gather(*(aread(llm, stream) for stream in streams)))


def _batch(llm: StarsGuardedLLM, streams: tuple[StreamPlan, ...]) -> list[Shown]:
    """A batch, which ends with its first failure; whose it is, is not said."""
    shown = [Shown(stream.number) for stream in streams]
    prompts, samplings = [stream.prompt for stream in streams], [stream.sampling for stream in streams]
    try:
        for each, result in zip(shown, llm.batch(prompts, sampling=samplings), strict=True):
            each.whole(result)
    except StarsGuardError as error:
        faulty = [each for each, stream in zip(shown, streams, strict=True) if not stream.is_faultless]
        (faulty or shown)[0].error = error
    return shown
