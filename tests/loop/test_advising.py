"""Advice on settings where people find it: in the result every time, in the log once."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from stars_guard import Last, StarsGuardedLLM
from stars_guard.loop import advising, endings
from stars_guard.loop.advising import AdviceLog
from stars_guard.shadow import shadowed
from tests.support.guards import guarded, hard

FORCED = [["bad "], ["bad "], ["bad secret"]]


@pytest.fixture
def log(monkeypatch):
    """The log of a process that has given no advice yet."""
    fresh = AdviceLog()
    monkeypatch.setattr(endings, "ADVICE", fresh)
    return fresh


def forcing(script=FORCED, **changes) -> StarsGuardedLLM:
    return guarded(script, config=hard(max_attempts=2, exhaustion=Last(), floor=-9.0, **changes))


def given(caplog):
    return [record for record in caplog.records if "stars-guard calibrate" in record.getMessage()]


def test_results_say_it_every_time_and_the_log_once(log, caplog):
    llm = forcing()
    results = [llm.generate("secret?") for _ in range(3)]
    for result in results:
        assert (result.advice.decided, result.advice.exhausted, result.advice.reached) == (3, 3, -1)
        assert result.summary["advice"]["message"] == result.advice.message
    (record,) = given(caplog)
    assert (record.name, record.levelno) == ("stars_guard", logging.WARNING)
    assert record.getMessage() == f"run {results[0].trace.run_id}: {results[0].advice.message}"
    assert "secret" not in record.getMessage()


def test_other_settings_have_a_line_of_their_own(log, caplog):
    for attempts in (2, 3, 2):
        llm = forcing()
        llm.generate("Hi", config=llm.config.adjusted(max_attempts=attempts))
    first, second = given(caplog)
    assert "max_attempts=2" in first.getMessage()
    assert "max_attempts=3" in second.getMessage()


def test_settings_that_requests_bring_do_not_fill_the_log(caplog):
    log = AdviceLog(most=2)
    traces = [forcing(keep_rejected_text=True).generate("Hi").trace for _ in range(2)]
    caplog.clear()
    for target in (1.0, 2.0, 3.0, 1.0):
        config = traces[0].config.adjusted(target=target)
        log.ended(traces[0].model_copy(update={"config": config}))
    assert [record.getMessage().split("(target=")[1][0] for record in given(caplog)] == ["1", "2"]


def test_an_answer_in_reach_is_not_advised_on(log, caplog):
    result = forcing([["good "], ["good "], ["bad"]]).generate("Hi")
    assert result.forced == 1
    assert result.advice is None
    assert "advice" not in result.summary
    watched = forcing()
    assert watched.generate("Hi", config=shadowed(watched.config)).advice is None
    assert not given(caplog)


def test_many_threads_give_one_line(log, caplog):
    trace = forcing().generate("Hi").trace
    caplog.clear()
    fresh = AdviceLog()
    traces = [trace.model_copy(update={"run_id": f"run-{number}"}) for number in range(64)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(fresh.ended, traces))
    assert len(given(caplog)) == 1
    assert all(left.config == right.config for left, right in pairwise(traces))


def test_a_process_has_one_log():
    assert endings.ADVICE is advising.ADVICE
