"""A veto by words or regular expressions: a hard constraint, also on text that is still being written.

The text is judged as if it ended here, finished or not. A vetoed word at the open end is therefore rejected
at once, even where it might have grown into a longer, harmless one. The mere beginning of a vetoed word is
accepted, since most text that begins like it goes on differently; the segment that would complete the word is
rejected and drawn again. So half of a vetoed word may be shown, but never the whole.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import groupby

from stars_guard.errors import ConfigurationError
from stars_guard.rewards.base import ScoreRequest
from stars_guard.types import Named, Reward

_INVISIBLE_RANGES = (
    *((0xAD, 0xAD), (0x34F, 0x34F), (0x61C, 0x61C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F)),
    *((0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F)),
    *((0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A)),
    (0xE0000, 0xE0FFF),
)
"""Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties.txt): zero-width characters and the like."""
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)
"""Thai, Lao, Burmese, Khmer, kana and Han: written without spaces, so that every character is a border."""
_INVISIBLE = {code: None for first, last in _INVISIBLE_RANGES for code in range(first, last + 1)}


class Veto(Named):
    """``good`` for a text that contains nothing vetoed, ``bad`` for one that does.

    Words are compared without regard to case, compatibility form (NFKC) or zero-width characters, and as
    whole words: runs of letters, digits and combining marks. ``poison`` vetoes ``Poison's`` and ``_POISON_``,
    not ``poisonous``. In scripts without spaces a word counts wherever it stands. An entry may hold several
    words; any white space between them matches. The module's text says what happens at the end of a segment.

    Patterns are searched in the text as NFKC without zero-width characters, case kept; use ``(?i)``. The open
    end counts as an end: write ``\\b`` after a word, since a pattern that waits for the character after it
    lets the word be shown. A pattern that backtracks without bound stalls the guard, and no deadline
    interrupts it: avoid nested repetition such as ``(a+)+``.

    Only the response is read, not the prompt. Exhaustion policy ``last`` shows a text whatever its reward. A
    stop string that begins inside a longer word may hold back the rest of that word.

    Args:
        words: words or phrases.
        patterns: regular expressions, as text or compiled.
        good: reward of a text without them; in a minimum, let it be over the other parts' rewards.
        bad: reward of a text with one. The default is so low that no soft rule with a ``beta`` up to 1000
            accepts it, and policy ``best`` does not force it.
        name: for traces.

    Raises:
        ConfigurationError: nothing to veto, an empty word, a broken pattern or one that matches the empty
            text, or ``bad`` not under ``good``.
    """

    def __init__(
        self,
        words: Iterable[str] = (),
        patterns: Iterable[str | re.Pattern[str]] = (),
        *,
        good: float = 1.0,
        bad: float = -1e6,
        name: str = "veto",
    ) -> None:
        if isinstance(words, str) or isinstance(patterns, str | re.Pattern):
            raise ConfigurationError("words and patterns are lists; put a single one into a list")
        if not (math.isfinite(good) and math.isfinite(bad) and bad < good):
            raise ConfigurationError(f"bad={bad}, good={good}: both must be finite, and bad under good")
        self.name = name
        self._good, self._bad = float(good), float(bad)
        self._entries: dict[str, list[list[str]]] = {}
        for word in words:
            entry = _checked_word(word)
            self._entries.setdefault(entry[0], []).append(entry)
        self._patterns = [_compiled(pattern) for pattern in patterns]
        if not self._entries and not self._patterns:
            raise ConfigurationError("there is nothing to veto; give words or patterns")

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """One :class:`Reward` per request: ``good`` or ``bad``."""
        return [Reward(self._bad if self._vetoed(request.response) else self._good) for request in requests]

    def release(self, run_id: str) -> None:
        """Does nothing: no answer is cached."""

    def _vetoed(self, response: str) -> bool:
        visible = unicodedata.normalize("NFKC", response.translate(_INVISIBLE))
        return any(pattern.search(visible) for pattern in self._patterns) or self._has_word(response)

    def _has_word(self, response: str) -> bool:
        tokens = _tokens(response)
        return any(
            tokens[place : place + len(entry)] == entry
            for place, token in enumerate(tokens)
            for entry in self._entries.get(token, ())
        )


def _folded(text: str) -> str:
    """For compatibility caseless matching (Unicode, D146), composed again and without what is invisible."""
    text = unicodedata.normalize("NFD", text.translate(_INVISIBLE)).casefold()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _tokens(text: str) -> list[str]:
    """Whole words, white space as one blank, and every other character by itself."""
    tokens: list[str] = []
    for kind, run in groupby(_folded(text), _kind):
        text = "".join(run)
        tokens += {"word": [text], "space": [" "]}.get(kind, list(text))
    return tokens


def _kind(character: str) -> str:
    if character.isspace():
        return "space"
    if _UNSPACED.match(character):
        return "single"
    in_word = character.isalnum() or unicodedata.category(character).startswith("M")
    return "word" if in_word else "single"


def _checked_word(word: object) -> list[str]:
    if not isinstance(word, str) or not (tokens := _tokens(word.translate(_INVISIBLE).strip())):
        raise ConfigurationError(f"the vetoed word {word!r} is empty or no text; remove it")
    return tokens


def _compiled(pattern: object) -> re.Pattern[str]:
    try:
        compiled = re.compile(pattern)  # type: ignore[call-overload]
        matches_nothing = compiled.search("") is not None
    except (re.error, TypeError) as error:
        raise ConfigurationError(f"pattern {pattern!r} is no regular expression for text: {error}") from error
    if matches_nothing:
        raise ConfigurationError(f"pattern {pattern!r} matches the empty text, so every answer; narrow it")
    checked: re.Pattern[str] = compiled
    return checked
