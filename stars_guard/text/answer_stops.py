"""Stop strings in what an answer says to the user: not in its reasoning, its calls, or their marks."""

from __future__ import annotations

from collections.abc import Sequence

from stars_guard.text.dialects import PLAIN, Dialect, split
from stars_guard.text.stops import StopSearch
from stars_guard.text.stretches import stretches_of
from stars_guard.types import Channel


class AnswerStops:
    """How far a growing answer was searched, and where it stops.

    Args:
        stops: what is looked for.
        dialect: how the answer marks channels.
        tools: whether it may call tools.
    """

    def __init__(self, stops: Sequence[str], dialect: Dialect = PLAIN, *, tools: bool = False) -> None:
        self._stops = tuple(stops)
        self._dialect = dialect
        self._tools = tools
        self._marks = StopSearch(dialect.marks(tools=tools))
        self._searches: list[StopSearch] = []
        self._text = ""
        self._match: int | None = None
        self._settled = 0

    def fork(self) -> AnswerStops:
        """A search that goes on from here, apart from this one."""
        fork = AnswerStops(self._stops, self._dialect, tools=self._tools)
        fork._marks = self._marks.fork()
        fork._searches = [search.fork() for search in self._searches]
        fork._text, fork._match, fork._settled = self._text, self._match, self._settled
        return fork

    def read(self, text: str, *, ended: bool = False) -> AnswerStops:
        """Bring the search to the whole answer so far; returns itself.

        Args:
            text: that answer, marks included.
            ended: whether nothing more will follow, which might have made a mark of its end.
        """
        self._text, self._match, self._settled = text, None, len(text)
        if self._may_become_a_call(text) and not ended:
            self._settled = 0
        elif not self.idle:
            self._search(text, ended)
        return self

    def _may_become_a_call(self, text: str) -> bool:
        """Whether the answer is blank so far, and a call needs no mark; blanks before it say nothing."""
        return self._tools and bool(self._dialect.bare) and not text.strip()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to look for."""
        return not self._stops

    @property
    def stopped(self) -> str | None:
        """The answer before the first stop string in it, or None when it holds none."""
        return None if self._match is None else self._text[: self._match]

    @property
    def settled(self) -> str:
        """The answer without an ending that might grow into a stop string."""
        return self._text[: self._settled]

    def _search(self, text: str, ended: bool) -> None:
        parts = split(text, self._dialect, tools=self._tools)
        goes_on = not ended and parts[-1].channel is Channel.ANSWER
        for number, (start, stretch) in enumerate(stretches_of(parts, Channel.ANSWER)):
            is_open = goes_on and start >= parts[-1].start
            if number == len(self._searches):
                self._searches.append(StopSearch(self._stops))
            # What follows may make a mark of the end of an open one.
            search = self._searches[number].read(self._marks.read(stretch).settled if is_open else stretch)
            if search.stopped is not None:
                self._match = start + len(search.stopped)
                return
            if is_open:
                self._settled = start + len(search.settled)
