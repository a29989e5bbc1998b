"""What calibration found, as one HTML file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel

from stars_guard.algorithm.config import GuardConfig
from stars_guard.algorithm.rules import Constant
from stars_guard.calibration import plots
from stars_guard.calibration.description import Description, Estimate
from stars_guard.calibration.samples import SampledAnswer
from stars_guard.calibration.shown import ShownChance, chance, shown_chances
from stars_guard.report import described, page
from stars_guard.version import __version__

if TYPE_CHECKING:
    from markupsafe import Markup
    from matplotlib.axes import Axes


class CaptionedPlot(NamedTuple):
    """A drawing with its words."""

    title: str
    svg: Markup
    caption: str


def write_report(
    path: Path,
    answers: Sequence[SampledAnswer],
    description: Description,
    fitted: Mapping[str, object],
    guarantee: object | None = None,
    shown: Sequence[ShownChance] = (),
) -> None:
    """Write a report as one HTML document, which needs no other file and no script.

    Args:
        path: the file.
        answers: those described, at least one.
        description: of these answers.
        fitted: the settings chosen and what they promise, by name. A :class:`GuardConfig` among them is the
            one whose rule the curves are drawn for; without one, the default rule's.
        guarantee: such as :class:`~stars_guard.calibration.labelled.RiskGuarantee`; a model is shown field by
            field.
        shown: how often segments are shown, by what they score; empty: those of the settings.

    Raises:
        MissingExtraError: jinja2 or matplotlib is not installed.
    """
    path.write_text(_rendered(answers, description, fitted, guarantee, shown), encoding="utf-8")


def _rendered(
    answers: Sequence[SampledAnswer],
    description: Description,
    fitted: Mapping[str, object],
    guarantee: object | None,
    shown: Sequence[ShownChance],
) -> str:
    config = next((value for value in fitted.values() if isinstance(value, GuardConfig)), None)
    target = config.threshold.target if config else None
    return page(
        "calibration.html.jinja",
        "calibrate",
        version=__version__,
        about=description,
        candidates=sum(len(position.rewards) for answer in answers for position in answer.positions),
        fitted=list(rows(fitted)),
        guarantee=list(rows({"guarantee": guarantee})) if guarantee is not None else [],
        shown=shown or (shown_chances(config) if config else []),
        attempts=config.max_attempts if config else None,
        chance=chance,
        figures=_figures(answers, description, config or GuardConfig(threshold=Constant(target=0.0)), target),
        estimate=estimate,
    )


def rows(values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Names and values as text; a model's fields each on a row, those without a value left out."""
    for name, value in values.items():
        fields = dict(value) if isinstance(value, BaseModel) else {name: value}
        known = {key: field for key, field in fields.items() if field not in (None, ())}
        yield from ((key.replace("_", " "), _text(field)) for key, field in known.items())


def estimate(measure: Estimate) -> str:
    """``0.51 [0.32, 0.66]``, or a dash where it is not determined."""
    if measure.value is None:
        return "\u2013"
    if measure.low is None or measure.high is None:
        return f"{measure.value:.2f}"
    return f"{measure.value:.2f} [{measure.low:.2f}, {measure.high:.2f}]"


def _text(value: object) -> str:
    if isinstance(value, BaseModel):
        return described(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(part)}" for key, part in value.items())
    return " ".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)


def _figures(
    answers: Sequence[SampledAnswer], about: Description, config: GuardConfig, target: float | None
) -> list[CaptionedPlot]:
    rule = config.acceptance
    return [
        _figure(
            "Rewards along the answer",
            plots.rewards_by_position(about),
            "Rewards of all candidates, and of those that the answers went on with.",
        ),
        _figure(
            "Partial and final rewards",
            plots.correlation_by_position(about),
            "How well the reward of a partial answer predicts that of the whole one: rank correlation over "
            "all answers, and correlation within a prompt. Bars are 95 % intervals. A guard chooses by noise "
            "where it is about 0.",
        ),
        _figure(
            "Acceptance by target",
            plots.acceptance_by_target(answers, rule, target),
            f"Share of these candidates that pass a constant target, by the rule: {described(rule)}."
            + ("" if target is None else _about_the_line(config)),
        ),
        _figure(
            "Attempts by position",
            plots.attempts_by_position(answers, about, rule, config.max_attempts),
            f"Candidates judged per segment on average, at most {config.max_attempts}, if the constant "
            "target is what 25, 50 or 75 % of the final rewards do not exceed. It counts the prefixes "
            "sampled: under a guard prefixes are better, and attempts fewer.",
        ),
    ]


def _about_the_line(config: GuardConfig) -> str:
    if isinstance(config.threshold, Constant):
        return " The vertical line is the target chosen."
    return (
        " The vertical line is the target chosen; the threshold is elsewhere at most positions, even over it "
        "where the bare prompt scores higher, so its own acceptance rate is another (see the settings)."
    )


def _figure(title: str, paint: Callable[[Axes], None], caption: str) -> CaptionedPlot:
    from markupsafe import Markup

    return CaptionedPlot(title, Markup(plots.drawn(paint)), caption)
