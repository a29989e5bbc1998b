"""Measures of an answer's words: variety, repetition, and what it shares with a reference.

Words are runs of letters and digits, in lower case. An answer that was refused has no such numbers: its words
are the refusal text's, and the share of refusals stands beside every measure.
"""

from __future__ import annotations

import re
from collections import Counter

from stars_guard.evaluation.measures.base import MeasuredAnswer

_WORD = re.compile(r"[\w']+")
_REPEATED = 4
"""Words of a sequence that is looked for again, as is usual in measures of repetition."""


def distinct_share(answer: MeasuredAnswer, length: int) -> float | None:
    """Different sequences of words over all of them (distinct-n), within one answer; longer ones have less.

    Args:
        answer: whose words.
        length: words of a sequence.
    """
    words = [] if answer.refused else words_of(answer.text)
    sequences = list(zip(*(words[begin:] for begin in range(length)), strict=False))
    return len(set(sequences)) / len(sequences) if sequences else None


def repetition(answer: MeasuredAnswer) -> float | None:
    """Share of sequences of four words that the answer has said before (seq-rep-4)."""
    distinct = distinct_share(answer, _REPEATED)
    return None if distinct is None else 1 - distinct


def reference_recall(answer: MeasuredAnswer) -> float | None:
    """Share of the reference's words that the answer has, each as often; None without a reference.

    A refused answer has the words that it has: usefulness is lost with it.
    """
    wanted = Counter(words_of(answer.prompt.reference or ""))
    if not wanted:
        return None
    return (wanted & Counter(words_of(answer.text))).total() / wanted.total()


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return _WORD.findall(text.lower())
