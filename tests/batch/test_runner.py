"""Rows in flight: bounded, as they come, and stopped when nobody wants them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import closing

import pytest

from stars_guard import ConfigurationError, StarsGuardedLLM
from stars_guard.batch.answers import Done
from stars_guard.batch.rows import Row
from stars_guard.batch.runner import answers_async, answers_here
from stars_guard.loading.calibrated import CalibratedConfig, MadeFor
from stars_guard.testing import KeywordReward, ScriptedModel
from stars_guard.types import StopReason
from tests.support.batch_guard import CONFIG, guard

ROWS = [Row(id=str(number), prompt=f"p{number}") for number in range(20)]


def by_id(done: list[Done]) -> dict[str, Done]:
    found = {one.answer.id: one for one in done}
    assert len(found) == len(done)
    return found


@pytest.mark.parametrize("in_flight", [1, 3, 64])
def test_every_row_once_and_as_if_alone(in_flight: int) -> None:
    llm = guard()
    found = by_id(list(answers_here(llm, ROWS, in_flight)))
    assert found.keys() == {row.id for row in ROWS}
    for row in ROWS:
        alone = llm.generate(row.as_prompt, sampling=row.proposing(llm.sampling))
        answer, trace = found[row.id].answer, found[row.id].trace
        assert (answer.text, answer.seed) == (alone.text, alone.trace.sampling.seed)
        assert trace is not None
        assert trace.run_id == answer.run_id
        assert trace.kept_rewards == alone.trace.kept_rewards


def test_rows_are_read_no_faster_than_they_are_answered() -> None:
    read = 0

    def counted() -> Iterator[Row]:
        nonlocal read
        for row in ROWS:
            read += 1
            yield row

    for number, _ in enumerate(answers_here(guard(), counted(), 4)):
        assert read <= number + 5


def test_a_failure_is_the_result_of_its_row() -> None:
    rows = [Row(id="a", prompt="broken"), Row(id="b", prompt="outage"), Row(id="c", prompt=" "), ROWS[0]]
    found = by_id(list(answers_here(guard(), rows, 2)))
    errors = {key: one.answer.error.type for key, one in found.items() if one.answer.error}
    assert errors == {"a": "ScoringError", "b": "GenerationError", "c": "PromptError"}
    assert found["a"].trace is not None
    assert found["c"].answer.line() == (
        f'{{"id":"c","seed":{found["c"].answer.seed},"error":{{"type":"PromptError","message":'
        '"the prompt is empty; give a text, or at least one message with content"}}\n'
    )


def test_a_refusal_is_an_answer() -> None:
    llm = StarsGuardedLLM(ScriptedModel([["poison"]]), KeywordReward(["poison"]), CONFIG)
    (done,) = answers_here(llm, ROWS[:1], 1)
    assert (done.answer.refused, done.answer.stop_reason, done.answer.error) == (
        True,
        StopReason.REFUSED,
        None,
    )


def test_settings_that_are_wrong_for_every_row_end_the_batch() -> None:
    llm = guard()
    made = MadeFor(model="m", reward="another", acceptance=0.5)
    llm.config = CalibratedConfig(threshold=CONFIG.threshold, made_for=made)
    with pytest.raises(ConfigurationError, match="another"):
        list(answers_here(llm, ROWS, 2))


def test_closing_it_stops_the_rows_in_flight() -> None:
    llm = guard()
    with closing(answers_here(llm, ROWS, 5)) as over:
        next(over)
    assert isinstance(llm.model, ScriptedModel)
    assert len(llm.model.sessions) <= 6
    assert len([*answers_here(llm, ROWS, 5)]) == 20


async def test_for_tasks() -> None:
    assert len([one async for one in answers_async(guard(), ROWS, 5)]) == 20
    assert len(asyncio.all_tasks()) == 1
