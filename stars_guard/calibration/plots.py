"""The figures of a calibration report, as SVG."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from io import StringIO
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from stars_guard.algorithm.rules import Acceptance, expected_attempts
from stars_guard.calibration.description import AtSegment, Description, Estimate
from stars_guard.calibration.samples import SampledAnswer, positions_at
from stars_guard.errors import needs_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"
"""Colours of the palette of Okabe and Ito, which people with any kind of colour vision tell apart."""
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
    "text.parse_math": False,  # names may hold a dollar sign
}
TARGETS = 60
"""Target rewards along a curve."""


def drawn(
    paint: Callable[[Axes], None],
    *,
    extra: str = "calibrate",
    size: tuple[float, float] = (6.2, 3.6),
    paper: str = "none",
) -> str:
    """One figure as an ``<svg>`` element.

    Args:
        paint: draws on its axes.
        extra: what brings matplotlib, for the message where it is missing.
        size: width and height, in inches, with text of 10 points.
        paper: colour behind the figure; ``none`` lets the page's show.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    with needs_extra(extra, "matplotlib"):
        from matplotlib import rc_context
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    with rc_context(cast(Any, dict(STYLE))):  # its keys are typed as literals
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        paint(figure.add_subplot())
        text = StringIO()
        plain = {"facecolor": paper, "metadata": {"Date": None, "Creator": None}}
        figure.savefig(text, format="svg", transparent=paper == "none", **plain)
    return _element(text.getvalue())


def rewards_by_position(about: Description) -> Callable[[Axes], None]:
    """Bands of the candidates' rewards, and what the answers went on with."""

    def paint(axes: Axes) -> None:
        at = [segment.tokens for segment in about.segments]
        bands = [segment.rewards for segment in about.segments]
        outer, inner = [band.q05 for band in bands], [band.q25 for band in bands]
        axes.fill_between(at, outer, [band.q95 for band in bands], color=BLUE, alpha=0.15, label="5 to 95 %")
        axes.fill_between(at, inner, [band.q75 for band in bands], color=BLUE, alpha=0.3, label="25 to 75 %")
        axes.plot(at, [band.q50 for band in bands], "o-", color=BLUE, ms=4, label="median of candidates")
        path = [segment.path for segment in about.segments]
        axes.plot(at, path, "s--", color=ORANGE, ms=4, label="median of path")
        axes.set(xlabel="response tokens, candidate included", ylabel="reward")
        axes.legend(fontsize=8, ncols=2)

    return paint


def acceptance_by_target(
    answers: Sequence[SampledAnswer], rule: Acceptance, chosen: float | None
) -> Callable[[Axes], None]:
    """Share of candidates accepted at a constant threshold, early, late and in all.

    Args:
        answers: with their candidates, at least one.
        rule: accepts.
        chosen: target reward that is marked; None marks none.
    """
    longest = max(len(answer.positions) for answer in answers)
    places = {f"segment {n + 1}": n for n in dict.fromkeys((0, longest // 2))}
    groups = {name: _rewards(answers, [n]) for name, n in places.items()}
    groups["all segments"] = _rewards(answers, range(longest))

    def paint(axes: Axes) -> None:
        targets = _targets(groups["all segments"])
        for (name, rewards), (colour, dash) in zip(groups.items(), _lines(len(groups)), strict=True):
            shares = [
                100 * float(np.mean([rule.probability(reward, target) for reward in rewards]))
                for target in targets
            ]
            axes.plot(targets, shares, dash, color=colour, label=name)
        if chosen is not None:
            axes.axvline(chosen, color="#667079", lw=1)
        axes.set(xlabel="target reward", ylabel="candidates accepted, %", ylim=(0, 102))
        axes.legend(fontsize=8)

    return paint


def attempts_by_position(
    answers: Sequence[SampledAnswer], about: Description, rule: Acceptance, most: int
) -> Callable[[Axes], None]:
    """Candidates judged per segment at three constant thresholds: quantiles of the final reward.

    Args:
        answers: with their candidates, at least one.
        about: what is known of them.
        rule: accepts.
        most: attempts a segment, 1 or more.
    """
    final = about.final
    targets = {"25 %": final.q25, "median": final.q50, "75 %": final.q75}
    prefixes = [
        [position.rewards for position in positions_at(answers, segment.segment)]
        for segment in about.segments
    ]

    def paint(axes: Axes) -> None:
        at = [segment.tokens for segment in about.segments]
        for (name, target), (colour, dash) in zip(targets.items(), _lines(3), strict=True):
            counts = [
                float(np.mean(attempts_at_prefixes(rewards, target, rule, most))) for rewards in prefixes
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
        _estimates(axes, about.segments, lambda s: s.spearman, BLUE, "o-", "all answers", 0)
        _estimates(axes, about.segments, lambda s: s.within_prompt, ORANGE, "s--", "within a prompt", 1)
        axes.axhline(0, color="#667079", lw=0.8)
        axes.set(
            xlabel="response tokens, candidate included", ylabel="correlation with final", ylim=(-1.05, 1.05)
        )
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, loc="lower right")
        else:
            axes.text(0.5, 0.6, "no answer tells", ha="center", transform=axes.transAxes)

    return paint


def attempts_at_prefixes(
    prefixes: Sequence[Sequence[float]], target: float, rule: Acceptance, most: int
) -> list[float]:
    """Attempts expected at each prefix.

    The chance to be accepted is that of the prefix' own candidates, so few candidates overstate the spread.

    Args:
        prefixes: rewards of the candidates of each.
        target: the threshold.
        rule: accepts.
        most: attempts, 1 or more.
    """
    chances = ([rule.probability(reward, target) for reward in rewards] for rewards in prefixes)
    return [expected_attempts(float(np.mean(accepted)), most) for accepted in chances]


def _rewards(answers: Sequence[SampledAnswer], segments: Sequence[int]) -> list[float]:
    positions = (position for segment in segments for position in positions_at(answers, segment))
    return [reward for position in positions for reward in position.rewards]


def _targets(rewards: Sequence[float]) -> list[float]:
    """From where almost all are accepted to where almost none are; vetoes do not stretch it."""
    low, high = np.quantile(rewards, (0.02, 0.98))
    room = 0.1 * (high - low) or 0.5
    return [float(target) for target in np.linspace(low - room, high + room, TARGETS)]


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
    step = max(segment.tokens for segment in segments) / 120
    points = [(segment.tokens + place * step, which(segment)) for segment in segments]
    rows = [(at, known.value, known.low, known.high) for at, known in points if known.value is not None]
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
    # Figures share a page, on which an id may stand once, and matplotlib calls the first axes alike in each.
    own = f"f{sha256(element.encode()).hexdigest()[:8]}-"
    element = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{own}", element)
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", element)
    )
