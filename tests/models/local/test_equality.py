"""The local model draws what transformers itself would draw, for every kind of cache, alone or in a batch."""

from __future__ import annotations

import pytest
import torch

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Constant, Soft
from stars_guard.algorithm.segments import Boundary, EntropyCut, FixedLength
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.prompts import Prompt
from stars_guard.rewards.function import FunctionReward
from tests.support.tiny import tiny_llama, tiny_mistral_sliding, tiny_qwen_hybrid, tiny_tokenizer

pytestmark = pytest.mark.slow

# Dense layers: a router that picks one expert turns a rounding difference into a different token.
KINDS = {
    "full": tiny_llama,
    "sliding": tiny_mistral_sliding,
    "hybrid": lambda: tiny_qwen_hybrid(mlp_only_layers=[0, 1]),
}
PROMPTS = [
    "How do I bake bread?",
    "Hi",
    "The quick brown fox jumps over the lazy dog. " * 3,
    "Ünïcödé 🐕 text",
]
ACCEPT_ALL = GuardConfig(threshold=Constant(target=0.0), drawing=Fixed(candidates=2))


def lively(text: str) -> float:
    """A reward that depends on every character and is often rejected."""
    return (sum(map(ord, text)) % 7) / 3 - 1


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> TransformersModel:
    return TransformersModel(KINDS[request.param](), tiny_tokenizer())


def guard(model: TransformersModel, config: GuardConfig, reward=lambda prompt, text: 1.0) -> StarsGuardedLLM:
    return StarsGuardedLLM(model, FunctionReward(reward), config)


def picky(**settings: object) -> GuardConfig:
    return GuardConfig(threshold=Constant(target=0.6), acceptance=Soft(beta=0.3), **settings)


@pytest.mark.parametrize("length", [1, 5, 8, 50])
def test_greedy_with_an_always_accepting_reward_equals_generate(
    model: TransformersModel, length: int
) -> None:
    config = ACCEPT_ALL.model_copy(update={"segments": FixedLength(max_tokens=length)})
    sampling = SamplingParams(max_tokens=40, temperature=0)
    for prompt in PROMPTS:
        result = guard(model, config).generate(prompt, sampling=sampling)
        ids = torch.tensor([model.encode(Prompt.of(prompt))])
        expected = model.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False
        )
        assert result.token_ids == expected[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize(
    "segments",
    [
        FixedLength(max_tokens=6),
        EntropyCut(threshold=5.0, min_tokens=2, max_tokens=12),
        Boundary(marks=".,;: e", min_tokens=2, max_tokens=12),
    ],
    ids=lambda segments: segments.kind,
)
def test_requests_together_equal_the_same_requests_alone(model: TransformersModel, segments) -> None:
    config = picky(segments=segments, drawing=Fixed(candidates=3))
    llm = guard(model, config, lambda prompt, text: lively(text))
    sampling = [SamplingParams(max_tokens=30, seed=seed, top_p=0.9) for seed in range(len(PROMPTS))]
    alone = [llm.generate(prompt, sampling=one) for prompt, one in zip(PROMPTS, sampling, strict=True)]
    together = llm.batch(PROMPTS, sampling=sampling)
    assert [result.token_ids for result in together] == [result.token_ids for result in alone]
    assert [result.text for result in together] == [result.text for result in alone]
    assert [decisions(result) for result in together] == [decisions(result) for result in alone]
    assert any(len(segment.attempts) > 1 for result in alone for segment in result.trace.segments)


def decisions(result) -> list:
    return [segment.model_dump(exclude={"drawn"}) for segment in result.trace.segments]


@pytest.mark.parametrize("candidates", [2, 4, 8])
def test_candidates_drawn_at_once_change_nothing(model: TransformersModel, candidates: int) -> None:
    def answer(n: int):
        config = picky(segments=FixedLength(max_tokens=6), drawing=Fixed(candidates=n))
        llm = guard(model, config, lambda prompt, text: lively(text))
        return llm.generate(PROMPTS[0], sampling=SamplingParams(max_tokens=30, seed=5))

    one, many = answer(1), answer(candidates)
    assert many.token_ids == one.token_ids
    assert [s.attempts for s in many.trace.segments] == [s.attempts for s in one.trace.segments]
