"""What escalation policies bring and cost, on questions where candidates keep failing.

    python -m benchmarks.escalation [--prompts 14] [--seeds 1] [--target 3.5] [--reward embedded:probe]

The embedded model answers harmful questions (those of the conformance kit) under a target that many positions
do not reach within few attempts; what is left over is forced, so that every policy answers everything. The
policies take turns on each question, with the same seeds. Rewards are those of whole answers by the same
reward, with 95 % intervals from resampling questions.
"""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.decoding import timed
from stars_guard.config import GuardConfig, SamplingParams
from stars_guard.conformance import shipped_pairs
from stars_guard.embedded import CONFIG
from stars_guard.escalation import Backtrack, Escalation, SafetyHint, TemperatureLadder
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.result import GuardedResult
from stars_guard.rules import Best, LinearInTokens

POLICIES: dict[str, tuple[Escalation, ...]] = {
    "none": (),
    "ladder": (TemperatureLadder(after=2, every=2),),
    "hint": (SafetyHint(after=2),),
    "backtrack": (Backtrack(),),
    "hint, then back": (SafetyHint(after=2), Backtrack()),
}


@dataclass(frozen=True)
class Answered:
    """One answer, and what it took."""

    question: int
    result: GuardedResult
    reward: float
    seconds: float


def answered(
    llm: StarsGuardedLLM, questions: Sequence[str], seeds: int, config: GuardConfig
) -> dict[str, list[Answered]]:
    """All answers by policy; the policies take turns on each question."""
    found: dict[str, list[Answered]] = {name: [] for name in POLICIES}
    for number, question in enumerate(questions):
        for seed in range(seeds):
            for name, policies in POLICIES.items():
                own = config.changed(escalation=policies)
                sampling = SamplingParams(max_tokens=96, temperature=0.8, seed=1000 * seed + number)
                seconds, result = timed(partial(llm.generate, question, config=own, sampling=sampling))
                found[name].append(Answered(number, result, result.trace.kept_rewards[-1], seconds))
    return found


def row(own: Sequence[Answered], base: Sequence[Answered]) -> dict[str, float]:
    """The figures of one policy; ``base`` is that of none."""
    segments = [one for answer in own for one in answer.result.trace.segments]
    usages = [answer.result.usage for answer in own]
    low, high = interval(own)
    return {
        "final_reward": statistics.mean(one.reward for one in own),
        "low": low,
        "high": high,
        "forced_segments": sum(answer.result.forced for answer in own) / len(segments),
        "withdrawn_segments": sum(answer.result.trace.withdrawn for answer in own) / len(segments),
        "attempts_per_segment": sum(len(one.attempts) for one in segments) / len(segments),
        "proposed_per_kept": sum(u.proposed_tokens for u in usages) / sum(u.kept_tokens for u in usages),
        "time_over_none": statistics.median(
            mine.seconds / other.seconds for mine, other in zip(own, base, strict=True)
        ),
    }


def interval(own: Sequence[Answered], resamples: int = 1000) -> tuple[float, float]:
    """95 % interval of the mean final reward, from drawing questions anew."""
    by_question: dict[int, list[float]] = {}
    for one in own:
        by_question.setdefault(one.question, []).append(one.reward)
    means, dice = list(map(statistics.mean, by_question.values())), random.Random(0)
    drawn = sorted(statistics.mean(dice.choices(means, k=len(means))) for _ in range(resamples))
    return drawn[int(0.025 * resamples)], drawn[int(0.975 * resamples)]


def table(rows: dict[str, dict[str, float]]) -> Table:
    """For the terminal."""
    made = Table(box=None, header_style="dim", pad_edge=False)
    made.add_column("policy")
    heads = ("final reward", "forced", "withdrawn", "attempts", "proposed / kept tokens", "time / none")
    for head in heads:
        made.add_column(head, justify="right")
    for name, one in rows.items():
        made.add_row(
            name,
            f"{one['final_reward']:.2f} [{one['low']:.2f}, {one['high']:.2f}]",
            f"{one['forced_segments']:.1%}",
            f"{one['withdrawn_segments']:.1%}",
            f"{one['attempts_per_segment']:.2f}",
            f"{one['proposed_per_kept']:.2f}",
            f"{one['time_over_none']:.2f}",
        )
    return made


def main(
    prompts: Annotated[int, typer.Option(help="Questions asked.")] = 14,
    seeds: Annotated[int, typer.Option(help="Answers to each question, by policy.")] = 1,
    target: Annotated[float, typer.Option(help="Target reward, hard to reach.")] = 3.5,
    attempts: Annotated[int, typer.Option(help="Candidates judged per segment.")] = 6,
    reward: Annotated[str | None, typer.Option(help="Reward model; the embedded encoder.")] = None,
    output: Annotated[Path, typer.Option(help="Where the JSON goes.")] = Path("benchmarks/escalation.json"),
) -> None:
    """Measure, print a table, and write the JSON."""
    config = CONFIG.changed(
        threshold=LinearInTokens(target=target), max_attempts=attempts, exhaustion=Best(floor=-1e9)
    )
    llm = StarsGuardedLLM.load(reward=reward, config=config)
    questions = list(dict.fromkeys(pair.prompt for pair in shipped_pairs()))[:prompts]
    found = answered(llm, questions, seeds, config)
    rows = {name: row(own, found["none"]) for name, own in found.items()}
    settings = {"prompts": len(questions), "seeds": seeds, "target": target, "attempts": attempts}
    output.write_text(json.dumps({"settings": settings, "policies": rows}, indent=2) + "\n")
    Console(highlight=False, width=110).print(table(rows))


if __name__ == "__main__":
    typer.run(main)
