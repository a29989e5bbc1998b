"""Where candidates of an engine end: as a model that looks at every token would have ended them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.algorithm.config import SamplingParams
from stars_guard.algorithm.segments import Boundary, FixedLength
from stars_guard.models.base import Order
from stars_guard.models.engines.cut import UNKNOWN_ID, cut_ids, cut_text
from stars_guard.prompts import Prompt
from stars_guard.testing import TabularModel
from stars_guard.text.answer_stops import AnswerStops
from stars_guard.text.answer_text import AnswerText
from stars_guard.text.decoding import AnswerDecoder, Opaque
from stars_guard.types import Finish

WORDS = ("a", "b", " ", ".", "é", "")
EOS = len(WORDS) - 1


def decode(ids):
    return "".join(WORDS[one] for one in ids)


def answer(stops=(), text_of=decode):
    return AnswerText(AnswerDecoder(Opaque(text_of)), stops)


def order(cut, ends_answer=False, session=None):
    return Order(session, 0, 0, 1, cut, ends_answer, lambda: True)


CUTS = st.one_of(
    st.builds(FixedLength, max_tokens=st.integers(1, 9)),
    st.builds(Boundary, min_tokens=st.integers(1, 3), max_tokens=st.integers(3, 9)),
)


@given(
    ids=st.lists(st.integers(0, EOS), min_size=9, max_size=9),
    cut=CUTS,
    ends_answer=st.booleans(),
    stops=st.lists(st.sampled_from(["a", "b.", ". a", "ab", "é"]), max_size=2),
)
def test_candidates_end_where_a_local_model_ends_them(ids, cut, ends_answer, stops):
    local = TabularModel(lambda drawn: [float(one == ids[len(drawn)]) for one in range(EOS + 1)], WORDS, EOS)
    session = local.start(Prompt.raw("x"), SamplingParams(seed=1, stop=tuple(stops)))
    (proposal,) = local.propose([order(cut, ends_answer, session)])
    # An engine ends at its end of sequence, and knows nothing of the other rules.
    drawn = ids[: cut.max_tokens]
    drawn = drawn[: drawn.index(EOS) + 1] if EOS in drawn else drawn
    finish = Finish.EOS if drawn[-1] == EOS else None
    assert cut_ids(drawn, order(cut, ends_answer), answer(stops), {EOS}, finish) == proposal.candidates[0]


@pytest.mark.parametrize(("finish", "text"), [(Finish.EOS, "ab\ufffd"), (Finish.LENGTH, "ab"), (None, "ab")])
def test_an_engine_may_end_for_reasons_of_its_own(finish, text):
    candidate = cut_ids(
        [0, 1, 7],
        order(FixedLength(max_tokens=9)),
        answer(text_of=lambda ids: "ab\ufffd"[: len(ids)]),
        {EOS},
        finish,
    )
    assert (candidate.text, candidate.finish, candidate.token_ids) == (text, finish, (0, 1, 7))


def test_half_a_character_is_held_back():
    begun = answer(text_of=lambda ids: "a\ufffd\ufffd")
    whole = cut_ids([0], order(FixedLength(max_tokens=1)), begun, {EOS}, None)
    last = cut_ids([0], order(FixedLength(max_tokens=1), True), begun, {EOS}, None)
    assert (whole.text, whole.finish) == ("a", None)
    assert (last.text, last.finish) == ("a", Finish.LENGTH)


def test_nothing_was_drawn():
    empty = cut_ids([], order(FixedLength(max_tokens=4)), answer(("a",)), {EOS}, Finish.EOS)
    assert (empty.token_ids, empty.finish) == ((), Finish.EOS)


def text_cut(drawn, tokens, cut=None, stops=(), finish=None, ends_answer=False):
    chosen = order(cut or FixedLength(max_tokens=8), ends_answer)
    candidate = cut_text("Before", drawn, tokens, chosen, AnswerStops(stops), finish)
    assert set(candidate.token_ids) <= {UNKNOWN_ID}
    return candidate.text, len(candidate.token_ids), candidate.finish


def test_a_text_is_one_segment():
    assert text_cut(" and after", 8) == ("Before and after", 8, None)
    assert text_cut(" and after", 8, ends_answer=True) == ("Before and after", 8, Finish.LENGTH)
    assert text_cut(" and after", 3, finish=Finish.EOS) == ("Before and after", 3, Finish.EOS)
    assert text_cut(" \ufffd", 3) == ("Before ", 3, None)
    assert text_cut(" \ufffd", 3, finish=Finish.EOS) == ("Before \ufffd", 3, Finish.EOS)


def test_a_text_ends_before_a_stop_string_that_may_have_begun_earlier():
    assert text_cut(" and after", 8, stops=("after",)) == ("Before and ", 8, Finish.STOP)
    assert text_cut(" and after", 8, stops=("e and",)) == ("Befor", 8, Finish.STOP)


def test_a_text_is_cut_at_a_boundary_and_its_tokens_are_shared_out():
    cut = Boundary(min_tokens=1, max_tokens=8)
    assert text_cut(". Then more", 8, cut) == ("Before.", 1, None)
    assert text_cut(", e.g. this. Then", 8, cut) == ("Before, e.g. this.", 6, None)
    assert text_cut(" " + "and" * 30 + " on", 8, cut) == ("Before " + "and" * 30 + " on", 8, None)
    assert text_cut(" and", 2, cut, finish=Finish.EOS) == ("Before and", 2, Finish.EOS)
    assert text_cut(". Then stop", 8, cut, stops=("stop",)) == ("Before.", 1, None)
    assert text_cut(". Then", 8, cut, stops=(".",)) == ("Before", 8, Finish.STOP)
