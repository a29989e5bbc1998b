"""Token ids to text of which no character is taken back when more ids follow.

A decoder has the last word on its tokens but in two points. One that falls back to bytes gives up on a whole
run of them for one that is invalid, shown characters included, so invalid bytes are taken out before it sees
the run. And the bytes of a character whose end is missing wait. The streaming decoder of the ``tokenizers``
library (0.23) does neither: it raises where such a run ends, and keeps valid characters behind an invalid
byte to itself.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from stars_guard.text.release import REPLACEMENT, whole_characters

Decode: TypeAlias = Callable[[Sequence[int]], str]
"""Ids to text, as a tokenizer has it."""
_LONGEST = 3
"""Most bytes of a character whose end is missing."""
PRINTED = range(ord("!"), ord("~") + 1)
"""Bytes that are characters with ink."""
_NEAR = 8
"""Last tokens of a prompt among which one is looked for that stands for itself."""


class Decoded(NamedTuple):
    """The text of some ids."""

    complete: str
    """Every complete character."""
    unfinished: str
    """What stands for the bytes of a character whose end is missing, should the answer end here."""


class Reading(Protocol):
    """How the tokens of one vocabulary are read."""

    def read(self, ids: Sequence[int]) -> Decoded:
        """The text of ids with which a text begins."""

    def anchor(self, before: Sequence[int]) -> Sequence[int]:
        """Ids that stand for ``before``, so that what follows is not read as the beginning of a text."""


class Opaque:
    """Tokens of which only the text is known.

    Args:
        decode: of the tokenizer.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode

    def read(self, ids: Sequence[int]) -> Decoded:
        """Replacement characters at the end are taken for a character whose end is missing."""
        text = self._decode(ids)
        complete = whole_characters(text)
        return Decoded(complete, text[len(complete) :])

    def anchor(self, before: Sequence[int]) -> Sequence[int]:
        """The last token, or one near it where that is part of a character."""
        whole = (token for token in reversed(before[-_NEAR:]) if REPLACEMENT not in self._decode([token]))
        return [token for token in [next(whole, None)] if token is not None]


class Remote(Opaque):
    """Tokens that a server decodes, which may fall back to bytes."""

    def read(self, ids: Sequence[int]) -> Decoded:
        """Where a text ends in half a character, the whole run of bytes before it may be gone."""
        text = self._decode(ids)
        best, missing = whole_characters(text), 0
        for length in range(len(ids) - 1, max(-1, len(ids) - 1 - _LONGEST), -1):
            if best == text or missing:
                break
            shorter = self._decode(ids[:length])
            if len(shorter) > len(best) and not shorter.endswith(REPLACEMENT):
                best, missing = shorter, len(ids) - length
        rest = text[len(best) :] if text.startswith(best) else REPLACEMENT * missing
        return Decoded(best, rest)


class ByteLevel:
    """Tokens that are bytes throughout.

    Args:
        decode: of the tokenizer.
        token_bytes: bytes of a token.
    """

    def __init__(self, decode: Decode, token_bytes: Callable[[int], bytes]) -> None:
        self._decode = decode
        self._token_bytes = token_bytes

    def read(self, ids: Sequence[int]) -> Decoded:
        """One replacement character stands for a character whose end is missing."""
        text = self._decode(ids)
        last = b"".join(map(self._token_bytes, ids[-_LONGEST:])) if text.endswith(REPLACEMENT) else b""
        return Decoded(text[:-1], REPLACEMENT) if unfinished(last) else Decoded(text, "")

    def anchor(self, before: Sequence[int]) -> Sequence[int]:
        """None: such tokens are read alike everywhere."""
        return ()


class ByteFallback:
    """Tokens some of which are single bytes, for characters that no other token has.

    Args:
        decode: of the tokenizer.
        values: byte of each such token; one of them at least is printed.
    """

    def __init__(self, decode: Decode, values: Mapping[int, int]) -> None:
        self._decode = decode
        self._values = values
        self._letter = next(token for token, value in values.items() if value in PRINTED)

    def read(self, ids: Sequence[int]) -> Decoded:
        """One replacement character stands for each byte that is part of no character."""
        missing = unfinished(bytes(self._last_bytes(ids)))
        complete = len(ids) - missing
        text, start = "", 0
        for place in self._invalid(ids[:complete]):
            text += self._stretch(ids, start, place) + REPLACEMENT
            start = place + 1
        return Decoded(text + self._stretch(ids, start, complete), REPLACEMENT * missing)

    def anchor(self, before: Sequence[int]) -> Sequence[int]:
        """A letter: the last token may be a byte that makes others invalid."""
        return [self._letter] if before else ()

    def _stretch(self, ids: Sequence[int], start: int, end: int) -> str:
        """The text of a stretch without invalid bytes."""
        if not start:
            return self._decode(ids[:end])
        return self._decode([self._letter, *ids[start:end]])[1:] if start < end else ""

    def _last_bytes(self, ids: Sequence[int]) -> list[int]:
        values: list[int] = []
        for token in reversed(ids[-_LONGEST:]):
            if token not in self._values:
                break
            values.insert(0, self._values[token])
        return values

    def _invalid(self, ids: Sequence[int]) -> Iterator[int]:
        """The places of bytes that are part of no character."""
        start = 0
        for place, token in enumerate([*ids, None]):
            if token not in self._values:
                run = bytes(self._values[byte] for byte in ids[start:place])
                yield from (start + invalid for invalid in _invalid_bytes(run))
                start = place + 1


class AnswerDecoder:
    """Ids of an answer to text.

    Args:
        reading: how tokens are read.
        hidden: how special tokens are spelled that are left out.
        anchor: ids before the answer that keep its beginning from being read as that of a text.
    """

    def __init__(
        self, reading: Reading, hidden: Mapping[int, str] | None = None, anchor: Sequence[int] = ()
    ) -> None:
        self._reading = reading
        self.hidden = hidden or {}
        self._anchor = list(anchor)
        self._before = reading.read(anchor).complete if anchor else ""

    def __call__(self, ids: Sequence[int]) -> str:
        """Every complete character."""
        return self._read(ids).complete

    def ended(self, ids: Sequence[int]) -> str:
        """The text of an answer that ends here, replacement characters for half a character included."""
        return "".join(self._read(ids))

    def after(self, before: Sequence[int]) -> AnswerDecoder:
        """A decoder of what goes on after these ids, mid-sentence."""
        return AnswerDecoder(self._reading, self.hidden, self._reading.anchor(self._visible(before)))

    def _read(self, ids: Sequence[int]) -> Decoded:
        visible = self._visible(ids)
        if not visible:
            return Decoded("", "")
        complete, rest = self._reading.read([*self._anchor, *visible])
        if not complete.startswith(self._before):  # the answer's beginning rewrites what it follows
            return self._reading.read(visible)
        return Decoded(complete[len(self._before) :], rest)

    def _visible(self, ids: Sequence[int]) -> Sequence[int]:
        return [token for token in ids if token not in self.hidden] if self.hidden else ids


def unfinished(text: bytes) -> int:
    """How many bytes at the end of UTF-8 begin a character whose end is missing."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(text)
    return len(decoder.getstate()[0])


def _invalid_bytes(text: bytes) -> Iterator[int]:
    """The places of bytes that are part of no character."""
    start = 0
    while start < len(text):
        try:
            text[start:].decode()
        except UnicodeDecodeError as error:
            yield from range(start + error.start, start + error.end)
            start += error.end
        else:
            return
