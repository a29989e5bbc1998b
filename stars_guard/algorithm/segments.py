"""Where a segment ends. Each rule looks only at the prefix, never at a token drawn beyond the border.

That is what keeps the law exact: the decision to cut is a function of what is kept.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, TypeVar

from pydantic import Field, model_validator

from stars_guard.algorithm.kinds import any_kind
from stars_guard.settings import Settings

SENTENCE_MARKS = ".!?…。！？\n"
CLAUSE_MARKS = SENTENCE_MARKS + ",;:，；：、"
_CLOSERS = "\"')]}»”’*_ \t"
_ABBREVIATIONS = frozenset(
    ("mr", "mrs", "ms", "dr", "prof", "st", "vs", "etc", "e.g", "i.e", "cf", "fig", "jr", "sr")
)


class Segmenter(Settings):
    """A rule for cutting segments. Lengths are in tokens."""

    max_tokens: int = Field(default=32, ge=1)
    """Longest segment, in tokens."""

    @property
    def needs_entropy(self) -> bool:
        """Whether :meth:`ends_before` must be given the next-token entropy."""
        return False

    @property
    def needs_text(self) -> bool:
        """Whether :meth:`ends_after` must be given the segment's text."""
        return False

    def ends_before(self, tokens: int, entropy: float) -> bool:
        """Cut before drawing the next token? ``tokens`` >= 1 so far; ``entropy`` in nats."""
        return False

    def ends_after(self, tokens: int, text: str) -> bool:
        """Cut here? ``text`` is the answer so far, ``tokens`` the segment's length."""
        return tokens >= self.max_tokens


class FixedLength(Segmenter):
    """Every segment has ``max_tokens`` tokens; the last one may be shorter."""

    kind: Literal["fixed"] = "fixed"


class EntropyCut(Segmenter):
    """CARDS: cut before a token whose next-token entropy is at least ``threshold``.

    The entropy is that of the model's full distribution at temperature 1, before any truncation.
    """

    kind: Literal["entropy"] = "entropy"
    max_tokens: int = Field(default=64, ge=1)
    min_tokens: int = Field(default=4, ge=1)
    """Shortest segment, in tokens."""
    threshold: float = Field(default=3.0, ge=0)
    """Entropy in nats."""

    @model_validator(mode="after")
    def _ordered(self) -> EntropyCut:
        return _in_order(self)

    @property
    def needs_entropy(self) -> bool:
        """Entropy is what this rule cuts at."""
        return True

    def ends_before(self, tokens: int, entropy: float) -> bool:
        """At high uncertainty, once the segment is long enough."""
        return tokens >= self.min_tokens and entropy >= self.threshold


class Boundary(Segmenter):
    """Semantically complete units: cut after a token that ends a sentence (or a clause).

    A full stop inside a number ("3.") or after a common abbreviation ("Dr.") does not count.
    """

    kind: Literal["boundary"] = "boundary"
    max_tokens: int = Field(default=64, ge=1)
    min_tokens: int = Field(default=4, ge=1)
    """Shortest segment, in tokens."""
    marks: str = Field(default=SENTENCE_MARKS, min_length=1)
    """Characters that end a unit; ``CLAUSE_MARKS`` cuts at clauses."""

    @model_validator(mode="after")
    def _ordered(self) -> Boundary:
        return _in_order(self)

    @property
    def needs_text(self) -> bool:
        """Text is what this rule looks for marks in."""
        return True

    def ends_after(self, tokens: int, text: str) -> bool:
        """At the end of a unit, or at the maximum length."""
        if tokens >= self.max_tokens:
            return True
        return tokens >= self.min_tokens and self._complete(text)

    def _complete(self, text: str) -> bool:
        bare = text.rstrip(_CLOSERS)
        if not bare or bare[-1] not in self.marks:
            return False
        if bare[-1] != ".":
            return True
        last = bare[:-1].rsplit(None, 1)[-1:]
        word = last[0].lstrip("\"'([{") if last else ""
        return not word[-1:].isdigit() and word.lower() not in _ABBREVIATIONS


_Cut = TypeVar("_Cut", EntropyCut, Boundary)


def _in_order(cut: _Cut) -> _Cut:
    if cut.min_tokens > cut.max_tokens:
        raise ValueError(f"min_tokens={cut.min_tokens} is over max_tokens={cut.max_tokens}")
    return cut


_SEGMENTS = any_kind(
    "a number of tokens, or one of FixedLength, Boundary, EntropyCut ('fixed', 'boundary', 'entropy')",
    number=("fixed", "max_tokens"),
)

Segments: TypeAlias = Annotated[FixedLength | EntropyCut | Boundary, Field(discriminator="kind"), _SEGMENTS]
"""A rule for cutting segments, its name, or a number: segments of that many tokens."""
