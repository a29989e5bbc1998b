"""What an evaluation says in plain words, computed from differences and their intervals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from stars_guard.evaluation.config import BASELINE
from stars_guard.evaluation.reporting.comparisons import ComparedFigure, PairedComparison
from stars_guard.evaluation.reporting.record import EvaluationReport
from stars_guard.evaluation.reporting.tables import MethodFigures, figures_of
from stars_guard.evaluation.results import MethodResult
from stars_guard.evaluation.tables import FigureUnit, shown

_WORDS: dict[ComparedFigure, tuple[str, FigureUnit]] = {
    "harmful": ("harmful answers", "share"),
    "reward": ("value", "number"),
    "refused": ("refused answers", "share"),
    "proposed_tokens": ("proposed tokens", "number"),
    "seconds": ("seconds an answer", "seconds"),
    "seconds_to_first_text": ("seconds to the first text", "seconds"),
}
_QUALITY: tuple[ComparedFigure, ...] = ("harmful", "reward", "refused")


class Claim(NamedTuple):
    """A sentence, and what it says of the method that the report is about."""

    text: str
    verdict: Literal["better", "worse", "undecided"]


def claims_of(report: EvaluationReport, task: str, subject: str) -> list[Claim]:
    """What is to be said of a method on a task: against plain decoding, and at equal costs.

    Args:
        report: the evaluation.
        task: name of the task.
        subject: one of the methods that the report is about.
    """
    rivals = [
        (BASELINE, "plain decoding"),
        *((name, f"{name}, at equal tokens") for name in report.matched(task, subject, "tokens")),
        *((name, f"{name}, at equal wall time") for name in report.matched(task, subject, "seconds")),
    ]
    return [
        _claim(comparison, words)
        for other, words in rivals
        for comparison in report.tasks[task].comparisons
        if (comparison.method, comparison.other) == (subject, other)
    ]


def summary_of(report: EvaluationReport, task: str, subject: str) -> str:
    """One line on a task: harm and refusals of a method against plain decoding, and the price.

    Args:
        report: the evaluation.
        task: name of the task.
        subject: one of the methods that the report is about, which answered the task.
    """
    figures = {item.result.method: item for item in figures_of(report, task)}
    mine, plain = figures[subject], figures.get(BASELINE)
    parts = [*_harm_in_words(mine, plain), *_pairs_in_words(mine), *_refusals_in_words(mine)]
    return (
        f"{subject}: {'; '.join([*parts, *_price(mine, plain)])}. {_verdicts(report, task, subject)}".strip()
    )


def losses_of(report: EvaluationReport, task: str, subject: str) -> list[str]:
    """Where a method loses in what answers are like, and what may explain it.

    Args:
        report: the evaluation.
        task: name of the task.
        subject: one of the methods that the report is about, which answered the task.
    """
    lost = [
        comparison
        for comparison in report.tasks[task].comparisons
        if comparison.method == subject and comparison.verdict == "worse" and comparison.figure in _QUALITY
    ]
    if not lost:
        return []
    figures = {item.result.method: item for item in figures_of(report, task)}
    winners = [figures[name] for name in dict.fromkeys(comparison.other for comparison in lost)]
    sentences = [_claim(comparison, comparison.other).text for comparison in lost]
    return [*sentences, _why(subject, figures[subject]), _prices_of(winners)]


def _claim(comparison: PairedComparison, other: str) -> Claim:
    words, unit = _WORDS[comparison.figure]
    by = f" by the judge {comparison.judge}" if comparison.judge else ""
    gap = comparison.difference
    low, high = (_signed(end, unit) for end in (gap.low, gap.high))
    said = {"better": "better", "worse": "worse", "undecided": "no difference can be told"}
    text = (
        f"{words}{by}: {comparison.method} less {other}: {_signed(gap.value, unit)} [{low}, {high}], "
        f"{said[comparison.verdict]} "
        f"({gap.prompts} prompts, p = {gap.chance:.3f})"
    )
    return Claim(text[0].upper() + text[1:], comparison.verdict)


def _signed(value: float, unit: FigureUnit) -> str:
    if unit == "share":
        return f"{100 * value:+.1f} points"
    return f"{value:+.2f}"


def _harm_in_words(subject: MethodFigures, plain: MethodFigures | None) -> Iterator[str]:
    for judge, harm in subject.result.harmful.items():
        before = plain and plain.result.harmful.get(judge)
        against = f", against {shown(before, 'share')} of plain decoding" if before else ""
        yield f"{shown(harm, 'share')} of answers are harmful to the judge {judge}{against}"


def _pairs_in_words(subject: MethodFigures) -> Iterator[str]:
    for judge, pairs in subject.result.wins.items():
        yield (
            f"{shown(pairs.rate, 'share')} of pairs are won by the judge {judge}, ties counting half "
            f"({pairs.wins} won, {pairs.ties} tied, {pairs.losses} lost)"
        )


def _refusals_in_words(subject: MethodFigures) -> Iterator[str]:
    if subject.result.refused is not None:
        yield f"{shown(subject.result.refused, 'share')} are refused"
    if subject.result.repaired is not None:
        yield f"{shown(subject.result.repaired, 'share')} are repaired instead"


def _price(subject: MethodFigures, plain: MethodFigures | None) -> Iterator[str]:
    if subject.costs.proposed_per_kept is not None:
        yield f"it draws {shown(subject.costs.proposed_per_kept, 'number')} tokens for each one kept"
    if subject.costs.seconds is not None and plain is not None and plain.costs.seconds is not None:
        yield (
            f"and takes {shown(subject.costs.seconds, 'seconds')} s an answer, plain decoding "
            f"{shown(plain.costs.seconds, 'seconds')} s"
        )


def _verdicts(report: EvaluationReport, task: str, subject: str) -> str:
    """Which rivals at equal costs it beats, and which beat it, in harm or else in value."""
    rivals = [*report.matched(task, subject, "tokens"), *report.matched(task, subject, "seconds")]
    compared = [c for c in report.tasks[task].comparisons if c.method == subject and c.other in rivals]
    harm = [c for c in compared if c.figure == "harmful"] or [c for c in compared if c.figure == "reward"]
    said = {
        "better": "it beats {}",
        "worse": "it loses to {}",
        "undecided": "no difference to {} can be told",
    }
    parts = [said[c.verdict].format(c.other) + _by(c) for c in harm]
    return f"At equal costs, {'; '.join(parts)}." if parts else ""


def _by(comparison: PairedComparison) -> str:
    word = _WORDS[comparison.figure][0]
    return f" in {word} by {comparison.judge}"


def _why(subject: str, figures: MethodFigures) -> str:
    """What of the subject's own figures may explain a loss: above all, how seldom it does anything."""
    costs, result = figures.costs, figures.result
    parts = [
        f"{_untouched(result)} of answers had no candidate rejected, and are what the model wrote at first",
        f"{shown(costs.proposed_per_kept, 'number')} tokens are drawn for each one kept",
        f"{shown(result.forced, 'share')} of answers hold a segment that no candidate earned",
        f"{shown(result.refused, 'share')} are refused",
    ]
    if costs.stalls is not None:
        parts.append(f"{shown(costs.stalls.at_limit, 'share')} have a segment that took every attempt")
    return f"What may explain it, of {subject}: {', '.join(parts)}."


def _untouched(result: MethodResult) -> str:
    rejecting = [share.value for share in (result.repaired, result.refused) if share is not None]
    return f"{100 * (1 - sum(rejecting)):.1f} %"


def _prices_of(winners: Iterable[MethodFigures]) -> str:
    """What those pay that do better."""
    each = (
        f"{item.result.method} {shown(item.costs.proposed_per_kept, 'number')}, of answers of "
        f"{shown(item.costs.tokens.kept if item.costs.tokens else None, 'number')}"
        for item in winners
    )
    return f"Tokens that better ones draw for each one kept, and keep an answer: {'; '.join(each)}."
