"""What the escalation policies do where positions keep failing: what is shown, and what it costs.

    python -m benchmarks.escalation [--target 3] [--prompts 16] [--repeats 3] [--tokens 24] [--json]

The embedded language model answers prompts that the package ships, judged by the embedded reward with a
target so high that many positions fail every attempt. Every policy answers the same prompts with the same
seeds; the policies take turns, and seconds are medians of the ratio to no policy within a turn.
``safer_model`` is left out: the package brings one language model, and the same one with other words is what
``hint`` measures.
"""

from __future__ import annotations

import json
import logging
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.escalation import Backtrack, Escalation, SafetyHint, TemperatureLadder
from stars_guard.algorithm.trace import Verdict
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.prompts import Prompt
from stars_guard.result import GuardedResult
from stars_guard.rewards.base import ScoreRequest, score_checked

PROMPTS = Path(__file__).parent.parent / "stars_guard/calibration/prompts.txt"
NONE = "none"
POLICIES: dict[str, tuple[Escalation, ...]] = {
    NONE: (),
    "ladder": (TemperatureLadder(),),
    "hint": (SafetyHint(),),
    "backtrack": (Backtrack(),),
}
DECIDED = (Verdict.ACCEPTED, Verdict.FORCED, Verdict.REFUSED)
"""What a segment of the answer ends as; what was withdrawn counts as cost only."""


@dataclass
class Turns:
    """What one policy did, over all turns."""

    results: list[list[GuardedResult]] = field(default_factory=list)
    """By turn, then by prompt."""
    rewards: list[list[float]] = field(default_factory=list)
    """Rewards of the texts that were shown, refusals included; as ``results``."""
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    policy: str
    failed: float
    """Share of segments that were forced or refused."""
    reward: tuple[float, float, float]
    """Mean reward of what is shown, and its 95 % interval over prompts."""
    gain: tuple[float, float, float]
    """The same of its difference to no policy, prompt by prompt."""
    tokens: float
    """Proposed tokens per kept token."""
    attempts: float
    """Judged candidates per segment of the answer."""
    reward_calls: float
    """Texts scored per answer."""
    seconds: float
    """Median of its time over that of no policy in the same turn."""


def measure(guard: StarsGuardedLLM, prompts: Sequence[str], repeats: int) -> dict[str, Turns]:
    """Answer all prompts with every policy, in turns.

    Args:
        guard: its settings are those of the policy ``none``.
        prompts: what to answer.
        repeats: turns; each has seeds of its own, which all policies share.
    """
    turns_of = {name: Turns() for name in POLICIES}
    for turn in range(repeats):
        for name, policies in POLICIES.items():
            config = guard.config.changed(escalation=policies)
            _one_turn(turns_of[name], guard, config, prompts, turn)
    return turns_of


def _one_turn(
    turns: Turns, guard: StarsGuardedLLM, config: GuardConfig, prompts: Sequence[str], turn: int
) -> None:
    sampling = [guard.sampling.changed(seed=turn * len(prompts) + n) for n in range(len(prompts))]
    begun = time.perf_counter()
    results = guard.batch(prompts, sampling=sampling, config=config)
    turns.seconds.append(time.perf_counter() - begun)
    shown = [
        ScoreRequest(Prompt.of(prompt), result.text, finished=True)
        for prompt, result in zip(prompts, results, strict=True)
    ]
    turns.rewards.append([reward.value for reward in score_checked(guard.reward, shown)])
    turns.results.append(results)


def row(name: str, turns: Turns, none: Turns) -> Row:
    """The figures of one policy.

    Args:
        name: of the policy.
        turns: what it did.
        none: what no policy did in the same turns.
    """
    results = [result for turn in turns.results for result in turn]
    verdicts = [
        segment.verdict
        for result in results
        for segment in result.trace.segments
        if segment.verdict in DECIDED
    ]
    rewards, base = _by_prompt(turns), _by_prompt(none)
    ratios = [mine / theirs for mine, theirs in zip(turns.seconds, none.seconds, strict=True)]
    kept = sum(result.usage.kept_tokens for result in results)
    return Row(
        policy=name,
        failed=sum(verdict is not Verdict.ACCEPTED for verdict in verdicts) / len(verdicts),
        reward=interval(rewards),
        gain=interval([mine - theirs for mine, theirs in zip(rewards, base, strict=True)]),
        tokens=sum(result.usage.proposed_tokens for result in results) / max(1, kept),
        attempts=sum(result.trace.attempts for result in results) / len(verdicts),
        reward_calls=statistics.fmean(result.usage.reward_calls for result in results),
        seconds=statistics.median(ratios),
    )


def _by_prompt(turns: Turns) -> list[float]:
    """The mean over the turns: answers to one prompt are no independent draws."""
    return [statistics.fmean(rewards) for rewards in zip(*turns.rewards, strict=True)]


def interval(values: Sequence[float], resamples: int = 2000) -> tuple[float, float, float]:
    """Mean, and the 95 % percentile bootstrap interval of it."""
    drawn = random.Random(0)
    means = sorted(statistics.fmean(drawn.choices(values, k=len(values))) for _ in range(resamples))
    return statistics.fmean(values), means[round(0.025 * resamples)], means[round(0.975 * resamples) - 1]


def rows(turns_of: dict[str, Turns]) -> list[Row]:
    """One per policy."""
    return [row(name, turns, turns_of[NONE]) for name, turns in turns_of.items()]


def table(lines: Sequence[Row]) -> Table:
    """To be printed."""
    out = Table(box=None, header_style="dim", pad_edge=False)
    out.add_column("policy", no_wrap=True)
    headings = "forced or refused", "reward shown", "gain", "drawn / kept", "attempts", "calls", "time"
    for heading in headings:
        out.add_column(heading, justify="right")
    for line in lines:
        figures = (
            f"{line.tokens:.2f}",
            f"{line.attempts:.2f}",
            f"{line.reward_calls:.1f}",
            f"{line.seconds:.2f}",
        )
        out.add_row(line.policy, f"{line.failed:.1%}", _spread(line.reward), _spread(line.gain), *figures)
    return out


def _spread(value: tuple[float, float, float]) -> str:
    return f"{value[0]:.2f} ({value[1]:.2f} to {value[2]:.2f})"


def main(
    target: Annotated[float, typer.Option(help="Target reward, in log-odds of being safe.")] = 3.0,
    prompts: Annotated[int, typer.Option(help="Prompts to answer.")] = 16,
    repeats: Annotated[int, typer.Option(help="Turns, each with seeds of its own.")] = 3,
    tokens: Annotated[int, typer.Option(help="Longest answer.")] = 24,
    segment_tokens: Annotated[int, typer.Option(help="Longest segment.")] = 8,
    max_attempts: Annotated[int, typer.Option(help="Candidates judged per segment.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure and print."""
    # Forced segments are in the table.
    logging.getLogger("stars_guard").setLevel(logging.ERROR)
    guard = StarsGuardedLLM.load(sampling=SamplingParams(max_tokens=tokens))
    guard.config = guard.config.adjusted(
        target=target, segment_tokens=segment_tokens, max_attempts=max_attempts
    )
    texts = PROMPTS.read_text(encoding="utf-8").splitlines()[:prompts]
    guard.batch(texts[:2], sampling=guard.sampling.changed(seed=0))  # warm
    lines = rows(measure(guard, texts, repeats))
    if as_json:
        settings = {"target": target, "prompts": len(texts), "repeats": repeats, "max_attempts": max_attempts}
        print(json.dumps({**settings, "policies": [asdict(line) for line in lines]}))
        return
    Console(width=110, highlight=False).print(table(lines))


if __name__ == "__main__":
    typer.run(main)
