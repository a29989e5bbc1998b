"""Stop strings found in a growing text, each character looked at a bounded number of times.

All strings are one automaton (Aho and Corasick, "Efficient string matching", 1975), so the work is linear in
the text and in the strings together, however many they are and however they overlap.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

_ROOT = 0
_SHALLOW = 255
"""Characters of a text for which no shallower automaton is built."""


class StopStrings:
    """The automaton of some strings; one serves any number of texts.

    Args:
        stops: none of them empty.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._next: list[dict[str, int]] = [{}]
        self._back = [_ROOT]
        self._retreat = [_ROOT]
        self._longest = [0]
        self._begun = [0]
        self._add(dict.fromkeys(stops))
        self._link()

    def step(self, state: int, character: str) -> int:
        """The state after one more character."""
        while state and character not in self._next[state]:
            state = self._retreat[state]
        return self._next[state].get(character, _ROOT)

    def ends(self, state: int) -> int:
        """Length of the longest string that ends here; 0 if none does."""
        return self._longest[state]

    def begun(self, state: int) -> int:
        """Length of the longest ending of the text that is the beginning of a longer string."""
        return self._begun[state]

    def _add(self, stops: dict[str, None]) -> None:
        depths = self._begun
        for stop in stops:
            state = _ROOT
            for depth, character in enumerate(stop, start=1):
                following = self._next[state].setdefault(character, len(self._next))
                if following == len(self._next):
                    self._next.append({})
                    self._back.append(_ROOT)
                    self._retreat.append(_ROOT)
                    self._longest.append(0)
                    depths.append(depth)
                state = following
            self._longest[state] = len(stop)

    def _link(self) -> None:
        """Each state's longest ending that is a beginning, too; in order of depth."""
        level = list(self._next[_ROOT].values())
        while level:
            deeper = []
            for state in level:
                back = self._back[state]
                # One that goes on only as this one does is no better (Knuth, Morris and Pratt): without
                # that, a candidate that ends a long run of "aaa" would step back through all of it.
                same = self._next[back].keys() <= self._next[state].keys()
                self._retreat[state] = self._retreat[back] if same else back
                self._longest[state] = self._longest[state] or self._longest[back]
                for character, following in self._next[state].items():
                    self._back[following] = self.step(back, character)
                    deeper.append(following)
                if not self._next[state]:
                    self._begun[state] = self._begun[back]
            level = deeper


@lru_cache(maxsize=16)  # the answers to one request look for the same strings
def automaton(stops: tuple[str, ...], depth: int) -> StopStrings:
    """The automaton of these strings, for texts of fewer characters than ``depth``."""
    return StopStrings([stop[:depth] for stop in stops])


class StopSearch:
    """How far a growing text was searched, and what was found.

    Args:
        stops: what is looked for.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._depth = 0
        self._text = ""
        self._states: list[int] = []  # after each character, since a text may be taken back
        self._match: int | None = None

    def fork(self) -> StopSearch:
        """A search that goes on from here, apart from this one."""
        fork = StopSearch(self._stops)
        fork._text, fork._match, fork._depth = self._text, self._match, self._depth
        fork._states = self._states.copy()
        return fork

    def read(self, text: str) -> StopSearch:
        """Bring the search to ``text``, of which only what is new is looked at; returns itself."""
        if self._stops:
            self._take_back(_common(self._text, text))
            self._deepen(len(text))
            self._go_on(automaton(self._stops, self._depth), text[len(self._states) :])
        self._text = text
        return self

    @property
    def stopped(self) -> str | None:
        """The text before the first stop string in it, or None when it holds none."""
        return None if self._match is None else self._text[: self._match]

    @property
    def settled(self) -> str:
        """The text without the longest ending that might grow into a stop string."""
        if not self._states:
            return self._text
        begun = automaton(self._stops, self._depth).begun(self._states[-1])
        return self._text[: len(self._text) - begun]

    def _take_back(self, length: int) -> None:
        if length < len(self._states):
            del self._states[length:]
            if self._match is not None:
                self._match, self._states = None, []

    def _deepen(self, length: int) -> None:
        """Have an automaton for texts so long, and begin anew where it is another one."""
        # No deeper than the text may reach: what a huge stop string costs is bounded by the answer's length.
        depth = min(1 << max(length, _SHALLOW).bit_length(), 1 << max(map(len, self._stops)).bit_length())
        if depth > self._depth:
            self._depth, self._match, self._states = depth, None, []

    def _go_on(self, strings: StopStrings, new: str) -> None:
        state = self._states[-1] if self._states else _ROOT
        for place, character in enumerate(new, start=len(self._states) + 1):
            state = strings.step(state, character)
            self._states.append(state)
            if length := strings.ends(state):
                self._match = place - length if self._match is None else min(self._match, place - length)


def _common(before: str, after: str) -> int:
    """How many characters two texts begin with in common."""
    if after.startswith(before):
        return len(before)
    low, high = 0, min(len(before), len(after))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if before.startswith(after[:middle]) else (low, middle - 1)
    return low
