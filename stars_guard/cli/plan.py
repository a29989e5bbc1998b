"""``stars-guard plan``: how many machines a guarded service needs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from stars_guard.algorithm.patience import FixedPatience, PosteriorPatience
from stars_guard.cli.exit_codes import FAILED
from stars_guard.cli.groups import grouped
from stars_guard.cli.screen import notes
from stars_guard.errors import ConfigurationError
from stars_guard.planning.measured import MeasuredTraffic, measured
from stars_guard.planning.plan import Plan, Prices, Target, evaluate_fleet, plan
from stars_guard.planning.scenario import (
    Fleet,
    Guarding,
    Scenario,
    SimulatedEngine,
    Stage,
    Traffic,
    geometric,
)
from stars_guard.planning.spread import Spread

_Traffic = partial(typer.Option, rich_help_panel="Traffic")
_Guard = partial(typer.Option, rich_help_panel="Guard")
_Speed = partial(
    typer.Option, rich_help_panel="Speed of one replica (defaults are assumptions: measure yours)"
)
_Fleet = partial(typer.Option, rich_help_panel="Target and machines")


@dataclass(frozen=True)
class TrafficOptions:
    """What is traffic."""

    requests_per_second: Annotated[float, _Traffic(help="On average; they come at random.")] = 10.0
    prompt_tokens: Annotated[int, _Traffic(help="Of a prompt, template included.")] = 300
    answer_tokens: Annotated[
        str | None,
        _Traffic(metavar="N|N:WEIGHT,...", help="Lengths of answers; 256, or those of --measured."),
    ] = None


@dataclass(frozen=True)
class GuardingOptions:
    """What the guard does to an answer."""

    acceptance: Annotated[
        float | None, _Guard(help="Share of candidates that are accepted; 0.7 by default.")
    ] = None
    attempts: Annotated[
        str | None, _Guard(metavar="N:WEIGHT,...", help="Candidates judged a segment; instead of it.")
    ] = None
    measured_in: Annotated[
        Path | None, _Guard("--measured", help="Traces, or summary.json of calibrate; instead of both.")
    ] = None
    segment_tokens: Annotated[int, _Guard(help="Tokens in a segment.")] = 32
    candidates: Annotated[int, _Guard(help="Candidates drawn and scored a round.")] = 1
    max_attempts: Annotated[
        int, _Guard(min=1, help="With --acceptance: the last attempt is taken anyway.")
    ] = 20
    patience: Annotated[
        Literal["fixed", "posterior"],
        _Guard(
            metavar="KIND", help="With --acceptance: posterior gives hopeless segments up, fixed does not."
        ),
    ] = "fixed"
    ahead: Annotated[
        bool, _Guard("--ahead/--no-ahead", help="Draw the next segment while one is scored.")
    ] = True


@dataclass(frozen=True)
class SpeedOptions:
    """How fast one replica of each is."""

    engine_tokens: Annotated[
        str, _Speed(metavar="BATCH:TOKENS,...", help="Tokens a second of the batch, by sequences in it.")
    ] = "1:90,8:650,32:2200,64:3600,128:6000,256:9000"
    prefill_tokens: Annotated[float, _Speed(help="Prompt tokens read a second.")] = 12_000.0
    reward_seconds: Annotated[float, _Speed(help="A call to the reward model.")] = 0.01
    reward_candidate_seconds: Annotated[float, _Speed(help="More for each candidate of it.")] = 0.0005
    reward_batch: Annotated[int, _Speed(help="Most candidates in a call.")] = 64
    guard_seconds: Annotated[float, _Speed(help="Of guard and server, for a round, on one core.")] = 0.0013


@dataclass(frozen=True)
class FleetOptions:
    """What must be met, with what."""

    p95: Annotated[float, _Fleet(help="Seconds in which 95 of 100 answers must be complete.")] = 10.0
    first_segment_p95: Annotated[
        float | None, _Fleet(help="Seconds in which 95 of 100 must have their first segment.")
    ] = None
    engines: Annotated[int | None, _Fleet(help="Say what so many do, instead of how many are needed.")] = None
    rewards: Annotated[int | None, _Fleet(help="Likewise; with --engines.")] = None
    guards: Annotated[int, _Fleet(help="Likewise; with --engines.")] = 1
    max_engines: Annotated[int, _Fleet(help="No more than these.")] = 10_000
    max_rewards: Annotated[int, _Fleet(help="No more than these.")] = 10_000
    engine_price: Annotated[float, _Fleet(help="Of an engine, an hour.")] = 0.0
    reward_price: Annotated[float, _Fleet(help="Of a reward model, an hour.")] = 0.0
    guard_price: Annotated[float, _Fleet(help="Of a guard, an hour.")] = 0.0


@grouped
def plan_command(
    traffic: TrafficOptions,
    guarding: GuardingOptions,
    speed: SpeedOptions,
    fleet: FleetOptions,
    seed: Annotated[int, typer.Option(help="Of the simulated traffic.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as one JSON object.")] = False,
) -> None:
    """Say how many engines, reward models and guards meet a target, what they deliver and what they cost."""
    scenario, given = _scenario(traffic, guarding, speed), _given(fleet)
    target = Target(**{name: getattr(fleet, name) for name in Target.model_fields})
    prices = Prices(engine=fleet.engine_price, reward=fleet.reward_price, guard=fleet.guard_price)
    with notes().status("simulating"):
        if given is None:
            made = plan(scenario, target, prices, seed=seed)
        else:
            made = evaluate_fleet(scenario, given, target, prices, seed=seed)
    if as_json:
        typer.echo(made.model_dump_json())
    else:
        _show(made)
    if not made.met:
        raise typer.Exit(FAILED)


def _scenario(traffic: TrafficOptions, guarding: GuardingOptions, speed: SpeedOptions) -> Scenario:
    seen = _measured(guarding)
    lengths = seen.answer_tokens or {256: 1.0}
    if traffic.answer_tokens is not None:
        lengths = weighted_numbers("--answer-tokens", traffic.answer_tokens)
    return Scenario(
        engine=SimulatedEngine(
            tokens_per_second=weighted_numbers("--engine-tokens", speed.engine_tokens),
            prefill_per_second=speed.prefill_tokens,
        ),
        reward=Stage(
            fixed=speed.reward_seconds,
            per_candidate=speed.reward_candidate_seconds,
            max_batch=speed.reward_batch,
        ),
        guard=Stage(fixed=speed.guard_seconds, per_candidate=0.0),
        guarding=Guarding(
            attempts=seen.attempts,
            segment_tokens=guarding.segment_tokens,
            candidates=guarding.candidates,
            ahead=guarding.ahead,
        ),
        traffic=Traffic(
            requests_per_second=traffic.requests_per_second,
            prompt_tokens=traffic.prompt_tokens,
            answer_tokens=lengths,
        ),
    )


def _measured(options: GuardingOptions) -> MeasuredTraffic:
    given = {
        "--acceptance": options.acceptance,
        "--attempts": options.attempts,
        "--measured": options.measured_in,
    }
    flags = [flag for flag, value in given.items() if value is not None]
    if len(flags) > 1:
        raise ConfigurationError(f"{' and '.join(flags)} say the same; give one of them")
    if options.measured_in is not None:
        return measured(options.measured_in)
    if options.attempts is not None:
        return MeasuredTraffic(weighted_numbers("--attempts", options.attempts))
    rate = 0.7 if options.acceptance is None else options.acceptance
    if not 0 < rate <= 1:
        raise ConfigurationError(f"--acceptance {rate} must be over 0 and at most 1")
    # What is rejected counts as hopeless, as by the hard rule: patience then ends after a fixed number.
    patience = PosteriorPatience() if options.patience == "posterior" else FixedPatience()
    return MeasuredTraffic(geometric(rate, patience.further((), options.max_attempts)))


def _given(options: FleetOptions) -> Fleet | None:
    if options.engines is None and options.rewards is None:
        return None
    if options.engines is None or options.rewards is None:
        raise ConfigurationError("--engines and --rewards go together; give both")
    return Fleet(engines=options.engines, rewards=options.rewards, guards=options.guards)


def weighted_numbers(flag: str, text: str) -> dict[int, float]:
    """``64`` or ``1:90,8:650`` as numbers with their values; a number alone has the value 1."""
    weights: dict[int, float] = {}
    for part in text.split(","):
        number, _, value = part.partition(":")
        try:
            weights[int(number)] = float(value or 1)
        except ValueError as error:
            raise ConfigurationError(f"{flag} {text!r}: write it like 1:90,8:650, not {part!r}") from error
    return weights


def _show(made: Plan) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in _lines(made):
        table.add_row(name, value)
    Console(highlight=False).print(table)


def _lines(made: Plan) -> list[tuple[str, str]]:
    fleet, load, tokens = made.fleet, made.load, made.tokens
    cells = f" in {made.cells} cells" if made.cells > 1 else ""
    return [
        ("target", "met" if made.met else f"not met: {made.reason}"),
        ("machines", f"{fleet.engines} engines, {fleet.rewards} reward models, {fleet.guards} guards{cells}"),
        ("load", f"engines {load.engine:.0%}, reward models {load.reward:.0%}, guards {load.guard:.0%}"),
        ("most requests/s", f"{made.most_requests_per_second:.4g}"),
        ("answer, s", _times(made.answer)),
        ("first candidates, s", _times(made.candidates)),
        ("first segment, s", _times(made.first_segment)),
        (
            "tokens an answer",
            f"{tokens.kept:.0f} kept of {tokens.drawn:.0f} drawn; {tokens.ahead_wasted:.0f} ahead in vain",
        ),
        ("cost", f"{made.cost_per_hour:.2f} an hour, {made.cost_per_1000_answers:.4f} for 1,000 answers"),
    ]


def _times(seconds: Spread) -> str:
    return f"p50 {seconds.p50:.2f}, p95 {seconds.p95:.2f}, mean {seconds.mean:.2f}"
