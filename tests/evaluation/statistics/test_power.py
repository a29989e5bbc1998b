"""How many prompts a difference needs: as simulated comparisons find it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.evaluation.statistics.power import prompts_needed


def test_two_points_of_a_rate_need_thousands_of_prompts():
    assert prompts_needed(0.5) == 4906


@given(st.floats(0.01, 2), st.floats(0.01, 1))
def test_half_the_difference_needs_four_times_the_prompts(spread, difference):
    assert prompts_needed(spread, difference / 2) == pytest.approx(
        4 * prompts_needed(spread, difference), abs=4
    )


def test_so_many_prompts_find_the_difference_as_often_as_they_should():
    needed = prompts_needed(1.0, 0.3)
    drawn = np.random.default_rng(0).normal(0.3, 1.0, (4000, needed))
    found = np.abs(drawn.mean(axis=1)) > 1.96 * drawn.std(axis=1, ddof=1) / np.sqrt(needed)
    assert found.mean() == pytest.approx(0.8, abs=0.03)
