"""One answer by channels: what of a candidate must be judged, and what of accepted text may be shown.

Only text of a channel that was judged is shown: the answer and the reasoning piece by piece, a tool call
whole and only once its end was accepted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from stars_guard.prompts import Tools
from stars_guard.text.dialects import ChannelPart, Dialect, read_calls, readable_call, readable_json, split
from stars_guard.text.forced import Span, added, cut, moved, overlap
from stars_guard.text.release import Release
from stars_guard.text.stops import StopSearch
from stars_guard.text.stretches import stretches_of
from stars_guard.types import Candidate, Channel, InvalidToolCall, ToolCall

_SEPARATOR = "\n\n"
"""Stands between two stretches of one channel that other channels came between."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Text that may be shown; it follows everything shown before in its channel."""

    text: str
    channel: Channel = Channel.ANSWER
    forced: bool = False
    """Whether the exhaustion policy put it there, and not the rule; all of a piece or none of it."""


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
        self._call_prefix = call_prefix
        self._is_json = is_json
        self._accepted = ""
        self._accepted_views: dict[tuple[Channel, int], str] = {}
        self._releases = {Channel.ANSWER: Release(), Channel.REASONING: Release()}
        self._calls_seen = 0
        self._forced: Sequence[Span] = ()
        self.calls: list[ToolCall | InvalidToolCall] = []
        """Every call so far."""
        self.forced: dict[Channel, list[Span]] = {Channel.ANSWER: [], Channel.REASONING: []}
        """What was shown of forced text, in characters of the channel."""
        self.forced_calls: list[str] = []
        """Ids of the calls with forced text in them."""

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
        after = self._views(candidate.text, candidate.finished)
        completed = (Channel.ANSWER, 0) if candidate.finished else None
        changed = [
            view
            for key, view in after.items()
            if view.text.strip() != before.get(key, "") or (key == completed and view.text.strip())
        ]
        return changed or list(after.values())[-1:]

    def accept(self, text: str, settled: str | None = None, forced: Sequence[Span] = ()) -> list[Shown]:
        """The whole accepted text so far; what may be shown of it now.

        Args:
            text: shorter than before where segments were withdrawn.
            settled: what it begins with that cannot be withdrawn any more; None: all of it.
            forced: which stretches of the text were forced, in order.

        Raises:
            GenerationError: the text does not continue what was shown.
        """
        self._forced = forced
        until = text if settled is None else settled
        pieces = list(self._show(self._held_back.read(until).settled, ended=False, problem=None))
        self._accepted = text
        # Kept, since every candidate of the next segment is compared with it.
        self._accepted_views = {key: view.text.strip() for key, view in self._views(text, False).items()}
        return pieces

    def flush(self, problem: str | None) -> list[Shown]:
        """The answer is over: what was held back. ``problem`` says why it is not complete, if it is not."""
        return list(self._show(self._accepted, ended=True, problem=problem))

    def _parts(self, text: str) -> list[ChannelPart]:
        return split(text, self._dialect, tools=self._tools is not None)

    def _views(self, text: str, finished: bool) -> dict[tuple[Channel, int], View]:
        """The views of a whole text, in the order in which it last touched them; calls count from 1."""
        parts = self._parts(text)
        latest: dict[tuple[Channel, int], ChannelPart] = {}
        calls = 0
        for part in parts:
            calls += part.channel is Channel.TOOL
            key = (part.channel, calls if part.channel is Channel.TOOL else 0)
            if part.text.strip() or not (latest or part.closed):
                latest.pop(key, None)
                latest[key] = part
        views = {key: self._view(part, parts, finished) for key, part in latest.items()}
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
        for channel in (Channel.REASONING, Channel.ANSWER):
            yield from self._pieces(stretches_of(parts, channel), channel)
        calls = [part for part in parts if part.channel is Channel.TOOL]
        for part in calls[self._calls_seen :]:
            if part.closed or ended:
                self._calls_seen += 1
                forced = self._is_forced(part, text)
                for call in self._read(part.text, None if part.closed else problem):
                    self.calls.append(call)
                    self.forced_calls += [call.id] if forced else []
                    yield Called(call, forced)

    def _pieces(self, stretches: Sequence[tuple[int, str]], channel: Channel) -> Iterator[Piece]:
        """What is new of a channel, cut where forced text begins or ends."""
        release, forced = self._releases[channel], self.forced[channel]
        place = len(release.shown)
        new = release.show(_SEPARATOR.join(text for _, text in stretches))
        for text, is_forced in cut(new, place, moved(self._forced, stretches, _SEPARATOR)):
            if is_forced:
                added(forced, place, place + len(text))
            place += len(text)
            yield Piece(text, channel, is_forced)

    def _is_forced(self, part: ChannelPart, text: str) -> bool:
        """Whether any of a call in the whole text was forced; its marks make it a call, so they count."""
        opening, closing = self._dialect.call_open, self._dialect.call_close or ""
        start, end = part.start, part.start + len(part.text)
        start -= len(opening) if text.endswith(opening, 0, start) else 0
        return bool(overlap(self._forced, start, end + len(closing)))

    def _read(self, text: str, problem: str | None) -> list[ToolCall | InvalidToolCall]:
        try:
            calls = read_calls(self._dialect, text, self._tools, partial=problem is not None)
        except ValueError as error:
            return [self._invalid(None, text, problem or f"not a call: {error}", 0)]
        return [
            self._call(name, arguments, text, problem, number)
            for number, (name, arguments) in enumerate(calls)
        ]

    def _call(
        self, name: object, arguments: object, text: str, problem: str | None, number: int
    ) -> ToolCall | InvalidToolCall:
        known = isinstance(name, str) and self._tools is not None and name in self._tools.names
        error = problem or self._forbidden(number)
        if error is None and not known:
            # Not by repr(), whose escapes are not those that were judged.
            error = f"there is no tool '{name}'" if isinstance(name, str) else "there is no tool None"
        if error is None and not isinstance(arguments, dict):
            error = f"the arguments must be a JSON object, got {type(arguments).__name__}"
        if error is not None or not isinstance(arguments, dict):
            return self._invalid(name if isinstance(name, str) else None, text, str(error), number)
        return ToolCall(self._id(number), str(name), arguments)

    def _forbidden(self, number: int) -> str | None:
        tools = self._tools
        if tools is None or tools.choice == "none":
            return "the tool choice is none"
        if not tools.parallel and len(self.calls) + number > 0:
            return "only one call was allowed"
        return None

    def _invalid(self, name: str | None, text: str, error: str, number: int) -> InvalidToolCall:
        # Not as it was written: what readable_call leaves out was not judged.
        return InvalidToolCall(self._id(number), name, readable_call(self._dialect, text, self._tools), error)

    def _id(self, number: int) -> str:
        return f"{self._call_prefix}{len(self.calls) + number:02d}"
