"""One answer by channels: what of a candidate must be judged, and what of accepted text may be shown.

Only text of a channel that was judged is shown: the answer and the reasoning piece by piece, a tool call
whole and only once its end was accepted. What looks like a call and makes none is judged both ways, as a call
and as what it is then: text of the answer.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from stars_guard.prompts import Tools
from stars_guard.text.calls import CallReader
from stars_guard.text.dialects import ChannelPart, Dialect, readable_call, readable_json, split
from stars_guard.text.forced import Span, added, cut, moved, overlap
from stars_guard.text.release import Release
from stars_guard.text.stops import StopSearch
from stars_guard.text.stretches import stretches_of
from stars_guard.types import Candidate, Channel, Finish, InvalidToolCall, ToolCall

_SEPARATOR = "\n\n"
"""Stands between two stretches of one channel that other channels came between."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that may be shown; it follows everything shown before in its channel."""

    text: str
    channel: Channel = Channel.ANSWER
    forced: bool = False
    """Whether the exhaustion policy put it there, and not the rule; all of a piece or none of it."""
    refusal: bool = False
    """Whether it is of the refusal with which the answer ends; all of a piece or none of it."""


@dataclass(frozen=True, slots=True)
class Called:
    """The answer makes a tool call; all of it was accepted."""

    call: ToolCall | InvalidToolCall
    forced: bool = False
    """Whether the exhaustion policy put any of it there, its marks included."""


Shown: TypeAlias = Piece | Called


@dataclass(frozen=True, slots=True)
class View:
    """What a reward model is to judge of a candidate.

    Attributes:
        channel: whose text it is.
        text: all of that channel (of a tool call: that call), candidate included.
        finished: whether it is complete.
    """

    channel: Channel
    text: str
    finished: bool


class Transcript:
    """The accepted text of one answer, and what was shown of it.

    Args:
        dialect: how the model marks channels.
        tools: what the answer may call, if anything.
        stops: stop strings.
        call_prefix: seven letters or digits that begin the id of each call.
        is_json: whether the answer is JSON, to be judged by what it says.
    """

    def __init__(
        self,
        dialect: Dialect,
        tools: Tools | None,
        stops: Sequence[str],
        call_prefix: str,
        *,
        is_json: bool = False,
    ) -> None:
        self._dialect = dialect
        self._tools = tools
        self._held_back = StopSearch((*stops, *dialect.marks(tools=tools is not None)))
        self._reader = CallReader(dialect, tools, call_prefix)
        self._is_json = is_json
        self._accepted = ""
        self._ended = False
        self._accepted_views: dict[tuple[Channel, int], str] = {}
        self._releases = {Channel.ANSWER: Release(), Channel.REASONING: Release()}
        self._calls_seen = 0
        self._forced: Sequence[Span] = ()
        self.forced: dict[Channel, list[Span]] = {Channel.ANSWER: [], Channel.REASONING: []}
        """What was shown of forced text, in characters of the channel."""
        self._refusal: Sequence[Span] = ()
        self.refusal_from: int | None = None
        """Where in what was shown of the answer a refusal began that the model writes, if any was shown."""
        self.forced_calls: list[str] = []
        """Ids of the calls with forced text in them."""

    @property
    def calls(self) -> list[ToolCall | InvalidToolCall]:
        """Every call so far."""
        return self._reader.calls

    @property
    def text(self) -> str:
        """What was shown of the answer."""
        return self._releases[Channel.ANSWER].shown

    @property
    def reasoning(self) -> str:
        """What was shown of the reasoning."""
        return self._releases[Channel.REASONING].shown

    def views(self, candidate: Candidate) -> list[View]:
        """What a candidate adds to, one view per channel and call; if it adds nothing, the last touched.

        One that completes the answer adds to what is told the user: a call at its end must not spare the text
        before it from being judged as a whole.
        """
        before = self._accepted_views
        after = self._views(candidate.text, candidate.finish)
        completed = (Channel.ANSWER, 0) if candidate.finished else None
        changed = [
            view
            for key, view in after.items()
            if view.text.strip() != before.get(key, "") or (key == completed and view.text.strip())
        ]
        return changed or list(after.values())[-1:]

    def accept(
        self,
        text: str,
        settled: str | None = None,
        forced: Sequence[Span] = (),
        *,
        ended: bool = False,
    ) -> list[Shown]:
        """The whole accepted text so far; what may be shown of it now.

        Args:
            text: shorter than before where segments were withdrawn.
            settled: what it begins with that cannot be withdrawn any more; None: all of it.
            forced: which stretches of the text were forced, in order.
            ended: whether it was judged as the text of an answer that goes on no more.

        Raises:
            GenerationError: the text does not continue what was shown.
        """
        self._forced = forced
        until = text if settled is None else settled
        settled_text = self._held_back.read(until).settled
        if self._dialect.bare and self._tools and not settled_text.strip():
            settled_text = ""  # blanks that begin an answer may belong to a call
        pieces = list(self._show(settled_text, ended=False, problem=None))
        self._accepted, self._ended = text, ended
        # Kept, since every candidate of the next segment is compared with it.
        self._accepted_views = {key: view.text.strip() for key, view in self._views(text).items()}
        return pieces

    def refuses_from_here(self) -> None:
        """What follows the accepted text is a refusal."""
        self._refusal = [(len(self._accepted), sys.maxsize)]

    def flush(self, problem: str | None) -> list[Shown]:
        """The answer is over: what was held back. ``problem`` says why it is not complete, if it is not."""
        return list(self._show(self._accepted, ended=True, problem=problem))

    def _parts(self, text: str) -> list[ChannelPart]:
        return split(text, self._dialect, tools=self._tools is not None)

    def _told(
        self, parts: Sequence[ChannelPart], text: str, *, ended: bool, cut_off: bool
    ) -> list[ChannelPart]:
        """The parts by what they turned out to be: what looks like a call and makes none is answer.

        Args:
            parts: of the text, by its marks.
            text: the whole answer so far.
            ended: whether it goes on no more.
            cut_off: whether it would have gone on, so that a call without an end is none.
        """
        told: list[ChannelPart] = []
        for number, part in enumerate(parts):
            if part.channel is Channel.TOOL and (part.closed or ended) and self._is_text(part, cut_off):
                start, end = _with_marks(parts, number)
                part = ChannelPart(Channel.ANSWER, text[start:end], part.closed, start)
            if told and part.channel is told[-1].channel is Channel.ANSWER and told[-1].end == part.start:
                before = told.pop()
                part = ChannelPart(Channel.ANSWER, before.text + part.text, part.closed, before.start)
            told.append(part)
        return told

    def _is_text(self, part: ChannelPart, cut_off: bool) -> bool:
        return (cut_off and not part.closed) or not self._reader.is_call(part.text)

    def _views(self, text: str, finish: Finish | None = None) -> dict[tuple[Channel, int], View]:
        """The views of a whole text, in the order in which it last touched them; calls count from 1."""
        parts = self._parts(text)
        finished = finish in (Finish.EOS, Finish.STOP)
        told = self._told(parts, text, ended=finish is not None, cut_off=finish is Finish.LENGTH)
        written = [part for part in parts if part.channel is Channel.TOOL]
        spoken = [part for part in told if part.channel is not Channel.TOOL]
        latest: dict[tuple[Channel, int], ChannelPart] = {}
        calls = 0
        for part in sorted([*written, *spoken], key=lambda part: part.end):
            calls += part.channel is Channel.TOOL
            key = (part.channel, calls if part.channel is Channel.TOOL else 0)
            if part.text.strip() or not (latest or part.closed):
                latest.pop(key, None)
                latest[key] = part
        views = {key: self._view(part, told, finished) for key, part in latest.items()}
        return views or {(Channel.ANSWER, 0): View(Channel.ANSWER, "", finished)}

    def _view(self, part: ChannelPart, parts: Sequence[ChannelPart], finished: bool) -> View:
        if part.channel is Channel.TOOL:
            words = readable_call(self._dialect, part.text, self._tools)
            return View(part.channel, words, finished or part.closed)
        done = finished or (part.closed and part.channel is Channel.REASONING)
        text = self._joined(parts, part.channel)
        as_json = self._is_json and part.channel is Channel.ANSWER
        return View(part.channel, readable_json(text) if as_json else text, done)

    def _joined(self, parts: Sequence[ChannelPart], channel: Channel) -> str:
        """All text of a channel."""
        return _SEPARATOR.join(text for _, text in stretches_of(parts, channel))

    def _show(self, text: str, *, ended: bool, problem: str | None) -> Iterator[Shown]:
        parts = self._parts(text)
        # What was judged as a call only, and not as the end of an answer, is not shown as text.
        judged = ended and (problem is None or self._ended)
        told = self._told(parts, text, ended=judged, cut_off=problem is not None)
        for channel in (Channel.REASONING, Channel.ANSWER):
            yield from self._pieces(stretches_of(told, channel), channel)
        calls = [number for number, part in enumerate(parts) if part.channel is Channel.TOOL]
        for number in calls[self._calls_seen :]:
            if parts[number].closed or ended:
                self._calls_seen += 1
                yield from self._called(parts, number, None if parts[number].closed else problem)

    def _called(self, parts: Sequence[ChannelPart], number: int, problem: str | None) -> Iterator[Called]:
        text = parts[number].text
        start, end = _with_marks(parts, number)
        # Without a mark it is no attempt at a call, but an answer in JSON.
        if start == parts[number].start and not self._reader.is_call(text):
            return
        forced = bool(overlap(self._forced, start, end))
        for call in self._reader.read(text, problem):
            self.forced_calls += [call.id] if forced else []
            yield Called(call, forced)

    def _pieces(self, stretches: Sequence[tuple[int, str]], channel: Channel) -> Iterator[Piece]:
        """What is new of a channel, cut where forced text begins or ends, and where a refusal begins."""
        release, forced = self._releases[channel], self.forced[channel]
        place = len(release.shown)
        new = release.show(_SEPARATOR.join(text for _, text in stretches))
        refusal = moved(self._refusal, stretches, _SEPARATOR) if channel is Channel.ANSWER else []
        for stretch, is_forced in cut(new, place, moved(self._forced, stretches, _SEPARATOR)):
            if is_forced:
                added(forced, place, place + len(stretch))
            for text, is_refusal in cut(stretch, place, refusal):
                if is_refusal and self.refusal_from is None:
                    self.refusal_from = place
                place += len(text)
                yield Piece(text, channel, is_forced, is_refusal)


def _with_marks(parts: Sequence[ChannelPart], number: int) -> tuple[int, int]:
    """Where a call begins and ends in the whole answer, its marks included."""
    start = parts[number - 1].end if number else 0
    following = parts[number + 1] if number + 1 < len(parts) else None
    closed = following is not None and following.channel is Channel.ANSWER
    return start, following.start if closed and following else parts[number].end
