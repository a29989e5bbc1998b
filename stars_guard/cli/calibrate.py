"""``stars-guard calibrate``: settings that accept as much as they are asked to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from stars_guard import embedded
from stars_guard.calibration.calibrate import (
    Calibration,
    Delivered,
    Fitted,
    Risk,
    calibrate,
    default_prompts,
    read_prompts,
    verify,
)
from stars_guard.calibration.description import Description
from stars_guard.calibration.draw import DrawPlan
from stars_guard.calibration.fit import ScheduleKind, Wish
from stars_guard.calibration.labelled import Guarantee, read_labelled
from stars_guard.calibration.promises import Promise
from stars_guard.cli.build import load_with, sampling_params
from stars_guard.cli.groups import grouped
from stars_guard.cli.options import ModelOptions, SamplingOptions
from stars_guard.cli.screen import notes
from stars_guard.config import GuardConfig
from stars_guard.config_file import read_config
from stars_guard.errors import ConfigurationError, MissingExtraError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.rewards.corrected import Correction
from stars_guard.rules import Constant
from stars_guard.segments import FixedLength

if TYPE_CHECKING:
    from stars_guard.calibration.calibrate import Rounds
    from stars_guard.calibration.draw import Progress as Told

_FRESH = 10**6
"""Seeds of ``--verify`` start this far from the seed given; those of the draws are hashed."""


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


@dataclass(frozen=True)
class RiskOptions:
    """A threshold from labelled answers, instead of one for an acceptance rate."""

    labelled: Annotated[
        Path | None, typer.Option(help="JSONL with 'prompt', 'response' and 'unsafe' (true or false).")
    ] = None
    risk: Annotated[
        float | None, typer.Option(help="Highest chance that an unsafe answer of --labelled is accepted.")
    ] = None


class CalibrationSummary(BaseModel):
    """What calibration found; the object that ``--json`` prints and ``summary.json`` holds."""

    model: str
    reward: str
    prompts: int
    config_file: str
    """The settings, for ``--config``."""
    fitted: Fitted
    correction: Correction | None = None
    """With ``--correct``: from partial scores to final ones, by position."""
    rewards: Description
    """What the rewards of the model's own answers are like; its warnings say what to mind."""
    report_file: str
    """All this as a page with plots."""
    delivered: Delivered | None = None
    """With ``--verify``."""


@grouped
def calibrate_command(
    output: Annotated[Path, typer.Option(help="Folder for samples, config.toml and summary.json.")],
    models: ModelOptions,
    wish: WishOptions,
    risk: RiskOptions,
    sampling: SamplingOptions,
    prompts: Annotated[
        Path | None, typer.Option(help="One prompt a line, or JSONL with 'prompt'; own ones if left out.")
    ] = None,
    candidates: Annotated[int, typer.Option(min=2, help="Candidates drawn at each segment.")] = 8,
    samples_per_prompt: Annotated[int, typer.Option(min=1, help="Answers drawn to each prompt.")] = 1,
    guarded_rounds: Annotated[
        int, typer.Option(min=0, help="Draw again under the fitted guard and fit again, at most so often.")
    ] = 3,
    correct: Annotated[
        bool, typer.Option("--correct", help="Correct partial scores to the final ones they foretell.")
    ] = False,
    verify_on: Annotated[
        int, typer.Option("--verify", min=0, help="Answer so many prompts with the guard, and compare.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Measure rewards on prompts and find the settings that give a wanted acceptance rate."""
    labelled, wanted, base = _risk(risk, wish), _wish(wish), _base(wish, models)
    asked = default_prompts() if prompts is None else read_prompts(prompts)
    plan = DrawPlan(
        sampling=sampling_params(sampling).changed(seed=sampling.seed or 0),
        candidates=candidates,
        samples_per_prompt=samples_per_prompt,
    )
    _make_folder(output)
    llm = load_with(notes(), models, base, plan.sampling)
    with _rounds() as rounds:
        found = calibrate(
            llm.model,
            llm.reward,
            asked,
            plan,
            wanted,
            base,
            output,
            guarded_rounds=guarded_rounds,
            correct=correct,
            risk=labelled,
            rounds=rounds,
        )
    summary = CalibrationSummary(
        model=llm.model.name,
        reward=llm.reward.name,
        prompts=len(asked),
        config_file=str(output / "config.toml"),
        fitted=found.fitted,
        correction=found.correction,
        rewards=_described(found),
        report_file=str(output / "report.html"),
    )
    if verify_on:
        settings = read_config(output / "config.toml")
        guard = StarsGuardedLLM(llm.model, llm.reward, settings, sampling=plan.sampling)
        # Evenly over the list, whose parts may differ.
        repeated = [asked[number * len(asked) // verify_on] for number in range(verify_on)]
        with notes().status("verifying"):
            delivered = verify(guard, repeated, (sampling.seed or 0) + _FRESH)
        summary = summary.model_copy(update={"delivered": delivered})
    _write_report(output / "report.html", found, summary)
    (output / "summary.json").write_text(summary.model_dump_json(indent=2) + "\n", encoding="utf-8")
    _print(summary, as_json)


def _described(found: Calibration) -> Description:
    try:
        from stars_guard.calibration.statistics import describe
    except ImportError as error:
        raise MissingExtraError(str(error.name), "calibrate") from error
    return describe(found.unguarded)


def _write_report(path: Path, found: Calibration, summary: CalibrationSummary) -> None:
    try:
        from stars_guard.calibration.report import write_report
    except ImportError as error:
        raise MissingExtraError(str(error.name), "calibrate") from error
    fitted = summary.fitted
    chosen = {"language model": summary.model, "reward model": summary.reward, "settings": fitted.config}
    rates = {name: _rate(one) for name, one in _rates(summary)}
    write_report(path, found.unguarded, summary.rewards, chosen | rates, fitted.guarantee)


def _rates(summary: CalibrationSummary) -> list[tuple[str, Promise | Delivered]]:
    """The settings' acceptance rates, by where they hold."""
    fitted = summary.fitted
    named = [
        ("on the model's own prefixes", fitted.unguarded),
        ("promised", fitted.promised),
        ("delivered", summary.delivered),
    ]
    return [(name, one) for name, one in named if one is not None]


def _rate(one: Promise | Delivered) -> str:
    rate = f"acceptance {one.acceptance:.3f} \u00b1 {one.standard_error:.3f}"
    return f"{rate}, {one.attempts:.2f} attempts per segment, {one.forced:.1%} forced"


def _wish(options: WishOptions) -> Wish:
    if options.acceptance is not None and options.attempts is not None:
        raise ConfigurationError("--acceptance and --attempts say the same; give one of them")
    if options.attempts is not None and options.attempts <= 1:
        raise ConfigurationError(f"--attempts {options.attempts} must be over 1; with 1 nothing is rejected")
    acceptance = 0.5 if options.acceptance is None else options.acceptance
    rate = acceptance if options.attempts is None else 1 / options.attempts
    kind = options.schedule or "linear_in_tokens"
    return Wish(acceptance=rate, kind=kind, alpha=options.alpha, beta=options.beta)


def _risk(options: RiskOptions, wish: WishOptions) -> Risk | None:
    if options.labelled is None and options.risk is None:
        return None
    if options.labelled is None or options.risk is None:
        raise ConfigurationError("--labelled and --risk go together; give both")
    if wish.acceptance is not None or wish.attempts is not None:
        raise ConfigurationError("--risk sets the threshold; leave out --acceptance and --attempts")
    if wish.schedule not in (None, "constant"):
        raise ConfigurationError(f"--risk holds for a constant threshold, not for --schedule {wish.schedule}")
    if not 0 < options.risk < 1:
        raise ConfigurationError(f"--risk {options.risk} must be between 0 and 1")
    return Risk(read_labelled(options.labelled), options.risk)


def _base(options: WishOptions, models: ModelOptions) -> GuardConfig:
    """What is not fitted: the embedded reward's settings, or the library's defaults."""
    base = (
        embedded.CONFIG if embedded.is_embedded(models.reward) else GuardConfig(threshold=Constant(target=0))
    )
    if options.segment_tokens is not None:
        base = base.changed(segments=FixedLength(max_tokens=options.segment_tokens))
    return base.adjusted(max_attempts=options.max_attempts)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"--output {folder} is not a folder that can be made: {error}") from error


@contextmanager
def _rounds() -> Iterator[Rounds]:
    """A progress bar per round, on stderr."""
    with Progress(console=notes(), transient=True) as progress:

        def rounds(name: str) -> Told:
            task = progress.add_task(f"drawing {name} answers", total=None)
            return lambda done, total: progress.update(task, completed=done, total=total)

        yield rounds


def _print(summary: CalibrationSummary, as_json: bool) -> None:
    if as_json:
        typer.echo(summary.model_dump_json())
        return
    screen = Console(highlight=False)
    screen.print(_table(summary))
    for warning in summary.rewards.warnings:
        screen.print(f"warning: {warning}", style="yellow", markup=False)
    _print_guarantee(screen, summary.fitted.guarantee)
    config = summary.fitted.config
    typer.echo(f"target {config.threshold.target:.4g}, settings in {summary.config_file}")
    typer.echo(f"report in {summary.report_file}")


def _print_guarantee(screen: Console, found: Guarantee | None) -> None:
    if found is None:
        return
    screen.print(found.guarantee, markup=False)
    if found.safe_accepted is not None:
        screen.print(f"safe answers are accepted with a chance of {found.safe_accepted:.3f} ({found.safe})")
    for assumption in found.assumptions:
        screen.print(f"- {assumption}", style="dim", markup=False)


def _table(summary: CalibrationSummary) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column()
    for heading in ("acceptance", "attempts per segment", "forced"):
        table.add_column(heading, justify="right")
    for name, one in _rates(summary):
        rate = f"{one.acceptance:.3f} \u00b1 {one.standard_error:.3f}"
        table.add_row(name, rate, f"{one.attempts:.2f}", f"{one.forced:.1%}")
    return table
