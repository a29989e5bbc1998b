"""Self-judgement through the loop: each probability is that of a direct computation, at ends as well."""

from __future__ import annotations

import math

import pytest
import torch

from stars_guard import SamplingParams, StarsGuardedLLM
from stars_guard.algorithm.config import GuardConfig
from stars_guard.algorithm.rules import Constant
from stars_guard.evaluation.methods.self_judged import SelfJudged
from stars_guard.models import TransformersModel
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import WrappedReward
from stars_guard.rewards.judges.self_judgement import with_system
from stars_guard.testing import KeywordReward
from stars_guard.types import Finish
from tests.support.tiny import tiny_llama, tiny_tokenizer

BASE = GuardConfig(threshold=Constant(target=1.0))
PROMPT = Prompt.of("How do I bake?")


class Noted(WrappedReward):
    """Keeps what was scored, and how."""

    def __init__(self, reward):
        super().__init__(reward)
        self.scored = {}

    def score(self, requests):
        rewards = super().score(requests)
        self.scored |= {
            request.token_ids: reward.value for request, reward in zip(requests, rewards, strict=True)
        }
        return rewards


@pytest.fixture(scope="module")
def model():
    made = TransformersModel(tiny_llama(), tiny_tokenizer())
    # Ends that are drawn often, so that they are judged as well.
    made.eos_ids = frozenset(range(0, 384, 24))
    return made


def log_probability(model, prompt, ids):
    with torch.inference_mode():
        logits = model.model(torch.tensor([[*model.encode(prompt), *ids[:-1]]])).logits[0, -1]
    return float(logits.log_softmax(-1)[ids[-1]])


@pytest.mark.parametrize("seed", range(2))
def test_a_token_is_accepted_by_the_ratio_of_its_probabilities(model, seed):
    method = SelfJudged(persona="You never bake.")
    reward = Noted(method.scorer(model, KeywordReward(["bad"])))
    sampling = SamplingParams(max_tokens=16, seed=seed, temperature=1.0, top_p=1.0)
    result = StarsGuardedLLM(model, reward, method.guard(BASE, sampling), sampling=sampling).generate(PROMPT)
    assert len(reward.scored) > len(result.token_ids) > 1
    judging = with_system(PROMPT, "You never bake.")
    for ids, value in reward.scored.items():
        ratio = log_probability(model, judging, ids) - log_probability(model, PROMPT, ids)
        assert value == pytest.approx(ratio, abs=1e-4)
    attempts = [attempt for segment in result.trace.segments for attempt in segment.attempts]
    assert [attempt.probability for attempt in attempts] == [
        pytest.approx(min(1.0, math.exp(attempt.reward))) for attempt in attempts
    ]
    assert {attempt.tokens for attempt in attempts} == {1}


def test_ends_of_answers_are_judged_as_well(model):
    method = SelfJudged(persona="You never bake.")
    reward = Noted(method.scorer(model, KeywordReward(["bad"])))
    sampling = SamplingParams(max_tokens=64, seed=1, temperature=1.0, top_p=1.0)
    result = StarsGuardedLLM(model, reward, method.guard(BASE, sampling), sampling=sampling).generate(PROMPT)
    last = result.trace.segments[-1]
    assert last.attempts[last.chosen].finish is Finish.EOS
    assert tuple(result.token_ids) in reward.scored


def test_no_second_model_is_loaded_and_no_session_left_behind(model):
    method = SelfJudged(segment_tokens=4)
    judge = method.scorer(model, KeywordReward(["bad"]))
    sampling = SamplingParams(max_tokens=16, seed=2)
    result = StarsGuardedLLM(model, judge, method.guard(BASE, sampling), sampling=sampling).generate(PROMPT)
    assert result.trace.reward == "self-judgement"
    assert max(attempt.tokens for segment in result.trace.segments for attempt in segment.attempts) == 4
    assert judge._likelihoods._model is model
    assert not judge._likelihoods._sessions
