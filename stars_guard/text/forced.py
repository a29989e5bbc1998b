"""Which stretches of an answer were forced: accepted by the exhaustion policy, and not by the rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypeAlias

Span: TypeAlias = tuple[int, int]
"""Start and end of a stretch of text, in characters."""


def forced_spans(ends: Sequence[int], forced: Sequence[bool]) -> list[Span]:
    """Which stretches of a growing text were forced.

    Args:
        ends: length of the whole text after each segment.
        forced: whether each segment was.
    """
    borders = pairwise([0, *ends])
    return [span for span, is_forced in zip(borders, forced, strict=True) if is_forced]


def overlap(spans: Sequence[Span], start: int, end: int) -> list[Span]:
    """What the spans have in common with the stretch from ``start`` to ``end``."""
    common = [(max(low, start), min(high, end)) for low, high in spans]
    return [(low, high) for low, high in common if low < high]


def moved(spans: Sequence[Span], stretches: Sequence[tuple[int, str]], separator: str) -> list[Span]:
    """Spans of a whole answer, as those of a text that was joined from stretches of it.

    Args:
        spans: in characters of the whole answer.
        stretches: where each begins in the whole answer, and its text.
        separator: stands between two of them; it goes with the stretch that it stands before.
    """
    place, found = 0, []
    for number, (start, text) in enumerate(stretches):
        before = len(separator) if number else 0
        place += before
        for low, high in overlap(spans, start, start + len(text)):
            back = before if low == start else 0
            found.append((place + low - start - back, place + high - start))
        place += len(text)
    return found


def cut(text: str, start: int, spans: Sequence[Span]) -> Iterator[tuple[str, bool]]:
    """A text, cut where a span begins or ends; with each part, whether a span covers it.

    Args:
        text: what is cut.
        start: where it begins in the text that the spans are of.
        spans: apart from each other.
    """
    end = start + len(text)
    inside = overlap(spans, start, end)
    borders = sorted({start, end, *(border for span in inside for border in span)})
    for low, high in pairwise(borders):
        yield text[low - start : high - start], bool(overlap(inside, low, high))


def added(spans: list[Span], start: int, end: int) -> None:
    """Add a span after all others, as part of the last where the two touch."""
    if spans and spans[-1][1] == start:
        start = spans.pop()[0]
    spans.append((start, end))
