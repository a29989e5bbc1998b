"""What may be shown of accepted text: whole characters, and what follows what was shown.

The pieces handed out, joined, equal the whole text, however the answer was cut into segments.
"""

from __future__ import annotations

from stars_guard.errors import GenerationError

REPLACEMENT = "\ufffd"
"""What decoders put where the bytes of a character are incomplete."""


def whole_characters(text: str) -> str:
    """The text without an unfinished character at its end."""
    return text.rstrip(REPLACEMENT)


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
