"""The simulator of ``stars-guard plan`` against a real guard, on an engine and a reward of known speed.

    python -m benchmarks.planning [--requests 120] [--output benchmarks/planning.json]

Requests arrive at random times; the same times, and the attempts that each segment takes, are given to the
simulator. The first row of each pair is measured, the second one simulated.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from statistics import mean
from typing import Annotated

import typer

from benchmarks.stepped import MAX_ATTEMPTS, Script, SteppedModel, SteppedReward
from stars_guard import StarsGuardedLLM
from stars_guard.planning.scenario import (
    Fleet,
    Guarding,
    Scenario,
    SimulatedEngine,
    Stage,
    Traffic,
    geometric,
)
from stars_guard.planning.simulate import SimulatedRequest, simulate
from stars_guard.planning.spread import Spread, spread
from stars_guard.result import GuardedResult


@dataclass(frozen=True)
class Case:
    """One system to measure and to simulate. Speeds are in seconds."""

    script: Script
    requests_per_second: float
    step: float = 0.008
    step_per_sequence: float = 0.0004
    reward: float = 0.02
    reward_per_candidate: float = 0.001
    max_batch: int = 48

    def step_seconds(self, batch: int) -> float:
        """Of a step with so many sequences."""
        return self.step + self.step_per_sequence * batch

    @property
    def scenario(self) -> Scenario:
        """The same for the simulator."""
        points = {batch: batch / self.step_seconds(batch) for batch in range(1, self.max_batch + 1)}
        return Scenario(
            engine=SimulatedEngine(tokens_per_second=points, prefill_per_second=1e9),
            reward=Stage(fixed=self.reward, per_candidate=self.reward_per_candidate, max_batch=64),
            guard=Stage(fixed=0.0005, per_candidate=0.0),
            guarding=Guarding(
                attempts=geometric(self.script.acceptance, MAX_ATTEMPTS),
                segment_tokens=self.script.segment_tokens,
                candidates=self.script.candidates,
            ),
            traffic=Traffic(
                requests_per_second=self.requests_per_second,
                prompt_tokens=0,
                answer_tokens={self.script.segments * self.script.segment_tokens: 1},
            ),
        )


CASES = {
    "light load": Case(Script(segments=4), 2.0),
    "half load": Case(Script(segments=4), 12.0),
    "slow reward": Case(Script(segments=4), 6.0, reward=0.08, reward_per_candidate=0.004),
    "two candidates a round": Case(Script(segments=4, candidates=2), 8.0),
    "few are accepted": Case(Script(segments=4, acceptance=0.35), 6.0),
}
"""Systems that differ in what matters."""


@dataclass(frozen=True)
class Figures:
    """Of a run, in seconds; tokens are of an answer."""

    answer: Spread
    first_segment: Spread
    drawn: float


def arrivals(case: Case, requests: int, seed: int) -> list[float]:
    """When requests arrive, in seconds from the start.

    Args:
        case: says how often.
        requests: how many.
        seed: of the draw.
    """
    source = random.Random(seed)
    return list(accumulate(source.expovariate(case.requests_per_second) for _ in range(requests)))


async def measured(case: Case, times: list[float]) -> Figures:
    """A real guard with its lanes, its micro-batches and what it draws ahead."""
    llm = StarsGuardedLLM(
        SteppedModel(case.script, case.step_seconds, case.max_batch),
        SteppedReward(case.script, case.reward, case.reward_per_candidate),
        case.script.config,
        sampling=case.script.sampling,
        max_rows=case.max_batch,
    )
    begun = time.monotonic()

    async def ask(number: int, arrives: float) -> GuardedResult:
        await asyncio.sleep(max(0.0, begun + arrives - time.monotonic()))
        return await llm.agenerate(str(number))

    results = await asyncio.gather(*(ask(number, arrives) for number, arrives in enumerate(times)))
    seconds = [result.usage.seconds for result in results]
    return Figures(
        answer=spread([spent.total for spent in seconds]),
        first_segment=spread([spent.first_segment or 0.0 for spent in seconds]),
        drawn=mean(result.usage.proposed_tokens for result in results),
    )


def simulated(case: Case, times: list[float]) -> Figures:
    """The same requests in the simulator."""
    script = case.script
    lengths = [script.segment_tokens] * script.segments
    requests = [
        SimulatedRequest(arrives, lengths, script.attempts(str(number)))
        for number, arrives in enumerate(times)
    ]
    simulate(case.scenario, Fleet(engines=1, rewards=1), requests)
    return Figures(
        answer=spread([request.ended - request.arrived for request in requests]),
        first_segment=spread([request.delivered - request.arrived for request in requests]),
        drawn=mean(request.drawn for request in requests),
    )


def compared(real: Figures, foretold: Figures) -> dict[str, tuple[float, float]]:
    """Measured and simulated, by what it is."""
    return {
        "answer, mean s": (real.answer.mean, foretold.answer.mean),
        "answer, p50 s": (real.answer.p50, foretold.answer.p50),
        "answer, p95 s": (real.answer.p95, foretold.answer.p95),
        "first segment, mean s": (real.first_segment.mean, foretold.first_segment.mean),
        "first segment, p95 s": (real.first_segment.p95, foretold.first_segment.p95),
        "tokens drawn": (real.drawn, foretold.drawn),
    }


def main(
    requests: Annotated[int, typer.Option(help="In each case.")] = 120,
    seed: Annotated[int, typer.Option(help="Of the arrivals.")] = 1,
    output: Annotated[Path, typer.Option(help="The figures as JSON.")] = Path("benchmarks/planning.json"),
) -> None:
    """Measure, simulate, and print a table."""
    figures: dict[str, dict[str, tuple[float, float]]] = {}
    print("| case | what | measured | simulated | error |\n|---|---|---|---|---|")
    for name, case in CASES.items():
        times = arrivals(case, requests, seed)
        figures[name] = compared(asyncio.run(measured(case, times)), simulated(case, times))
        for what, (real, foretold) in figures[name].items():
            print(f"| {name} | {what} | {real:.3f} | {foretold:.3f} | {foretold / real - 1:+.1%} |")
    output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
