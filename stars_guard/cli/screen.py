"""What a person sees: accepted text on stdout; decisions, summaries and notes on stderr."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stars_guard.algorithm.advice import Advice
from stars_guard.algorithm.config import GuardConfig
from stars_guard.algorithm.escalation import MODEL
from stars_guard.algorithm.rules import Soft
from stars_guard.algorithm.trace import Attempt, SegmentTrace, Trace, Verdict
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loop.events import Judged
from stars_guard.prompts import PromptLike
from stars_guard.report import outcome
from stars_guard.result import GuardedResult
from stars_guard.text.transcript import Piece, Shown
from stars_guard.types import Channel, StopReason

BAR = 6
"""Cells on each side of a bar's threshold mark."""

_HEADING = f"seg try    reward threshold  {'below':>{BAR}} {'above':<{BAR}}   prob  decision"
_STYLES = {
    "accepted": "green",
    "rejected": "red",
    "forced": "yellow",
    "withdrawn": "yellow",
    "backtracked": "bold yellow",
    "declined": "bold yellow",
    "refused": "bold red",
    "exhausted": "bold red",
}
# Model output must not be able to steer the terminal: control characters are shown as a mark.
_CONTROL = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)], "\N{REPLACEMENT CHARACTER}")
_USUAL_ENDS = (StopReason.EOS, StopReason.STOP, StopReason.LENGTH)


class Screen:
    """Writes one answer at a time.

    Args:
        config: the guard's settings, which give the bars their scale.
        show_text: write accepted text to stdout.
        show_trace: write every decision to stderr.
    """

    def __init__(self, config: GuardConfig, *, show_text: bool = True, show_trace: bool = False) -> None:
        self.notes = notes()
        self._config = config
        self._show_text = show_text
        self._show_trace = show_trace
        self._column_zero = True
        self._reasoning = False
        self._headed = False

    def event(self, event: Judged | Shown) -> None:
        """Accepted text and decisions; calls are in the result."""
        if isinstance(event, Judged):
            self.decision(event)
        elif isinstance(event, Piece):
            self.piece(event)

    def piece(self, piece: Piece) -> None:
        """Accepted text: the answer on stdout, reasoning on stderr, so that only the answer is piped on.

        Forced text is yellow where that is a terminal.
        """
        if not (self._show_text and piece.text):
            return
        if piece.channel is Channel.REASONING:
            style = "dim yellow" if piece.forced else "dim"
            self.notes.print(Text(visible(piece.text), style=style), end="", soft_wrap=True)
            self._reasoning = True
            return
        if self._reasoning:
            self.notes.print()
            self._reasoning = False
        text = visible(piece.text)
        plain = self.notes.no_color or not piece.forced
        typer.echo(text if plain else typer.style(text, fg=_STYLES["forced"]), nl=False)
        self._column_zero = piece.text.endswith("\n")

    def decision(self, judged: Judged) -> None:
        """A judged candidate."""
        if not self._show_trace:
            return
        # Where both streams share a terminal, a row must not begin in the middle of a line of text.
        if sys.stdout.isatty() and sys.stderr.isatty():
            self.end_line()
        if not self._headed:
            self._headed = True
            self._row(Text(_HEADING, style="dim"))
        self._row(decision_row(judged, self._config))

    def end_line(self) -> None:
        """Begin a new line of text unless one has just begun."""
        if not self._column_zero:
            typer.echo()
            self._column_zero = True

    def finish(self, result: GuardedResult) -> None:
        """One line on what the answer cost and why it ended."""
        self.end_line()
        self._row(summary(result))

    def _row(self, row: Text) -> None:
        self.notes.print(row, soft_wrap=True)


def notes() -> Console:
    """The console for everything that is not the answer itself: stderr."""
    return Console(stderr=True, highlight=False)


def show_advice(advice: Advice | None) -> None:
    """Say what an answer says about its settings, on stderr, if it says something."""
    if advice is not None:
        notes().print(f"advice: {advice.message}", style="yellow", markup=False, soft_wrap=True)


def show_answer(llm: StarsGuardedLLM, prompt: PromptLike, screen: Screen) -> GuardedResult:
    """Stream an answer to the screen. Ctrl-C ends it, with ``StopReason.CANCELLED``.

    Args:
        llm: who answers.
        prompt: what to answer.
        screen: where accepted text and decisions are shown.

    Raises:
        StarsGuardError: the request failed.
    """
    try:
        with llm.stream(prompt) as stream:
            try:
                for event in stream.events():
                    screen.event(event)
                return stream.result
            except KeyboardInterrupt:
                stream.close()
                for event in stream.events():  # what was accepted before the interruption
                    screen.event(event)
                return stream.result
    finally:
        screen.end_line()


def visible(text: str) -> str:
    """``text`` without control characters, line ends and tabs excepted."""
    return text.translate(_CONTROL)


def summary(result: GuardedResult) -> Text:
    """One line: tokens kept of those proposed, attempts, forced segments, stop reason, seconds."""
    usage, trace = result.usage, result.trace
    line = Text(style="dim")
    line.append(f"{usage.kept_tokens} of {usage.proposed_tokens} proposed tokens kept, ")
    line.append(f"{trace.attempts} attempts, ")
    line.append(f"{trace.forced} forced", style="not dim yellow" if trace.forced else "")
    line.append(", ended by ")
    line.append(result.stop_reason.value, style="" if result.stop_reason in _USUAL_ENDS else "not dim red")
    line.append(f", {usage.seconds.total:.1f} s")
    return line


def decision_row(judged: Judged, config: GuardConfig) -> Text:
    """One attempt as a line of fixed columns: where, reward against threshold, probability, decision."""
    attempt = judged.attempt
    label = "accepted" if attempt.accepted else "rejected"
    row = Text(f"{judged.segment + 1:>3} {attempt.index + 1:>3} ")
    row.append(f"{attempt.reward:>+9.3f} {attempt.threshold:>+9.3f}  ")
    row.append_text(bar(attempt, bar_scale(config)))
    row.append(f"  {attempt.probability:>5.3f}  ")
    row.append(label, style=_STYLES[label])
    if attempt.channel is not Channel.ANSWER:
        row.append(f" ({attempt.channel})", style="dim")
    if attempt.proposal != MODEL:
        row.append(f" ({attempt.proposal})", style="dim")
    if judged.verdict not in (Verdict.OPEN, Verdict.ACCEPTED):
        row.append(f", {_ending(judged)}", style=_STYLES[judged.verdict.value])
    return row


def bar(attempt: Attempt, scale: float) -> Text:
    """The reward's distance from its threshold, to either side of a mark."""
    distance = attempt.reward - attempt.threshold
    cells = min(BAR, round(abs(distance) / scale * BAR))
    filled = Text("█" * cells, style="green" if attempt.accepted else "red")
    empty = "·" * (BAR - cells)
    if distance < 0:
        return Text.assemble((empty, "dim"), filled, "│", ("·" * BAR, "dim"))
    return Text.assemble(("·" * BAR, "dim"), "│", filled, (empty, "dim"))


def bar_scale(config: GuardConfig) -> float:
    """The distance, in reward units, that fills one side of a bar: five beta, like the default floor."""
    if isinstance(config.acceptance, Soft):
        return 5 * config.acceptance.beta
    return max(1.0, abs(config.threshold.target))


def trace_table(trace: Trace) -> Table:
    """Every decision of an answer."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    for heading in ("segment", "try", "tokens", "reward", "threshold", "probability"):
        table.add_column(heading, justify="right")
    table.add_column("", no_wrap=True)
    table.add_column("decision")
    for segment in trace.segments:
        for attempt in segment.attempts:
            _add_attempt(table, segment, attempt, bar_scale(trace.config))
    return table


def _add_attempt(table: Table, segment: SegmentTrace, attempt: Attempt, scale: float) -> None:
    label, usual = outcome(segment, attempt), attempt.proposal == MODEL
    table.add_row(
        str(segment.index + 1),
        str(attempt.index + 1),
        str(attempt.tokens),
        f"{attempt.reward:+.3f}",
        f"{attempt.threshold:+.3f}",
        f"{attempt.probability:.3f}",
        bar(attempt, scale),
        Text(label, style=_STYLES[label]).append("" if usual else f" ({attempt.proposal})", style="dim"),
    )


def _ending(judged: Judged) -> str:
    if judged.verdict is Verdict.FORCED:
        return f"attempt {(judged.chosen or 0) + 1} forced"
    endings = {
        Verdict.REFUSED: "answer refused",
        Verdict.DECLINED: "writing a refusal",
        Verdict.BACKTRACKED: "going back",
    }
    return endings.get(judged.verdict, "no attempts left")
