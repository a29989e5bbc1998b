"""The figures of a calibration report, as SVG."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from stars_guard.algorithm.rules import Acceptance, expected_attempts
from stars_guard.calibration.description import AtSegment, Description, Estimate
from stars_guard.calibration.samples import SampledAnswer, positions_at
from stars_guard.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
"""Of the palette of Okabe and Ito, which people with any kind of colour vision tell apart."""
STYLE: Mapping[str, object] = {
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e8ea",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "stars_guard",
}
TARGETS = 60
"""Target rewards along a curve."""


def drawn(paint: Callable[[Axes], None]) -> str:
    """One figure as an ``<svg>`` element.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "calibrate") from error
    with rc_context(cast(Any, dict(STYLE))):  # its keys are typed as literals
        figure = Figure(figsize=(6.2, 3.6), layout="constrained")
        FigureCanvasAgg(figure)
        paint(figure.add_subplot())
        text = StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _element(text.getvalue())


def rewards_by_position(about: Description) -> Callable[[Axes], None]:
    """Bands of the candidates' rewards, and what the answers went on with."""

    def paint(axes: Axes) -> None:
        at = [one.tokens for one in about.segments]
        rewards = [one.rewards for one in about.segments]
        outer, inner = [one.q05 for one in rewards], [one.q25 for one in rewards]
        axes.fill_between(at, outer, [one.q95 for one in rewards], color=BLUE, alpha=0.15, label="5 to 95 %")
        axes.fill_between(at, inner, [one.q75 for one in rewards], color=BLUE, alpha=0.3, label="25 to 75 %")
        axes.plot(at, [one.q50 for one in rewards], "o-", color=BLUE, ms=4, label="median of candidates")
        axes.plot(at, [one.path for one in about.segments], "s--", color=ORANGE, ms=4, label="median of path")
        axes.set(xlabel="response tokens, candidate included", ylabel="reward")
        axes.legend(fontsize=8, ncols=2)

    return paint


def acceptance_by_target(
    answers: Sequence[SampledAnswer], rule: Acceptance, chosen: float | None
) -> Callable[[Axes], None]:
    """Share of candidates accepted at a constant threshold, early, late and in all."""
    longest = max(len(one.positions) for one in answers)
    places = {f"segment {n + 1}": n for n in dict.fromkeys((0, longest // 2))}
    groups = {name: _by_prefix(answers, [n]) for name, n in places.items()}
    groups["all segments"] = _by_prefix(answers, range(longest))

    def paint(axes: Axes) -> None:
        targets = _targets(groups["all segments"])
        for (name, own), (colour, dash) in zip(groups.items(), _lines(len(groups)), strict=True):
            shares = [100 * float(np.mean(_chances(own, target, rule))) for target in targets]
            axes.plot(targets, shares, dash, color=colour, label=name)
        if chosen is not None:
            axes.axvline(chosen, color="#667079", lw=1)
        axes.set(xlabel="target reward", ylabel="candidates accepted, %", ylim=(0, 102))
        axes.legend(fontsize=8)

    return paint


def attempts_by_position(
    answers: Sequence[SampledAnswer], about: Description, rule: Acceptance, most: int
) -> Callable[[Axes], None]:
    """Candidates judged per segment at three constant thresholds: quantiles of the final reward."""
    final = about.final
    targets = {"25 %": final.q25, "median": final.q50, "75 %": final.q75}

    def paint(axes: Axes) -> None:
        at = [one.tokens for one in about.segments]
        for (name, target), (colour, dash) in zip(targets.items(), _lines(3), strict=True):
            counts = [
                float(np.mean(attempts_by_prefix(_by_prefix(answers, [one.segment]), target, rule, most)))
                for one in about.segments
            ]
            axes.plot(
                at, counts, dash, marker="o", ms=4, color=colour, label=f"{name} of final: {target:.3g}"
            )
        axes.set(xlabel="response tokens, candidate included", ylabel="attempts per segment")
        axes.set_ylim(bottom=0.9)
        axes.legend(title="target reward", fontsize=8, title_fontsize=8)

    return paint


def correlation_by_position(about: Description) -> Callable[[Axes], None]:
    """How well partial rewards predict the final one, with intervals."""

    def paint(axes: Axes) -> None:
        _estimates(axes, about.segments, lambda one: one.spearman, BLUE, "o-", "all answers", 0)
        _estimates(axes, about.segments, lambda one: one.within_prompt, ORANGE, "s--", "within a prompt", 1)
        axes.axhline(0, color="#667079", lw=0.8)
        axes.set(
            xlabel="response tokens, candidate included", ylabel="correlation with final", ylim=(-1.05, 1.05)
        )
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, loc="lower right")
        else:
            axes.text(0.5, 0.6, "no answer tells", ha="center", transform=axes.transAxes)

    return paint


def attempts_by_prefix(
    prefixes: Sequence[Sequence[float]], target: float, rule: Acceptance, most: int
) -> list[float]:
    """Expected attempts at each prefix, at most ``most``.

    The acceptance probability is that of the prefix' own candidates, so that few overstate the spread.
    """
    by_prefix = _chances_by_prefix(prefixes, target, rule)
    return [expected_attempts(float(np.mean(chances)), most) for chances in by_prefix]


def _by_prefix(answers: Sequence[SampledAnswer], segments: Sequence[int]) -> list[Sequence[float]]:
    return [one.rewards for segment in segments for one in positions_at(answers, segment)]


def _chances_by_prefix(
    prefixes: Sequence[Sequence[float]], target: float, rule: Acceptance
) -> list[list[float]]:
    return [[rule.probability(reward, target) for reward in own] for own in prefixes]


def _chances(prefixes: Sequence[Sequence[float]], target: float, rule: Acceptance) -> list[float]:
    return [chance for own in _chances_by_prefix(prefixes, target, rule) for chance in own]


def _targets(prefixes: Sequence[Sequence[float]]) -> list[float]:
    """From where almost all are accepted to where almost none are; vetoes do not stretch it."""
    low, high = np.quantile([reward for own in prefixes for reward in own], (0.02, 0.98))
    room = 0.1 * (high - low) or 0.5
    return [float(one) for one in np.linspace(low - room, high + room, TARGETS)]


def _lines(count: int) -> list[tuple[str, str]]:
    return [(BLUE, "-"), (ORANGE, "--"), (GREEN, ":")][-count:]


def _estimates(
    axes: Axes,
    segments: Sequence[AtSegment],
    which: Callable[[AtSegment], Estimate],
    colour: str,
    dash: str,
    label: str,
    place: int,
) -> None:
    """A line with its intervals, moved aside a little so that two do not hide each other."""
    step = max(one.tokens for one in segments) / 120
    known = [(one.tokens + place * step, which(one)) for one in segments]
    rows = [(at, one.value, one.low, one.high) for at, one in known if one.value is not None]
    if not rows:
        return
    axes.plot([row[0] for row in rows], [row[1] for row in rows], dash, color=colour, ms=4, label=label)
    sure = [(at, low, high) for at, _, low, high in rows if low is not None and high is not None]
    at, low, high = ([row[n] for row in sure] for n in range(3))
    axes.vlines(at, low, high, color=colour, lw=1.5, alpha=0.6)


def _element(document: str) -> str:
    """Without the XML header, metadata and fixed size; ids are made the figure's own by its content."""
    element = document[document.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", element)
    )
