"""``stars-guard calibrate``: settings that accept as much as they are asked to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from stars_guard.algorithm.config import SamplingParams
from stars_guard.calibration.description import Description
from stars_guard.calibration.labelled import RiskGuarantee
from stars_guard.calibration.procedure import (
    Calibration,
    Delivered,
    Fitted,
    calibrate,
    default_prompts,
    measure_delivery,
    read_prompts,
)
from stars_guard.calibration.promises import Promise
from stars_guard.calibration.shown import ShownChance, chance, shown_chances
from stars_guard.cli.build import load_wanted
from stars_guard.cli.calibrate_curve import (
    CurveOptions,
    CurveParts,
    check_curve,
    drawn_curve,
    harm_curve_table,
)
from stars_guard.cli.calibrate_options import (
    DrawOptions,
    RiskOptions,
    WishOptions,
    base_settings,
    checked_risk,
    checked_wish,
    draw_plan,
)
from stars_guard.cli.groups import grouped
from stars_guard.cli.options import ModelOptions, SamplingOptions, make_folder
from stars_guard.cli.screen import notes
from stars_guard.cli.wanted import WantedGuard, given_sampling, wanted_models
from stars_guard.errors import needs_extra
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading.calibrated import read_config
from stars_guard.prompts import Prompt
from stars_guard.rewards.corrected import Correction

if TYPE_CHECKING:
    from stars_guard.calibration.draw import Progress as Told
    from stars_guard.calibration.procedure import Rounds

_FRESH = 10**6
"""Seeds of ``--verify`` start this far from the seed given; those of the draws are hashed."""


class CalibrationSummary(BaseModel):
    """What calibration found; the object that ``--json`` prints and ``summary.json`` holds."""

    model: str
    reward: str
    prompts: int
    config_file: str
    """The settings, for ``--config``."""
    fitted: Fitted
    shown: list[ShownChance]
    """How often a segment is shown, by what it scores."""
    correction: Correction | None = None
    """With ``--correct``: from partial scores to final ones, by position."""
    rewards: Description
    """What the rewards of the model's own answers are like; its warnings say what to mind."""
    report_file: str
    """All this as a page with plots."""
    delivered: Delivered | None = None
    """With ``--verify``."""
    curve: dict[str, Any] | None = None
    """With ``--curve`` or an aim: what other settings would do, and the proposed one."""


@grouped
def calibrate_command(
    output: Annotated[Path, typer.Option(help="Folder for samples, config.toml and summary.json.")],
    models: ModelOptions,
    wish: WishOptions,
    risk: RiskOptions,
    draws: DrawOptions,
    curve: CurveOptions,
    sampling: SamplingOptions,
    verify_on: Annotated[
        int, typer.Option("--verify", min=0, help="Answer so many prompts with the guard, and compare.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Measure rewards on prompts and find the settings that give a wanted acceptance rate."""
    base = base_settings(wish, models)
    check_curve(curve, correct=draws.correct)
    wanted, labelled = checked_wish(wish, risk), checked_risk(risk, wish, base.max_attempts, curve.wanted)
    prompts = default_prompts() if draws.prompts is None else read_prompts(draws.prompts)
    plan = draw_plan(draws, SamplingParams(**given_sampling(sampling)))
    make_folder(output)
    llm = load_wanted(WantedGuard(wanted_models(models), base, plan.sampling))
    parts = llm.model, llm.reward, prompts, plan, wanted, base, output
    with _rounds() as rounds:
        calibration = calibrate(
            *parts, guarded_rounds=draws.guarded_rounds, correct=draws.correct, risk=labelled, rounds=rounds
        )
        fitted = calibration.fitted.config
        about = CurveParts(llm, prompts, plan, fitted, output, risk.labelled)
        drawn = drawn_curve(about, curve, rounds) if curve.wanted else None
    summary = CalibrationSummary(
        model=llm.model.name,
        reward=llm.reward.name,
        prompts=len(prompts),
        config_file=str(output / "config.toml"),
        fitted=calibration.fitted,
        shown=shown_chances(calibration.fitted.config, [wanted.shown.reward] if wanted.shown else []),
        correction=calibration.correction,
        rewards=_described(calibration),
        report_file=str(output / "report.html"),
        delivered=_delivered(llm, prompts, output / "config.toml", verify_on) if verify_on else None,
        curve=drawn and drawn.model_dump(mode="json"),
    )
    _write_report(output / "report.html", calibration, summary)
    (output / "summary.json").write_text(summary.model_dump_json(indent=2) + "\n", encoding="utf-8")
    _print(summary, as_json)
    if drawn is not None and not as_json:
        Console(highlight=False).print(harm_curve_table(drawn))
        if drawn.proposed is not None:
            typer.echo(f"proposed settings in {output / 'proposed.toml'}")


def _delivered(llm: StarsGuardedLLM, prompts: Sequence[Prompt], config: Path, count: int) -> Delivered:
    guard = StarsGuardedLLM(llm.model, llm.reward, read_config(config), sampling=llm.sampling)
    # Evenly over the list, whose parts may differ.
    chosen = [prompts[number * len(prompts) // count] for number in range(count)]
    with notes().status("verifying"):
        return measure_delivery(guard, chosen, (llm.sampling.seed or 0) + _FRESH)


def _described(calibration: Calibration) -> Description:
    with needs_extra("calibrate"):
        from stars_guard.calibration.statistics import describe
    return describe(calibration.unguarded)


def _write_report(path: Path, calibration: Calibration, summary: CalibrationSummary) -> None:
    with needs_extra("calibrate"):
        from stars_guard.calibration.report import write_report
    fitted = summary.fitted
    chosen = {"language model": summary.model, "reward model": summary.reward, "settings": fitted.config}
    rates = {name: _rate(measured) for name, measured in _rates(summary)}
    write_report(
        path, calibration.unguarded, summary.rewards, chosen | rates, fitted.guarantee, summary.shown
    )


def _rates(summary: CalibrationSummary) -> list[tuple[str, Promise | Delivered]]:
    """The settings' acceptance rates, by where they hold."""
    fitted = summary.fitted
    named = [
        ("on the model's own prefixes", fitted.unguarded),
        ("promised", fitted.promised),
        ("delivered", summary.delivered),
    ]
    return [(name, measured) for name, measured in named if measured is not None]


def _rate(measured: Promise | Delivered) -> str:
    rate = f"acceptance {measured.acceptance:.3f} \u00b1 {measured.standard_error:.3f}"
    return f"{rate}, {measured.attempts:.2f} attempts per segment, {measured.forced:.1%} forced"


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
    screen.print(_shown_table(summary))
    for warning in summary.rewards.warnings:
        screen.print(f"warning: {warning}", style="yellow", markup=False)
    _print_guarantee(screen, summary.fitted.guarantee)
    config = summary.fitted.config
    typer.echo(f"target {config.threshold.target:.4g}, settings in {summary.config_file}")
    typer.echo(f"report in {summary.report_file}")


def _print_guarantee(screen: Console, guarantee: RiskGuarantee | None) -> None:
    if guarantee is None:
        return
    screen.print(guarantee.guarantee, markup=False)
    if guarantee.safe_accepted is not None:
        screen.print(
            f"safe answers are accepted with a chance of {guarantee.safe_accepted:.3f} ({guarantee.safe})"
        )
    for assumption in guarantee.assumptions:
        screen.print(f"- {assumption}", style="dim", markup=False)


def _shown_table(summary: CalibrationSummary) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    most = summary.fitted.config.max_attempts
    for heading in ("reward", "under the target", "shown a try", f"after up to {most} tries", "at worst"):
        table.add_column(heading, justify="right")
    for row in summary.shown:
        chances = map(chance, (row.a_try, row.a_segment, row.worst))
        table.add_row(f"{row.reward:.4g}", f"{row.under_target:.3g}", *chances)
    return table


def _table(summary: CalibrationSummary) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column()
    for heading in ("acceptance", "attempts per segment", "forced"):
        table.add_column(heading, justify="right")
    for name, measured in _rates(summary):
        rate = f"{measured.acceptance:.3f} \u00b1 {measured.standard_error:.3f}"
        table.add_row(name, rate, f"{measured.attempts:.2f}", f"{measured.forced:.1%}")
    return table
