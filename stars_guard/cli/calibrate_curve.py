"""The curve of harm against cost that ``stars-guard calibrate`` shows, and the setting that it proposes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from stars_guard.algorithm.config import GuardConfig
from stars_guard.algorithm.segments import FixedLength
from stars_guard.calibration.cascade import fit_log_odds
from stars_guard.calibration.draw import DrawPlan
from stars_guard.calibration.labelled import read_labelled, scored_examples
from stars_guard.calibration.storage import sampled
from stars_guard.errors import ConfigurationError, needs_extra
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading.calibrated import MadeFor, write_config
from stars_guard.prompts import Prompt

if TYPE_CHECKING:
    from stars_guard.calibration.harm_curve import CurvePoint, HarmCurve, Unsafe
    from stars_guard.calibration.procedure import Rounds

LOWEST = 0.1
"""Without labels, the share of the model's own final rewards that count as unsafe: the lowest."""


@dataclass(frozen=True)
class CurveOptions:
    """What other settings would do, and which of them to propose."""

    curve: Annotated[
        bool, typer.Option("--curve", help="Also show what other settings would do, by harm and cost.")
    ] = False
    harm_at_most: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Propose the cheapest setting with at most this share of unsafe text."
        ),
    ] = None
    refused_at_most: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Of them, one that refuses at most this share of answers."),
    ] = None
    tokens_at_most: Annotated[
        float | None, typer.Option(min=1, help="Of them, one that draws at most so many tokens a shown one.")
    ] = None

    @property
    def aims(self) -> bool:
        """Whether a setting is to be proposed."""
        return any(aim is not None for aim in (self.harm_at_most, self.refused_at_most, self.tokens_at_most))

    @property
    def wanted(self) -> bool:
        """Whether the curve is to be drawn."""
        return self.curve or self.aims


@dataclass(frozen=True)
class CurveParts:
    """What a curve is drawn with.

    Attributes:
        llm: whose models draw candidates and judge them.
        prompts: what to answer.
        plan: how to draw; its segments are replaced.
        base: gives acceptance rule, patience and drawing policy.
        output: folder for samples and the proposed settings.
        labelled: file of labelled answers; None: the lowest rewards count as unsafe.
    """

    llm: StarsGuardedLLM
    prompts: Sequence[Prompt]
    plan: DrawPlan
    base: GuardConfig
    output: Path
    labelled: Path | None


def check_curve(options: CurveOptions, *, correct: bool) -> None:
    """Refuse what does not go together, before anything is drawn.

    Raises:
        ConfigurationError: partial scores are to be corrected, which holds for one segment length.
    """
    if options.wanted and correct:
        raise ConfigurationError("--correct holds for one segment length; leave it out beside --curve")


def drawn_curve(parts: CurveParts, options: CurveOptions, rounds: Rounds) -> HarmCurve:
    """The curve, from answers that are drawn for each segment length; the proposed settings are written.

    Args:
        parts: what it is drawn with.
        options: what is asked.
        rounds: for progress.
    """
    with needs_extra("calibrate"):
        from stars_guard.calibration.harm_curve import SEGMENTS, Aim, harm_curve
    longest = parts.plan.sampling.max_tokens
    lengths = [length for length in SEGMENTS if length <= longest] or [longest]
    drawn = {}
    for length in lengths:
        file = parts.output / f"samples-segments-{length}.jsonl"
        plan = parts.plan.changed(segments=FixedLength(max_tokens=length))
        tell = rounds(f"segments of {length}")
        drawn[length] = sampled(file, parts.llm.model, parts.llm.reward, parts.prompts, plan, tell)
    finals = [answer.final_reward for answers in drawn.values() for answer in answers]
    unsafe, words = _unsafe(parts, finals)
    aim = Aim(options.harm_at_most, options.refused_at_most, options.tokens_at_most)
    made = harm_curve(drawn, parts.base, unsafe, words, aim if options.aims else None)
    if made.proposed is not None:
        _write(parts, made.proposed)
    return made


def _unsafe(parts: CurveParts, finals: Sequence[float]) -> tuple[Unsafe, str]:
    """What counts as unsafe, and that in words."""
    if parts.labelled is None:
        bound = sorted(finals)[int(LOWEST * len(finals))]
        return (
            lambda reward: float(reward < bound),
            f"a reward under {bound:.4g}, as {LOWEST:.0%} of the model's own answers have; by what the "
            "reward itself says, which the guard steers by, so a judge may see more of it",
        )
    examples = scored_examples(parts.llm.reward, read_labelled(parts.labelled))
    rewards = [example.rewards[0] for example in examples]
    odds = fit_log_odds(rewards, [float(not example.unsafe[0]) for example in examples])
    return (
        lambda reward: 1 / (1 + math.exp(max(-700.0, min(700.0, odds.of(reward))))),
        f"the chance by {len(examples)} labelled answers, for a text that was as likely to be safe as not",
    )


def _write(parts: CurveParts, point: CurvePoint) -> None:
    with needs_extra("calibrate"):
        from stars_guard.calibration.harm_curve import setting
    config = setting(parts.base, point.segment_tokens, point.max_attempts, point.target)
    acceptance = round(point.acceptance.value or 0.0, 4) or 1e-4
    made_for = MadeFor(reward=parts.llm.reward.name, model=parts.llm.model.name, acceptance=acceptance)
    write_config(parts.output / "proposed.toml", config, made_for, None)


def harm_curve_table(made: HarmCurve) -> Table:
    """The settings of the front, and the proposed one, cheapest first."""
    with needs_extra("calibrate"):
        from stars_guard.calibration.report import estimate
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.caption = f"unsafe: {made.unsafe_means}; without a guard {estimate(made.plain_unsafe)}"
    headings = ("segment", "attempts", "target", "at once", "unsafe", "refused", "tokens", "steps", "cost")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    points = [point for point in made.points if point.front or point == made.proposed]
    for point in sorted(points, key=lambda point: point.cost.value or math.inf):
        table.add_row(
            str(point.segment_tokens),
            str(point.max_attempts),
            f"{point.target:.4g}",
            str(point.candidates),
            *(
                estimate(part)
                for part in (point.unsafe, point.refused, point.tokens, point.steps, point.cost)
            ),
            "proposed" if point == made.proposed else "",
        )
    return table
