"""Where segments end."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.algorithm.segments import CLAUSE_MARKS, SENTENCE_MARKS, Boundary, EntropyCut, FixedLength
from stars_guard.errors import ConfigurationError


@given(st.integers(1, 200), st.integers(1, 400), st.text(), st.floats(0, 20))
def test_fixed_length_cuts_at_its_length_and_looks_at_nothing_else(length, tokens, text, entropy):
    cut = FixedLength(max_tokens=length)
    assert cut.ends_after(tokens, text) == (tokens >= length)
    assert not cut.ends_before(tokens, entropy)
    assert not cut.needs_entropy
    assert not cut.needs_text


@given(st.integers(1, 80), st.floats(0, 10))
def test_entropy_cut_waits_for_its_shortest_length_and_high_entropy(tokens, entropy):
    cut = EntropyCut(min_tokens=4, threshold=3.0, max_tokens=64)
    assert cut.ends_before(tokens, entropy) == (tokens >= 4 and entropy >= 3.0)
    assert cut.ends_after(tokens, "Any text.") == (tokens >= 64)
    assert cut.needs_entropy
    assert not cut.needs_text


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("It is done.", True),
        ("Is it done?", True),
        ("Done!", True),
        ("Wait…", True),
        ("了解。", True),
        ("本当！", True),  # noqa: RUF001
        ("本当？", True),  # noqa: RUF001
        ("A line\n", True),
        ('He said "yes."', True),
        ("(See above.)", True),
        ("It is *done.*", True),
        ("Done. ", True),
        ("Done...", True),
        (".", True),
        ("It is done", False),
        ("one, two,", False),
        ("", False),
        ('"', False),
        ("Pi is 3.", False),
        ("Ask Dr.", False),
        ("ask (e.g.", False),
        ('"Mr.', False),
        ("Mirrors etc.", False),
        ("In 3.5.", False),
        ("MRS.", False),
        ("a doctor.", True),
        ("3!", True),
    ],
)
def test_boundary_knows_the_end_of_a_sentence(text, complete):
    cut = Boundary(min_tokens=1, max_tokens=100)
    assert cut.ends_after(1, text) is complete
    assert cut.needs_text
    assert not cut.needs_entropy
    assert not cut.ends_before(50, 99.0)


@given(st.text(max_size=30), st.integers(1, 20))
def test_boundary_keeps_within_its_lengths(text, tokens):
    cut = Boundary(min_tokens=5, max_tokens=12)
    if tokens < 5:
        assert not cut.ends_after(tokens, text)
    if tokens >= 12:
        assert cut.ends_after(tokens, text)


def test_boundary_cuts_at_clauses_when_told_to():
    sentence, clause = Boundary(min_tokens=1), Boundary(min_tokens=1, marks=CLAUSE_MARKS)
    for text in ("First,", "then;", "as follows:", "はい、"):
        assert clause.ends_after(3, text)
        assert not sentence.ends_after(3, text)
    assert set(SENTENCE_MARKS) < set(CLAUSE_MARKS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: FixedLength(max_tokens=0), "FixedLength: max_tokens=0: "),
        (lambda: EntropyCut(min_tokens=9, max_tokens=8), "min_tokens=9 is over max_tokens=8"),
        (lambda: EntropyCut(threshold=-1), "threshold=-1: "),
        (lambda: EntropyCut(threshold=math.nan), "threshold=nan: "),
        (lambda: Boundary(min_tokens=65), "min_tokens=65 is over max_tokens=64"),
        (lambda: Boundary(min_tokens=0), "min_tokens=0: "),
        (lambda: Boundary(marks=""), "marks='': "),
    ],
)
def test_wrong_values_are_named_at_construction(wrong, message):
    with pytest.raises(ConfigurationError, match=message):
        wrong()
