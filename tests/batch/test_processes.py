"""Rows on several processes: the same answers as in one, whatever the blocks."""

from __future__ import annotations

from functools import partial

import pytest

from stars_guard.batch.processes import WorkerProcesses
from stars_guard.batch.rows import Row
from stars_guard.batch.runner import answers_here
from stars_guard.errors import GenerationError
from tests.support.batch_guard import KEY, guard, guard_that_dies_once

pytestmark = pytest.mark.slow  # every worker imports the package anew

ROWS = [Row(id=f"r{number}", prompt=f"p{number}") for number in range(20)]


def test_answers_are_those_of_one_process():
    alone = {done.answer.id: done.answer.text for done in answers_here(guard(), ROWS, 4, KEY)}
    with WorkerProcesses(2, block=3) as answer:
        first = {done.answer.id: done.answer.text for done in answer(guard, ROWS, 4, KEY)}
        again = {done.answer.id: done.answer.text for done in answer(guard, ROWS[:5], 4, KEY)}
    assert first == alone
    assert again == {row.id: alone[row.id] for row in ROWS[:5]}


def test_a_worker_that_ends_is_an_outage_that_says_what_to_do(tmp_path):
    with (
        WorkerProcesses(1, block=4) as answer,
        pytest.raises(GenerationError, match="try fewer workers"),
    ):
        list(answer(partial(guard_that_dies_once, tmp_path / "killed"), ROWS, 2, KEY))
