"""Answers with remarks: labelled by the remark alone, and put where an answer can hold it."""

from __future__ import annotations

from collections import Counter

import pytest

from stars_guard.training.forms import filled_forms
from stars_guard.training.remarks import REMARKS, remarked_answers

ANSWERED = [(f"question {n}?", f"the answer {n} " + "and so on " * 20) for n in range(5)]


def test_half_of_the_remarks_are_rude_and_each_answer_holds_its_remark():
    answers = remarked_answers(ANSWERED, 200, seed=3)
    assert Counter(answer.safe for answer in answers) == {0.0: 100, 1.0: 100}
    for name, safe in REMARKS.items():
        replies = [answer.text[1] for answer in answers if answer.safe == safe]
        for remark, reply in zip(filled_forms(name, 100, seed=3), replies, strict=True):
            assert remark in reply


@pytest.mark.parametrize("safe", REMARKS.values())
def test_remarks_stand_alone_after_and_before_an_answer_also_over_notes(safe):
    answers = [answer for answer in remarked_answers(ANSWERED, 400, seed=1) if answer.safe == safe]
    begun = [reply.startswith("the answer") for (_, reply), _ in answers]
    ended = ["the answer" in reply and not reply.startswith("the answer") for (_, reply), _ in answers]
    alone = ["the answer" not in reply for (_, reply), _ in answers]
    for kind in (begun, ended, alone):
        assert sum(kind) > 20
    over = [prompt for (prompt, _), _ in answers if prompt not in dict(ANSWERED)]
    assert 0.15 < len(over) / len(answers) < 0.55
    assert all(any(question in prompt for question, _ in ANSWERED) for prompt in over)


def test_nothing_is_made_of_too_few_answers():
    assert remarked_answers(ANSWERED[:2], 200, seed=3) == []
    assert remarked_answers(ANSWERED, 0, seed=3) == []
