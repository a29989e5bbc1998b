"""The options of ``stars-guard calibrate``, and what they ask for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Constant
from stars_guard.algorithm.segments import FixedLength
from stars_guard.calibration.draw import DrawPlan
from stars_guard.calibration.fit import ScheduleKind, Wish
from stars_guard.calibration.labelled import read_labelled
from stars_guard.calibration.procedure import Risk
from stars_guard.calibration.shown import ShownWish
from stars_guard.cli.options import ModelOptions
from stars_guard.errors import ConfigurationError
from stars_guard.loading.names import embedded_config, model_spec, reward_spec


@dataclass(frozen=True)
class WishOptions:
    """What the settings shall do."""

    acceptance: Annotated[
        float | None, typer.Option(help="Wanted share of candidates that are accepted; 0.5 by default.")
    ] = None
    attempts: Annotated[
        float | None, typer.Option(help="Wanted attempts per segment, 1 / acceptance; instead of it.")
    ] = None
    schedule: Annotated[
        ScheduleKind | None,
        typer.Option(
            metavar="KIND",
            help="constant, linear_in_tokens (the default), linear_in_segments or table.",
        ),
    ] = None
    alpha: Annotated[
        float, typer.Option(min=0, max=1, help="Start of a linear schedule: 0 at the bare prompt's reward.")
    ] = 0.5
    beta: Annotated[
        float | None,
        typer.Option(min=0, help="Acceptance temperature; measured if left out, 0 is the hard rule."),
    ] = None
    segment_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens in a segment.")] = None
    max_attempts: Annotated[int | None, typer.Option(min=1, help="Candidates judged per segment.")] = None
    patience: Annotated[
        Literal["fixed", "posterior"] | None,
        typer.Option(metavar="KIND", help="fixed makes all attempts, posterior gives hopeless segments up."),
    ] = None


@dataclass(frozen=True)
class RiskOptions:
    """A threshold from labelled answers, instead of one for an acceptance rate."""

    labelled: Annotated[
        Path | None, typer.Option(help="JSONL with 'prompt', 'response' and 'unsafe' (true or false).")
    ] = None
    risk: Annotated[
        float | None, typer.Option(help="Highest chance that an unsafe answer of --labelled is accepted.")
    ] = None
    shown_below: Annotated[
        float | None,
        typer.Option(
            help="Highest chance that a bad segment is shown after all attempts: an unsafe answer of "
            "--labelled, or one of --shown-reward."
        ),
    ] = None
    shown_reward: Annotated[
        float | None, typer.Option(help="What a bad segment scores, or more, for --shown-below.")
    ] = None


@dataclass(frozen=True)
class DrawOptions:
    """What is drawn."""

    prompts: Annotated[
        Path | None, typer.Option(help="One prompt a line, or JSONL with 'prompt'; own ones if left out.")
    ] = None
    candidates: Annotated[int, typer.Option(min=2, help="Candidates drawn at each segment.")] = 8
    samples_per_prompt: Annotated[int, typer.Option(min=1, help="Answers drawn to each prompt.")] = 1
    guarded_rounds: Annotated[
        int, typer.Option(min=0, help="Draw again under the fitted guard and fit again, at most so often.")
    ] = 3
    correct: Annotated[
        bool, typer.Option("--correct", help="Correct partial scores to the final ones they foretell.")
    ] = False


def draw_plan(options: DrawOptions, sampling: SamplingParams) -> DrawPlan:
    """How to draw; without a seed, with 0, so that the same command finds the same."""
    return DrawPlan(
        sampling=sampling.changed(seed=sampling.seed or 0),
        candidates=options.candidates,
        samples_per_prompt=options.samples_per_prompt,
    )


def checked_wish(options: WishOptions, risk: RiskOptions) -> Wish:
    """The wish, if its options go together."""
    if options.acceptance is not None and options.attempts is not None:
        raise ConfigurationError("--acceptance and --attempts say the same; give one of them")
    if options.attempts is not None and options.attempts <= 1:
        raise ConfigurationError(f"--attempts {options.attempts} must be over 1; with 1 nothing is rejected")
    acceptance = 0.5 if options.acceptance is None else options.acceptance
    rate = acceptance if options.attempts is None else 1 / options.attempts
    shown = _shown_wish(risk)
    kind = options.schedule or ("constant" if shown else "linear_in_tokens")
    return Wish(acceptance=rate, kind=kind, alpha=options.alpha, beta=options.beta, shown=shown)


def _shown_wish(options: RiskOptions) -> ShownWish | None:
    """How seldom a segment of a given reward is to be shown, if that is wanted."""
    if options.shown_below is None:
        if options.shown_reward is not None:
            raise ConfigurationError("--shown-reward goes with --shown-below; give both")
        return None
    if options.labelled is not None:
        if options.shown_reward is not None:
            raise ConfigurationError("--labelled says what bad answers score; leave out --shown-reward")
        return None
    if options.shown_reward is None:
        raise ConfigurationError("--shown-below needs --shown-reward, or --labelled answers; give either")
    return ShownWish(options.shown_reward, options.shown_below)


def checked_risk(
    options: RiskOptions, wish: WishOptions, max_attempts: int, curve: bool = False
) -> Risk | None:
    """The labelled answers, if a risk is wanted and nothing contradicts it.

    Args:
        options: what is wanted of labelled answers.
        wish: what is wanted otherwise.
        max_attempts: candidates that the guard judges per segment.
        curve: whether labelled answers may say alone what is unsafe on the curve of harm against cost.
    """
    wanted = options.risk is not None or (options.labelled is not None and options.shown_below is not None)
    if not wanted and (curve or options.labelled is None):
        return None
    if options.risk is not None and options.shown_below is not None:
        raise ConfigurationError("--risk counts one attempt, --shown-below all of them; give one of them")
    name, highest, attempts = "risk", options.risk, 1
    if options.shown_below is not None:
        name, highest, attempts = "shown-below", options.shown_below, max_attempts
    if options.labelled is None or highest is None:
        raise ConfigurationError("--labelled and --risk (or --shown-below) go together; give both")
    if wish.acceptance is not None or wish.attempts is not None:
        raise ConfigurationError(f"--{name} sets the threshold; leave out --acceptance and --attempts")
    if wish.schedule not in (None, "constant"):
        raise ConfigurationError(
            f"--{name} holds for a constant threshold, not for --schedule {wish.schedule}"
        )
    if not 0 < highest < 1:
        raise ConfigurationError(f"--{name} {highest} must be between 0 and 1")
    return Risk(read_labelled(options.labelled), highest, attempts)


def base_settings(options: WishOptions, models: ModelOptions) -> GuardConfig:
    """What is not fitted: the embedded reward's settings, or the library's defaults."""
    known = embedded_config(reward_spec(models.reward, model_spec(models.model)))
    base = GuardConfig(threshold=Constant(target=0))
    if known is not None:
        # Attempts are foretold as draws of the model alone, and so without the openings of those settings.
        base = base.changed(tools=known.tools, acceptance=known.acceptance, floor=known.floor)
    if options.segment_tokens is not None:
        base = base.changed(segments=FixedLength(max_tokens=options.segment_tokens))
    if options.patience is not None:
        base = base.changed(patience=options.patience)
    return base.adjusted(max_attempts=options.max_attempts)
