"""Traces as preferences: of two continuations of one prefix, the one that was accepted is the better one.

Both sides are whole answers up to the end of their segment, prefix included, as training on preferences takes
them. In the loss of DPO the shared prefix cancels exactly, so that what was forced in it, or accepted with
luck, is neither encouraged nor discouraged. An answer that goes on after its segment does not end there,
which ``chosen_ends`` and ``rejected_ends`` say: taught as an end, every good segment would make answers
shorter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from pydantic import Field

from stars_guard.algorithm.trace import Attempt, SegmentTrace, Trace, Verdict
from stars_guard.batch.answers import RowResult
from stars_guard.batch.rows import Row
from stars_guard.errors import ConfigurationError
from stars_guard.prompts import Prompt
from stars_guard.settings import Record, Settings
from stars_guard.types import Channel, Finish

PreferenceFormat: TypeAlias = Literal["conversational", "plain"]
"""How prompts and answers are written: as chat turns, or as texts."""
PreferenceSide: TypeAlias = str | list[dict[str, Any]]
"""A prompt or an answer, as a text or as chat turns."""


class PairLimits(Settings):
    """Which pairs of a trace are taken."""

    min_margin: float = Field(default=0.0, ge=0)
    """Least difference of the two rewards; a pair whose rewards are equal is never taken."""
    per_answer: int | None = Field(default=None, ge=1)
    """Most pairs of one answer, those with the largest margins; None: all."""


class PreferenceRow(Record):
    """One row of a preference data set, with the columns that trl reads, and some that it leaves alone."""

    prompt: PreferenceSide
    chosen: PreferenceSide
    rejected: PreferenceSide
    chosen_ends: bool = True
    """Whether the model ended its answer there."""
    rejected_ends: bool = True
    margin: float | None = None
    """Reward of the chosen side over that of the other, where rewards are known."""
    run_id: str | None = None
    """The trace that it comes from, if any."""
    segment: int | None = None
    """Number of the segment in its trace, from 0."""


class SegmentPair(NamedTuple):
    """Two candidates for one segment.

    Attributes:
        segment: number of the segment, from 0.
        chosen: the accepted one.
        rejected: a rejected one.
    """

    segment: int
    chosen: Attempt
    rejected: Attempt

    @property
    def margin(self) -> float:
        """How much more reward the accepted one has."""
        return self.chosen.reward - self.rejected.reward


def segment_pairs(trace: Trace, limits: PairLimits) -> list[SegmentPair]:
    """The pairs of a trace, in the order of its segments and attempts.

    Segments that were forced or withdrawn have none, and none is taken from where the answer first has
    something that is not answer: reasoning and calls are written in marks that chat turns have no place for.

    Args:
        trace: of one answer, with the texts of its candidates.
        limits: which pairs are taken.

    Raises:
        ConfigurationError: the trace has no texts, and how to draw one that has.
    """
    _check_texts(trace)
    pairs = [pair for segment in _plain_segments(trace) for pair in _pairs_of(segment)]
    wanted = [pair for pair in pairs if pair.margin > 0 and pair.margin >= limits.min_margin]
    if limits.per_answer is None or len(wanted) <= limits.per_answer:
        return wanted
    order = sorted(range(len(wanted)), key=lambda number: -wanted[number].margin)
    return [wanted[number] for number in sorted(order[: limits.per_answer])]


def preference_rows(
    trace: Trace, prompt: Prompt, limits: PairLimits, form: PreferenceFormat = "conversational"
) -> list[PreferenceRow]:
    """The rows that a trace gives.

    Args:
        trace: of one answer, with the texts of its candidates.
        prompt: what it answers.
        limits: which pairs are taken.
        form: how prompts and answers are written.

    Raises:
        ConfigurationError: as :func:`segment_pairs`.
    """
    write = _WRITERS[form]
    return [
        PreferenceRow(
            prompt=write.prompt(prompt),
            chosen=write.answer(pair.chosen.text or ""),
            rejected=write.answer(pair.rejected.text or ""),
            chosen_ends=pair.chosen.finish is Finish.EOS,
            rejected_ends=pair.rejected.finish is Finish.EOS,
            margin=pair.margin,
            run_id=trace.run_id,
            segment=pair.segment,
        )
        for pair in segment_pairs(trace, limits)
    ]


def prompts_by_run(rows: Iterable[Row], answers: Iterable[RowResult] | None) -> dict[str, Prompt]:
    """The prompts of traces, by their run ids.

    Args:
        rows: what was asked.
        answers: what a batch wrote, which says which run answered which row; None: the ids of the rows are
            those of the runs.

    Raises:
        PromptError: a row asks for nothing.
    """
    by_id = {row.id: row for row in rows}
    if answers is None:
        return {name: row.as_prompt for name, row in by_id.items()}
    runs = {answer.run_id: by_id.get(answer.id) for answer in answers if answer.run_id}
    return {run_id: row.as_prompt for run_id, row in runs.items() if row is not None}


class ExportCount(Record):
    """What came of traces."""

    traces: int
    """Traces that were read."""
    unknown: int
    """Traces whose prompt is not there."""
    paired: int
    """Traces that gave at least one pair."""
    pairs: int


def export_rows(
    traces: Iterable[Trace],
    prompts: Mapping[str, Prompt],
    limits: PairLimits,
    form: PreferenceFormat = "conversational",
) -> tuple[list[PreferenceRow], ExportCount]:
    """The rows that traces give, each once, and how many gave some.

    Args:
        traces: of answers, with the texts of candidates.
        prompts: by run id.
        limits: which pairs of a trace are taken.
        form: how prompts and answers are written.

    Raises:
        ConfigurationError: a trace has no texts; or there is no pair at all, and why.
    """
    read = unknown = paired = 0
    rows: list[PreferenceRow] = []
    there: set[str] = set()
    for trace in traces:
        read += 1
        prompt = prompts.get(trace.run_id)
        if prompt is None:
            unknown += 1
            continue
        made = [row for row in preference_rows(trace, prompt, limits, form) if _is_new(row, there)]
        paired += bool(made)
        rows += made
    if not rows:
        raise ConfigurationError(
            f"no pair in {read} traces, {unknown} of them of runs whose prompt is not there: give the "
            "prompts and answers of the same batch, a lower margin, or answers of which something was "
            "rejected"
        )
    return rows, ExportCount(traces=read, unknown=unknown, paired=paired, pairs=len(rows))


def _is_new(row: PreferenceRow, there: set[str]) -> bool:
    """Whether no row before had the same sides; it counts as there from now on."""
    sides = repr((row.prompt, row.chosen, row.rejected))
    is_new = sides not in there
    there.add(sides)
    return is_new


class _Writer(NamedTuple):
    prompt: Callable[[Prompt], PreferenceSide]
    answer: Callable[[str], PreferenceSide]


def _turns(prompt: Prompt) -> PreferenceSide:
    return [dict(message) for message in prompt.as_messages()]


def _turn(text: str) -> PreferenceSide:
    return [{"role": "assistant", "content": text}]


_WRITERS: Mapping[PreferenceFormat, _Writer] = {
    "conversational": _Writer(_turns, _turn),
    "plain": _Writer(Prompt.as_text, str),
}


def _check_texts(trace: Trace) -> None:
    if not trace.config.keep_rejected_text:
        raise ConfigurationError(
            f"the trace of run {trace.run_id} has no texts of rejected candidates: draw the answers with "
            "keep_rejected_text in the settings of the guard, or --keep-rejected-text"
        )


def _plain_segments(trace: Trace) -> Iterator[SegmentTrace]:
    """The segments of an answer up to the first that holds something else, those withdrawn left out."""
    for segment in trace.segments:
        if segment.verdict is Verdict.WITHDRAWN or segment.chosen is None:
            continue
        if not _is_answer(segment.attempts[segment.chosen]):
            return
        yield segment


def _pairs_of(segment: SegmentTrace) -> Iterator[SegmentPair]:
    if segment.verdict is not Verdict.ACCEPTED or segment.chosen is None:
        return
    chosen = segment.attempts[segment.chosen]
    texts = {(chosen.text or "").strip()}
    for attempt in segment.attempts:
        text = (attempt.text or "").strip()
        # A text that was drawn several times is one opinion, and must not weigh as several.
        if not attempt.accepted and _is_answer(attempt) and text not in texts:
            texts.add(text)
            yield SegmentPair(segment.index, chosen, attempt)


def _is_answer(attempt: Attempt) -> bool:
    """Whether a candidate adds to the answer alone: where it adds to more, each has a score of its own."""
    others = {channel.value for channel in Channel} - {Channel.ANSWER.value}
    return attempt.channel is Channel.ANSWER and not others & attempt.components.keys()
