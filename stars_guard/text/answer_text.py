"""The text of one answer in the making: of its ids, up to where a stop string ends it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from stars_guard.text.answer_stops import AnswerStops
from stars_guard.text.decoding import AnswerDecoder
from stars_guard.text.dialects import PLAIN, Dialect
from stars_guard.types import Finish


class _Inserted(NamedTuple):
    """A special token that the text leaves out."""

    place: int
    """Where in the text it stood."""
    name: str
    """How it is spelled."""


class AnswerText:
    """What was accepted of an answer, as text, and what some more ids would make of it.

    A special token that the text leaves out is looked at as it is spelled where a stop string names it.

    Args:
        decode: ids of an answer to text.
        stops: stop strings.
        dialect: how the answer marks channels.
        tools: whether it may call tools.
    """

    def __init__(
        self,
        decode: AnswerDecoder,
        stops: Sequence[str] = (),
        dialect: Dialect = PLAIN,
        *,
        tools: bool = False,
    ) -> None:
        self._decode = decode
        hidden = decode.hidden if stops else {}
        self._named = {token: name for token, name in hidden.items() if any(name in stop for stop in stops)}
        self._inserted: list[_Inserted] = []
        self.stops = AnswerStops(stops, dialect, tools=tools)
        self.token_ids: list[int] = []
        self.text = ""
        """What was accepted."""

    def fork(self) -> AnswerText:
        """A copy that goes on apart from this one."""
        fork = AnswerText(self._decode)
        fork._named, fork._inserted = self._named, self._inserted.copy()
        fork.stops, fork.token_ids, fork.text = self.stops.fork(), self.token_ids.copy(), self.text
        return fork

    def accept(self, ids: Sequence[int], text: str) -> None:
        """Go on from these ids, with which the answer is ``text``."""
        self._inserted = self._with_named(ids)
        self.token_ids.extend(ids)
        self.text = text
        self.stops.read(_spelled(text, self._inserted))

    def complete(self, ids: Sequence[int]) -> str:
        """Every complete character of the answer with these ids."""
        text = self._decode([*self.token_ids, *ids])
        return text if text.startswith(self.text) else self.text + self._going_on()(ids)

    def stopped(self, ids: Sequence[int], text: str, *, ended: bool = False) -> str | None:
        """The answer before the first stop string in it, or None when it holds none.

        Args:
            ids: drawn after the accepted ones.
            text: of the answer with them.
            ended: whether nothing more will follow.
        """
        if self.stops.idle:
            return None
        inserted = self._with_named(ids)
        before = self.stops.read(_spelled(text, inserted), ended=ended).stopped
        return None if before is None else text[: _place(len(before), inserted)]

    def drawn(self, ids: Sequence[int], finish: Finish | None) -> tuple[str, Finish | None]:
        """The text of a candidate, and why it ends the answer.

        Args:
            ids: drawn after the accepted ones, without a token that is only an end.
            finish: why no more was drawn; a stop string may be seen only now that nothing follows.
        """
        if finish is None:
            return self._open(ids), None
        text = self._ended(ids) if finish is Finish.EOS else self.complete(ids)
        stopped = self.stopped(ids, text, ended=finish is not Finish.STOP)
        return (text, finish) if stopped is None else (stopped, Finish.STOP)

    def _ended(self, ids: Sequence[int]) -> str:
        """The answer that ends here, replacement characters for half a character included."""
        text = self._decode.ended([*self.token_ids, *ids])
        return text if text.startswith(self.text) else self.text + self._going_on().ended(ids)

    def _going_on(self) -> AnswerDecoder:
        """What reads ids where the decoder rewrites text that was accepted, which stays as it is."""
        return self._decode.after(self.token_ids)

    def _open(self, ids: Sequence[int]) -> str:
        """The answer as it goes on, up to a special token with which a stop string may have begun."""
        text = self.complete(ids)
        inserted = self._with_named(ids)
        if not inserted:
            return text
        settled = self.stops.read(_spelled(text, inserted)).settled
        begun = _place(len(settled), inserted)
        # Without such a token in it, what may grow into a stop string is held back where text is shown.
        return text[:begun] if any(place >= begun for place, _ in inserted) else text

    def _with_named(self, ids: Sequence[int]) -> list[_Inserted]:
        """The special tokens that stop strings name, in the answer with these ids."""
        places = [place for place, token in enumerate(ids) if token in self._named]
        return self._inserted + [
            _Inserted(len(self.complete(ids[:place])), self._named[ids[place]]) for place in places
        ]


def _spelled(text: str, inserted: Sequence[_Inserted]) -> str:
    """The text with special tokens where they stood."""
    start, pieces = 0, []
    for place, name in inserted:
        pieces += [text[start:place], name]
        start = place
    return "".join([*pieces, text[start:]])


def _place(spelled: int, inserted: Sequence[_Inserted]) -> int:
    """Which place in the text is that place in the text with special tokens."""
    longer = 0
    for place, name in inserted:
        longer += min(len(name), max(0, spelled - place - longer))
    return spelled - longer
