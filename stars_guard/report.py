"""A comparison of answers without and with the guard, as one HTML file and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.escalation import MODEL
from stars_guard.algorithm.rules import Constant
from stars_guard.algorithm.trace import Attempt, SegmentTrace, Trace
from stars_guard.errors import needs_extra
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.prompts import Prompt
from stars_guard.result import GuardedResult
from stars_guard.rewards.base import ScoreRequest, score_checked
from stars_guard.version import __version__

HEIGHT, STEP, MARGIN = 72, 14, 8
"""Pixels of a strip: its height, the width of an attempt, and the room above and below."""


class ScoredAnswer(BaseModel):
    """An answer, and the reward of it as a whole."""

    result: GuardedResult
    reward: float


class Comparison(BaseModel):
    """One prompt, answered without and with the guard."""

    prompt: str
    unguarded: ScoredAnswer
    guarded: ScoredAnswer


class DemoReport(BaseModel):
    """Everything a report shows."""

    version: Literal[1] = 1
    stars_guard: str = __version__
    model: str
    """Name of the language model."""
    reward: str
    """Name of the reward model."""
    config: GuardConfig
    """Settings of the guarded answers."""
    sampling: SamplingParams
    comparisons: list[Comparison]


class Files(NamedTuple):
    """Where a report was written."""

    html: Path
    json: Path


def compare(llm: StarsGuardedLLM, prompt: str) -> Comparison:
    """Answer ``prompt`` without and with the guard, one after the other.

    Raises:
        StarsGuardError: an answer or a score failed.
    """
    free = llm.generate(prompt, config=unguarded(llm.config))
    guarded = llm.generate(prompt)
    return Comparison(
        prompt=prompt, unguarded=_judged(llm, prompt, free), guarded=_judged(llm, prompt, guarded)
    )


def unguarded(config: GuardConfig) -> GuardConfig:
    """Settings under which the same engine accepts the first candidate, whatever it is.

    Segments are as in ``config``, so that with the same seed both propose the same first candidates.
    """
    return GuardConfig(threshold=Constant(target=-1e9), drawing=Fixed(candidates=1), segments=config.segments)


def write(report: DemoReport, folder: Path) -> Files:
    """Write ``report.html`` and ``report.json`` into ``folder``."""
    files = Files(folder / "report.html", folder / "report.json")
    files.html.write_text(render(report), encoding="utf-8")
    files.json.write_text(report.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return files


def render(report: DemoReport) -> str:
    """The report as one HTML document, which needs no other file and no script.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    values = {"strips": strips, "described": described, "short_name": short_name, "height": HEIGHT}
    return page("report.html.jinja", "transformers", report=report, **values)


def page(template: str, extra: str, **values: object) -> str:
    """A template of this package, filled.

    Raises:
        MissingExtraError: jinja2 is not installed; ``extra`` brings it.
    """
    with needs_extra(extra, "jinja2"):
        from jinja2 import Environment, PackageLoader, StrictUndefined
    # Model output is hostile input: everything that is not the template itself is escaped.
    environment = Environment(
        loader=PackageLoader("stars_guard"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # As globals, so that macros of the template see them, too.
    environment.globals |= values
    return environment.get_template(template).render()


def described(settings: BaseModel) -> str:
    """A settings object on one line: its kind, then what it is set to."""
    return _in_words(settings.model_dump(exclude_none=True))


def _in_words(settings: dict[str, Any]) -> str:
    values = {name: value for name, value in settings.items() if value != ()}
    kind = values.pop("kind", None)
    shown = [f"{name} {_shown(value)}" for name, value in values.items()]
    return ", ".join([kind, *shown] if kind else shown)


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return f"({_in_words(value)})"
    return str(round(value, 4) if isinstance(value, float) else value)


def short_name(name: str) -> str:
    """A model's name; of a folder only the last part."""
    path = PurePath(name)
    return path.name if path.is_absolute() else name


@dataclass(frozen=True, slots=True)
class Mark:
    """One attempt in a strip: a stem from its threshold to its reward, in pixels from the top left."""

    x: int
    reward_y: float
    threshold_y: float
    outcome: str
    """accepted, rejected, forced or withdrawn."""
    title: str
    """The exact numbers."""


@dataclass(frozen=True, slots=True)
class Strip:
    """One segment's attempts."""

    number: int
    verdict: str
    width: int
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class _Axis:
    """From rewards to pixels, the same for all segments of an answer."""

    low: float
    high: float

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return round(HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN), 1)


def strips(trace: Trace) -> list[Strip]:
    """The geometry of every decision of an answer, segment by segment."""
    judged = [segment for segment in trace.segments if segment.attempts]
    attempts = [attempt for segment in judged for attempt in segment.attempts]
    values = [value for attempt in attempts for value in (attempt.reward, attempt.threshold)]
    if not values:
        return []
    axis = _Axis(min(values), max(values))
    return [
        Strip(
            number=segment.index + 1,
            verdict=segment.verdict.value,
            width=len(segment.attempts) * STEP,
            marks=tuple(_marks(segment, axis)),
        )
        for segment in judged
    ]


def outcome(segment: SegmentTrace, attempt: Attempt) -> str:
    """What became of an attempt: accepted, forced, withdrawn or rejected."""
    return segment.verdict.value if segment.chosen == attempt.index else "rejected"


def _marks(segment: SegmentTrace, axis: _Axis) -> Iterator[Mark]:
    for attempt in segment.attempts:
        became = outcome(segment, attempt)
        yield Mark(
            x=attempt.index * STEP + STEP // 2,
            reward_y=axis.y(attempt.reward),
            threshold_y=axis.y(attempt.threshold),
            outcome=became,
            title=(
                f"segment {segment.index + 1}, attempt {attempt.index + 1}: reward {attempt.reward:.4f}, "
                f"threshold {attempt.threshold:.4f}, probability {attempt.probability:.4f}, {became}"
                + (f", drawn by {attempt.proposal}" if attempt.proposal != MODEL else "")
            ),
        )


def _judged(llm: StarsGuardedLLM, prompt: str, result: GuardedResult) -> ScoredAnswer:
    """The whole answer, scored as finished however it ended."""
    run_id = f"report-{result.trace.run_id}"
    request = ScoreRequest(Prompt.of(prompt), result.text, finished=True, run_id=run_id)
    try:
        return ScoredAnswer(result=result, reward=score_checked(llm.reward, [request])[0].value)
    finally:
        llm.reward.release(run_id)
