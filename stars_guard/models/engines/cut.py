"""Where a candidate ends that an engine drew too long, or ended itself: by the rules of a local model."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence

from stars_guard.models.base import Order
from stars_guard.text.answer_stops import AnswerStops
from stars_guard.text.answer_text import AnswerText
from stars_guard.text.release import whole_characters
from stars_guard.types import Candidate, Finish

UNKNOWN_ID = -1
"""Stands for each token of a candidate whose engine gives text only."""


def cut_ids(
    ids: Sequence[int],
    order: Order,
    answer: AnswerText,
    ends: Collection[int],
    finish: Finish | None,
) -> Candidate:
    """The candidate that a local model would have made of these draws.

    Args:
        ids: what was drawn.
        order: for whom.
        answer: what was accepted.
        ends: ids that end an answer.
        finish: why the engine drew no more; None if it drew as many as it was asked for.
    """
    answer = answer.fork()
    ended = _first(len(ids), lambda n: ids[n - 1] in ends)
    # Nothing after an end is read, nor the end itself.
    read = list(ids) if ended is None else list(ids[: ended - 1])
    stopped = _stopped(read, answer)
    text_of = answer.complete if order.cut.needs_text else lambda ids: ""
    cut = _first(len(read), lambda n: order.cut.ends_after(n, text_of(read[:n])))
    length = min(end for end in (ended, stopped, cut, len(ids)) if end is not None)
    if length == ended:
        finish = Finish.EOS
    elif length == stopped:
        finish = Finish.STOP
    elif length == order.cut.max_tokens and order.ends_answer:
        finish = Finish.LENGTH
    elif length == cut:
        finish = None
    text, finish = answer.drawn(read[:length], finish)
    return Candidate(tuple(ids[:length]), text, finish)


def _first(most: int, ends: Callable[[int], bool]) -> int | None:
    """The least length, from 1 to ``most``, at which it ends."""
    return next((n for n in range(1, most + 1) if ends(n)), None)


def _stopped(ids: Sequence[int], answer: AnswerText) -> int | None:
    """The least length at which the answer holds a stop string."""

    def stops(length: int) -> bool:
        return answer.stopped(ids[:length], answer.complete(ids[:length])) is not None

    # A text that holds no stop string does not begin with one that does.
    if answer.stops.idle or not stops(len(ids)):
        return None
    return 1 + bisect_left(range(1, len(ids)), True, key=stops)


def cut_text(
    before: str, drawn: str, tokens: int, order: Order, stops: AnswerStops, finish: Finish | None
) -> Candidate:
    """The candidate that a local model would have made of a text, where only its number of tokens is known.

    Segments that end by their text are cut before a blank, or at the end, and their tokens are taken to be as
    long as each other. That looks one character ahead, which this guarantee does not rule out.

    Args:
        before: the accepted text.
        drawn: what was drawn after it, in ``tokens`` tokens.
        tokens: how many those are.
        order: for whom.
        stops: stop strings, looked for in the accepted text so far.
        finish: why the engine drew no more; None if it drew as many as it was asked for.
    """
    text = before + drawn
    end = _text_end(before, drawn, tokens, order)
    if end < len(drawn):
        finish = None
    elif finish is None and order.ends_answer:
        finish = Finish.LENGTH
    stopped = stops.fork().read(text, ended=finish is not None).stopped
    if stopped is not None and len(stopped) < len(before) + end:
        return Candidate((UNKNOWN_ID,) * tokens, stopped, Finish.STOP)
    if end < len(drawn):
        return Candidate((UNKNOWN_ID,) * _share(tokens, end, drawn), before + drawn[:end])
    return Candidate((UNKNOWN_ID,) * tokens, text if finish is Finish.EOS else whole_characters(text), finish)


def _text_end(before: str, drawn: str, tokens: int, order: Order) -> int:
    """How much of what was drawn belongs to the segment."""
    if not order.cut.needs_text:
        return len(drawn)
    blanks = (n for n in range(1, len(drawn)) if drawn[n].isspace())
    ends = (n for n in blanks if order.cut.ends_after(_share(tokens, n, drawn), before + drawn[:n]))
    return next(ends, len(drawn))


def _share(tokens: int, length: int, drawn: str) -> int:
    """Tokens of the first ``length`` characters, rounded up, but for one that the rest has."""
    return max(1, min(tokens - 1, math.ceil(tokens * length / len(drawn))))
