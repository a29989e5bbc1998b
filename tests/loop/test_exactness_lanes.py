"""The promise where the next segment is drawn ahead of the score: the same law, and the same answers."""

from __future__ import annotations

import logging

import pytest

from stars_guard.algorithm.config import SamplingParams
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.testing import SelfBatchingModel
from tests.loop.test_exactness import (
    CONFIGS,
    ERROR_RATE,
    MAX_TOKENS,
    MODEL,
    Answer,
    TableReward,
    answer_all,
    answer_law,
    p_value,
)

# Many draws; what they run is covered elsewhere.
pytestmark = [pytest.mark.slow, pytest.mark.no_cover]

ANSWERS = 400


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.ERROR, "stars_guard")


def answered(config, answers):
    """By lanes that draw ahead, and how many tokens they drew so, and in vain."""
    llm = StarsGuardedLLM(SelfBatchingModel(MODEL), TableReward(), config, max_rows=16)
    found, ahead, wasted = [], 0, 0
    for start in range(0, answers, 100):
        sampling = [SamplingParams(seed=seed, max_tokens=MAX_TOKENS) for seed in range(start, start + 100)]
        for result in llm.batch(["x"] * len(sampling), sampling=sampling):
            found.append(Answer(result))
            ahead += result.usage.ahead_tokens
            wasted += result.usage.ahead_wasted_tokens
    return found, ahead, wasted


@pytest.mark.parametrize("name", ["soft", "last", "best with a floor", "refuse, ramp"])
def test_answers_drawn_ahead_follow_the_enumerated_law(name):
    config = CONFIGS[name]
    answers, ahead, wasted = answered(config, ANSWERS)
    assert p_value([one.whole for one in answers], answer_law(config)) > ERROR_RATE
    assert 0 < wasted < ahead  # some of what was drawn ahead was used, and some was not
    plain = answer_all(config, ANSWERS)
    assert [(one.whole, one.draws) for one in answers] == [(one.whole, one.draws) for one in plain]
