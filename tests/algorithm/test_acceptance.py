"""Acceptance draws: from the seed, or from a key and everything that a client chooses."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from stars_guard.algorithm.acceptance import AcceptanceKey, seeded_draws
from stars_guard.algorithm.config import SamplingParams
from stars_guard.algorithm.random_numbers import ACCEPTANCE, uniform
from stars_guard.algorithm.segments import FixedLength
from stars_guard.errors import ConfigurationError
from stars_guard.prompts import Prompt, Tools
from stars_guard.types import Candidate

SECRET = "0123456789abcdef"
KEY = AcceptanceKey(SECRET)
SAMPLING = SamplingParams(seed=7)
TOOL = {"type": "function", "function": {"name": "w", "parameters": {"type": "object"}}}


CANDIDATE = Candidate((1, 2), "some text")


def draws(key=KEY, prompt="hello", sampling=SAMPLING, segments=None, tools=None, candidate=CANDIDATE):
    draw = key.draws(Prompt.of(prompt, tools), sampling, segments or FixedLength())
    return [draw(segment, attempt, candidate) for segment in range(3) for attempt in range(4)]


@given(st.integers(0, 2**63 - 1), st.integers(0, 99), st.integers(0, 99))
def test_seeded_draws_are_the_addressed_numbers(seed, segment, attempt):
    assert seeded_draws(seed)(segment, attempt, CANDIDATE) == uniform(seed, segment, attempt, ACCEPTANCE)


def test_the_same_key_and_request_repeat_the_draws():
    assert draws() == draws(AcceptanceKey(SECRET.encode()))
    assert len(set(draws())) == 12


@pytest.mark.parametrize(
    "changes",
    [
        {"key": AcceptanceKey("another secret of the operator")},
        {"prompt": "hello "},
        {"prompt": [{"role": "system", "content": "hello"}]},
        {"sampling": SAMPLING.changed(seed=8)},
        {"sampling": SAMPLING.changed(temperature=0.81)},
        {"sampling": SAMPLING.changed(stop="x")},
        {"segments": FixedLength(max_tokens=31)},
        {"tools": Tools((TOOL,))},
        {"tools": Tools((TOOL,), parallel=False)},
        {"candidate": Candidate((1, 2), "other text")},
        {"candidate": Candidate((1, 3), "some text")},
    ],
    ids=repr,
)
def test_draws_of_one_request_say_nothing_about_those_of_another(changes):
    assert not set(draws(**changes)) & set(draws())


def test_a_raw_text_is_not_the_message_that_says_it():
    draw = KEY.draws(Prompt.raw("hello"), SAMPLING, FixedLength())
    assert draw(0, 0, CANDIDATE) != draws()[0]


def test_keyed_draws_are_uniform():
    draw = KEY.draws(Prompt.of("hello"), SAMPLING, FixedLength())
    numbers = [draw(segment, attempt, CANDIDATE) for segment in range(100) for attempt in range(20)]
    assert all(0 <= number < 1 for number in numbers)
    assert kstest(numbers, "uniform").pvalue > 1e-4


def test_knowing_the_seed_does_not_tell_the_draws():
    seeded = seeded_draws(7)
    assert not set(draws()) & {
        seeded(segment, attempt, CANDIDATE) for segment in range(3) for attempt in range(4)
    }


def test_a_key_shows_only_its_fingerprint():
    assert SECRET not in repr(KEY)
    assert KEY.fingerprint == AcceptanceKey(SECRET).fingerprint in repr(KEY)
    assert AcceptanceKey.fresh().fingerprint != AcceptanceKey.fresh().fingerprint
    assert draws(pickle.loads(pickle.dumps(KEY))) == draws()


@pytest.mark.parametrize("secret", ["", "fifteen letters", b"\0" * 15])
def test_a_key_that_could_be_guessed_is_refused(secret):
    with pytest.raises(ConfigurationError, match="could be guessed; give 16 or more"):
        AcceptanceKey(secret)
