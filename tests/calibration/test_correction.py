"""The prefix correction: by hand, as identity, and on a drift that is known."""

from __future__ import annotations

import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from stars_guard.algorithm.config import SamplingParams
from stars_guard.algorithm.segments import FixedLength
from stars_guard.calibration.correction import corrected_answers, correction_rows, fit_correction
from stars_guard.calibration.draw import DrawPlan, draw_answers
from stars_guard.calibration.samples import SampledAnswer, SampledPosition
from stars_guard.errors import ConfigurationError, MissingExtraError
from stars_guard.prompts import Prompt
from stars_guard.rewards.corrected import CorrectedReward, PositionMap
from tests.support.calibration_law import MAX_TOKENS, MODEL, REWARD

# Many draws; what they run is covered elsewhere.
pytestmark = pytest.mark.no_cover

numbers = st.floats(-100, 100).map(lambda value: round(value, 3))


def test_by_hand():
    # Pool adjacent violators: 3 and 1 at partial scores 1 and 2 become their mean, 2, twice.
    fit = fit_correction([8, 8, 8, 8], [0.0, 1.0, 2.0, 3.0], [0.0, 3.0, 1.0, 4.0], min_rows=4)
    (only,) = fit.maps
    assert only == PositionMap(tokens=8, partial=(0.0, 1.0, 2.0, 3.0), final=(0.0, 2.0, 2.0, 4.0))
    assert fit.final_of(0.5, 8) == 1.0


def test_equal_partial_scores_get_their_mean():
    fit = fit_correction([8, 8, 8], [1.0, 1.0, 2.0], [0.0, 2.0, 5.0], min_rows=2)
    assert fit.maps == (PositionMap(tokens=8, partial=(1.0, 2.0), final=(1.0, 5.0)),)


@given(st.lists(st.tuples(st.integers(1, 4), numbers), min_size=2, max_size=40), numbers, st.integers(0, 6))
def test_without_drift_nothing_is_changed(rows, score, tokens):
    scores = [score for _, score in rows]
    fit = fit_correction([tokens for tokens, _ in rows], scores, scores, min_rows=2)
    assert fit.final_of(score, tokens) == pytest.approx(score, abs=1e-9)


@given(
    st.lists(st.tuples(st.integers(1, 4), numbers, numbers), min_size=2, max_size=40),
    st.integers(0, 6),
    st.lists(numbers, min_size=2, max_size=10),
)
def test_monotone_at_every_position_whatever_the_data(rows, tokens, scores):
    fit = fit_correction(*zip(*rows, strict=True), min_rows=2)
    corrected = [fit.final_of(score, tokens) for score in sorted(scores)]
    assert corrected == sorted(corrected)


def drifted(count, seed):
    """Early scores are too low and squeezed: the drift that rewards for whole answers show."""
    random_ = random.Random(seed)
    for _ in range(count):
        final = random_.gauss(0, 2)
        for tokens in (16, 32, 64):
            noise = random_.gauss(0, 32 / tokens)
            yield tokens, (0.3 + tokens / 100) * final - 64 / tokens + noise, final


def squared_error(rows, predict):
    return sum((predict(partial, tokens) - final) ** 2 for tokens, partial, final in rows) / len(rows)


def test_less_error_on_new_answers_at_each_position():
    fit = fit_correction(*zip(*drifted(600, 1), strict=True))
    held_out = list(drifted(300, 2))
    assert [one.tokens for one in fit.maps] == [16, 32, 64]
    for position in (16, 32, 64):
        rows = [row for row in held_out if row[0] == position]
        before = squared_error(rows, lambda score, tokens: score)
        after = squared_error(rows, fit.final_of)
        constant = squared_error(rows, lambda score, tokens: 0.0)  # their true mean: no score read at all
        assert after < min(0.7 * before, constant)


def test_positions_with_too_few_rows_are_pooled():
    tokens = [1, 1, 1, 2, 5, 5, 9]
    fit = fit_correction(tokens, range(7), range(7), min_rows=3)
    assert [one.tokens for one in fit.maps] == [1, 5]  # 1 three times; 2, 5, 5 and the rest, 9
    assert len(fit_correction(tokens, range(7), range(7), min_rows=7).maps) == 1


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (([1], [1.0], [1.0, 2.0]), {}, "1 positions, 1 partial and 2 final"),
        (([1] * 49, [1.0] * 49, [1.0] * 49), {}, "49 rows are too few.*at least 50"),
        (([], [], []), {}, "0 rows"),
        (([1, 1], [1.0, float("nan")], [1.0, 1.0]), {"min_rows": 2}, "nan.*unusable"),
        (([1, -1], [1.0, 1.0], [1.0, 1.0]), {"min_rows": 2}, "-1.*unusable"),
        (([1], [1.0], [1.0]), {"min_rows": 1}, "min_rows=1"),
    ],
)
def test_unusable_data_is_refused(rows, options, message):
    with pytest.raises(ConfigurationError, match=message):
        fit_correction(*rows, **options)


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.isotonic", None)
    with pytest.raises(MissingExtraError, match=r"stars-guard\[calibrate\]"):
        fit_correction([1, 1], [0.0, 1.0], [0.0, 1.0], min_rows=2)


def test_rows_of_drawn_answers_are_the_prefixes_that_were_gone_on_with():
    def position(segment, tokens, rewards, chosen):
        return SampledPosition(
            segment=segment, prefix_tokens=0, tokens=tokens, rewards=rewards, chosen=chosen
        )

    places = (position(0, (8, 7), (1.0, 2.0), 1), position(1, (15, 15), (3.0, 4.0), 0))
    answer = SampledAnswer(prompt=0, seed=1, max_tokens=20, base_reward=0.5, positions=places, finished=True)
    short = answer.model_copy(update={"positions": places[1:]})
    assert correction_rows([answer, short]) == ([0, 7, 0], [0.5, 2.0, 0.5], [3.0, 3.0, 3.0])
    cut_off = short.model_copy(update={"finished": False})
    assert correction_rows([cut_off]) == ([0, 15], [0.5, 3.0], [3.0, 3.0])


def test_corrected_answers_are_those_that_a_corrected_reward_scores():
    plan = DrawPlan(
        sampling=SamplingParams(max_tokens=MAX_TOKENS, temperature=1.0),
        segments=FixedLength(max_tokens=2),
        candidates=3,
        samples_per_prompt=60,
    )
    prompts = [Prompt.of("x")]
    answers = list(draw_answers(MODEL, REWARD, prompts, plan))
    fit = fit_correction(*correction_rows(answers))
    again = list(draw_answers(MODEL, CorrectedReward(REWARD, fit), prompts, plan))
    assert corrected_answers(answers, fit) == again != answers
    assert {one for answer in again for place in answer.positions for one in place.finished} == {True, False}
