"""What may be shown of accepted text: whole characters, and never half of a stop string.

The pieces handed out, joined, equal the whole text, however the answer was cut into segments.
"""

from __future__ import annotations

from collections.abc import Sequence

from stars_guard.errors import GenerationError

REPLACEMENT = "\ufffd"
"""What decoders put where the bytes of a character are incomplete."""


def whole_characters(text: str) -> str:
    """The text without an unfinished character at its end."""
    return text.rstrip(REPLACEMENT)


def cut_at_stop(text: str, stops: Sequence[str]) -> str | None:
    """The text before the first stop string in it, or None when it holds none."""
    positions = [position for position in (text.find(stop) for stop in stops) if position >= 0]
    return text[: min(positions)] if positions else None


def without_partial_stop(text: str, stops: Sequence[str]) -> str:
    """The text without the longest ending that might grow into a stop string."""
    longest = max((_overlap(text, stop) for stop in stops), default=0)
    return text[: len(text) - longest]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest proper prefix of ``stop`` that ``text`` ends with."""
    return next((n for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n])), 0)


class Release:
    """Hands out a growing text piece by piece; the pieces, joined, equal the text."""

    def __init__(self) -> None:
        self.shown = ""
        """Everything handed out so far."""

    def show(self, text: str) -> str:
        """The whole text that may be shown; returns the piece that is new (maybe empty).

        Raises:
            GenerationError: the text does not continue what was shown, so the tokenizer is not
                prefix-stable and cannot be streamed.
        """
        if not text.startswith(self.shown):
            if self.shown.startswith(text):
                return ""
            raise GenerationError(
                "the tokenizer changed text that was already shown when more tokens followed; "
                "such a tokenizer cannot be streamed"
            )
        piece, self.shown = text[len(self.shown) :], text
        return piece
