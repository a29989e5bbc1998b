"""Where a candidate ends that an engine drew too long, or ended itself: by the rules of a local model."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from stars_guard.models.base import Order
from stars_guard.text import cut_at_stop, whole_characters
from stars_guard.types import Candidate, Finish

Decode = Callable[[Sequence[int]], str]
"""Ids drawn after the accepted ones to the text of the whole answer."""


def cut_candidate(
    ids: Sequence[int],
    order: Order,
    decode: Decode,
    stops: Sequence[str],
    ends: Collection[int],
    finish: Finish | None,
) -> Candidate:
    """The candidate that a local model would have made of these draws.

    Args:
        ids: what was drawn.
        order: for whom.
        decode: the text of the answer with some of them.
        stops: stop strings.
        ends: ids that end an answer.
        finish: why the engine drew no more; None if it drew as many as it was asked for.
    """
    ended = _first(len(ids), lambda n: ids[n - 1] in ends)
    stopped = _stopped(ids, decode, stops)
    cut = _first(len(ids), lambda n: order.cut.ends_after(n, decode(ids[:n]) if order.cut.needs_text else ""))
    length = min(end for end in (ended, stopped, cut, len(ids)) if end is not None)
    kept = tuple(ids[:length])
    text = decode(kept)
    if length == ended:
        return Candidate(kept, text, Finish.EOS)
    if length == stopped:
        return Candidate(kept, cut_at_stop(text, stops) or "", Finish.STOP)
    if length == order.cut.max_tokens and order.ends_answer:
        return Candidate(kept, whole_characters(text), Finish.LENGTH)
    if length == cut:
        return Candidate(kept, whole_characters(text))
    return Candidate(kept, text if finish is Finish.EOS else whole_characters(text), finish)


def _first(most: int, ends: Callable[[int], bool]) -> int | None:
    """The least length, from 1 to ``most``, at which it ends."""
    return next((n for n in range(1, most + 1) if ends(n)), None)


def _stopped(ids: Sequence[int], decode: Decode, stops: Sequence[str]) -> int | None:
    # A text that holds no stop string does not begin with one that does.
    if not stops or cut_at_stop(decode(ids), stops) is None:
        return None
    return _first(len(ids), lambda n: cut_at_stop(decode(ids[:n]), stops) is not None)
