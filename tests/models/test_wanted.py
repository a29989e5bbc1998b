"""Whether anybody still waits for what runs."""

from __future__ import annotations

import contextvars
import threading

from stars_guard.algorithm.config import Budget
from stars_guard.models.wanted import still_wanted, wanted_while
from stars_guard.testing import ScriptedModel, SelfBatchingModel
from stars_guard.types import StopReason
from tests.support.guards import guarded


def test_what_nobody_is_known_to_wait_for_is_wanted():
    assert still_wanted()


def test_it_is_wanted_as_long_as_whoever_waits_says_so():
    with wanted_while(lambda: False):
        assert not still_wanted()
        kept = contextvars.copy_context()
    assert still_wanted()
    assert kept.run(still_wanted)  # that work is over


def test_a_model_that_reads_a_prompt_elsewhere_can_ask():
    asked, streams, made = [], [], threading.Event()

    class Asks(ScriptedModel):
        def start(self, prompt, sampling):
            asked.append(still_wanted())
            assert made.wait(30)
            streams[0].close()
            asked.append(still_wanted())
            return super().start(prompt, sampling)

    guard = guarded(SelfBatchingModel(Asks([["x"]])), max_rows=1)
    streams.append(guard.stream("x", budget=Budget(max_seconds=60)))
    made.set()
    assert streams[0].read().stop_reason is StopReason.CANCELLED
    assert asked == [True, False]
