"""The small data types."""

from __future__ import annotations

import pytest

from stars_guard.types import Candidate, Finish, StopReason


@pytest.mark.parametrize(
    ("finish", "finished"),
    [(None, False), (Finish.LENGTH, False), (Finish.EOS, True), (Finish.STOP, True)],
)
def test_an_answer_cut_by_length_is_not_finished(finish, finished):
    assert Candidate((1,), "a", finish).finished is finished


def test_every_finish_is_a_stop_reason():
    assert [StopReason(finish.value).name for finish in Finish] == ["EOS", "STOP", "LENGTH"]
