"""Culprits among many, found by halves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.rewards.halves import ByHalves


class Counted:
    """Doubles numbers; fails for a batch with a culprit in it."""

    def __init__(self, culprits, error=ValueError):
        self.culprits, self.error, self.calls = culprits, error, []

    def __call__(self, items):
        self.calls.append(list(items))
        if self.culprits & set(items):
            raise self.error
        return [2 * item for item in items]


def alone(item, error):
    return [type(error).__name__]


@given(st.integers(0, 70), st.sets(st.integers(0, 69)))
def test_everyone_but_the_culprits_is_served_in_order(count, culprits):
    call = Counted(culprits)
    results = ByHalves(call, alone).results(range(count))
    assert results == [("ValueError" if item in culprits else 2 * item) for item in range(count)]
    guilty = len(culprits & set(range(count)))
    assert len(call.calls) <= 1 + 2 * guilty * (count or 1).bit_length()


def test_an_outage_that_is_over_costs_few_calls():
    call = Counted({5})

    def once(items):
        try:
            return call(items)
        finally:
            call.culprits = set()

    assert ByHalves(once, alone).results(range(64)) == [2 * item for item in range(64)]
    assert len(call.calls) <= 1 + 7


def test_the_end_of_the_program_is_nobodys_fault():
    call = Counted({1}, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        ByHalves(call, alone).results(range(4))
    assert len(call.calls) == 1
