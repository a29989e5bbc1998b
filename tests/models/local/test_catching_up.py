"""Sessions that are handed tokens which they did not draw, and attempts at another temperature."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from stars_guard.algorithm.config import SamplingParams
from stars_guard.algorithm.segments import FixedLength
from stars_guard.models.base import Order
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.prompts import Prompt
from stars_guard.types import Candidate
from tests.support.tiny import tiny_llama, tiny_qwen_hybrid, tiny_tokenizer

SAMPLING = SamplingParams(max_tokens=64, temperature=0.7, seed=5)
PROMPT = Prompt.raw("Once upon a time")
LAYERS = (1, 2)


@pytest.fixture(scope="module")
def model() -> TransformersModel:
    torch.manual_seed(0)
    made = TransformersModel(tiny_llama(), tiny_tokenizer())
    made.eos_ids = frozenset()
    return made


def drawn(model, sessions, segment, tokens=6, **changes):
    """One round of two candidates for each session."""
    orders = [
        Order(
            session=session,
            segment=segment,
            first_attempt=0,
            candidates=2,
            cut=FixedLength(max_tokens=tokens),
            ends_answer=False,
            alive=lambda: True,
            **changes,
        )
        for session in sessions
    ]
    return [proposal.candidates for proposal in model.propose(orders)]


def foreign(candidate: Candidate) -> Candidate:
    """As it looks when another session drew it."""
    return replace(candidate, state=None, hidden=None)


@pytest.mark.parametrize("tokens", [1, 6])
@pytest.mark.parametrize("observed", [True, False])
def test_a_session_that_reads_tokens_anew_goes_on_like_the_one_that_drew_them(model, tokens, observed):
    own, other = (
        model.observe(PROMPT, SAMPLING, LAYERS) if observed else model.start(PROMPT, SAMPLING)
        for _ in range(2)
    )
    [(first, _)] = drawn(model, [own], 0, tokens)
    own.accept(first)
    other.accept(foreign(first))
    [(mine, _)] = drawn(model, [own], 1)
    before = other.forward_passes
    [(theirs, _)] = drawn(model, [other], 1)
    assert mine.token_ids == theirs.token_ids
    assert mine.text == theirs.text
    assert other.token_ids == list(first.token_ids)
    # One pass for the tokens from elsewhere; the last one drawn is fed only where its states are wanted.
    assert other.forward_passes - before == 1 + (6 if observed else 5)
    if observed:
        for part in ("prompt", "mean", "last"):
            torch.testing.assert_close(
                getattr(mine.hidden, part), getattr(theirs.hidden, part), atol=1e-4, rtol=1e-4
            )


def test_tokens_of_two_segments_may_be_read_together(model):
    own, other = model.start(PROMPT, SAMPLING), model.start(PROMPT, SAMPLING)
    for segment in range(2):
        [(chosen, _)] = drawn(model, [own], segment)
        own.accept(chosen)
        other.accept(foreign(chosen))
    (mine, _), (theirs, _) = drawn(model, [own, other], 2)
    assert mine.token_ids == theirs.token_ids


def test_observed_and_other_sessions_share_a_batch(model):
    observed, plain = model.observe(PROMPT, SAMPLING, LAYERS), model.start(PROMPT, SAMPLING)
    alone = drawn(model, [model.observe(PROMPT, SAMPLING, LAYERS)], 0)[0]
    with_states, without = drawn(model, [observed, plain], 0)
    assert [one.token_ids for one in with_states] == [one.token_ids for one in without]
    assert [one.hidden is None for one in (*with_states, *without)] == [False, False, True, True]
    torch.testing.assert_close(with_states[0].hidden.mean, alone[0].hidden.mean, atol=1e-4, rtol=1e-4)


def test_an_order_may_have_a_temperature_of_its_own(model):
    hot = model.start(PROMPT, SAMPLING.changed(temperature=1.6))
    session = model.start(PROMPT, SAMPLING)
    usual, asked = drawn(model, [session], 0)[0], drawn(model, [session], 0, temperature=1.6)[0]
    assert [one.token_ids for one in asked] == [one.token_ids for one in drawn(model, [hot], 0)[0]]
    assert [one.token_ids for one in asked] != [one.token_ids for one in usual]


@pytest.mark.parametrize("narrow", [{"temperature": 0}, {"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1}])
def test_attempts_of_a_near_greedy_answer_differ_at_the_temperature_of_retries(model, narrow):
    sampling = SAMPLING.changed(**narrow)
    session, free = model.start(PROMPT, sampling), model.start(PROMPT, SAMPLING.changed(temperature=1.6))
    alike = [drawn(model, [session], attempt)[0][0].token_ids for attempt in range(3)]
    retried = [drawn(model, [session], attempt, temperature=1.6)[0][0].token_ids for attempt in range(3)]
    assert len(set(alike)) == 1
    assert len(set(retried)) == 3
    assert retried == [drawn(model, [free], attempt)[0][0].token_ids for attempt in range(3)]


def test_a_recurrent_state_takes_them_up_one_by_one():
    hybrid = TransformersModel(tiny_qwen_hybrid(), tiny_tokenizer())
    hybrid.eos_ids = frozenset()
    own, other = hybrid.start(PROMPT, SAMPLING), hybrid.start(PROMPT, SAMPLING)
    [(first, _)] = drawn(hybrid, [own], 0)
    own.accept(first)
    other.accept(foreign(first))
    [(mine, _)] = drawn(hybrid, [own], 1)
    before = other.forward_passes
    [(theirs, _)] = drawn(hybrid, [other], 1)
    assert mine.token_ids == theirs.token_ids
    assert other.forward_passes - before == 6 + 5
