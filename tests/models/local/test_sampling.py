"""Truncation agrees with transformers' own processors, and draws follow the distribution."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from stars_guard.algorithm.config import SamplingParams
from stars_guard.models.local import sampling

VOCABULARY = 700


def logits(rows: int = 3, vocabulary: int = VOCABULARY, spread: float = 3.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(rows, vocabulary, generator=generator) * spread


def oracle(scores: torch.Tensor, params: SamplingParams) -> torch.Tensor:
    """The distribution that transformers would sample from."""
    warpers = [TemperatureLogitsWarper(params.temperature)]
    if params.top_k:
        warpers.append(TopKLogitsWarper(params.top_k))
    if params.top_p < 1:
        warpers.append(TopPLogitsWarper(params.top_p))
    if params.min_p:
        warpers.append(MinPLogitsWarper(params.min_p))
    return torch.softmax(LogitsProcessorList(warpers)(torch.zeros(1), scores.clone()), dim=-1)


def drawn_distribution(row: torch.Tensor, params: SamplingParams, points: int) -> torch.Tensor:
    """What inverse CDF gives on an even grid of uniform numbers: the distribution, to 1/points."""
    uniforms = [(index + 0.5) / points for index in range(points)]
    tokens = sampling.draw_tokens(row.expand(points, -1), params, uniforms)
    return torch.bincount(torch.tensor(tokens), minlength=row.shape[-1]) / points


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 1.0, "top_p": 1.0},
        {"temperature": 0.7, "top_p": 0.9},
        {"temperature": 1.0, "top_p": 0.5, "top_k": 50},
        {"temperature": 1.3, "top_p": 1.0, "top_k": 5},
        {"temperature": 1.0, "top_p": 1.0, "min_p": 0.1},
        {"temperature": 0.9, "top_p": 0.95, "top_k": 100, "min_p": 0.02},
        {"temperature": 1.0, "top_p": 1.0, "top_k": 5000},
    ],
)
def test_the_law_of_a_draw_is_that_of_transformers(settings: dict) -> None:
    params = SamplingParams(**settings)
    points = 4000
    scores = logits()
    expected = oracle(scores, params)
    for row in range(len(scores)):
        found = drawn_distribution(scores[row], params, points)
        assert (found - expected[row]).abs().max() <= 1 / points
        assert set(found.nonzero().flatten().tolist()) <= set(expected[row].nonzero().flatten().tolist())


def test_a_nucleus_wider_than_the_guess_is_still_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    params = SamplingParams(temperature=1.0, top_p=0.97)
    monkeypatch.setattr(sampling, "_NUCLEUS_GUESS", 4)
    scores = logits(rows=1, spread=0.5)
    found = drawn_distribution(scores[0], params, 4000)
    assert (found - oracle(scores, params)[0]).abs().max() <= 1 / 4000


def test_greedy_is_the_argmax() -> None:
    scores = logits()
    assert (
        sampling.draw_tokens(scores, SamplingParams(temperature=0), [0.5] * 3) == scores.argmax(-1).tolist()
    )


def test_a_row_is_drawn_alike_in_any_company() -> None:
    params = SamplingParams(top_p=0.9)
    scores = logits(rows=6)
    uniforms = [0.1, 0.9, 0.5, 0.3, 0.7, 0.99]
    alone = [sampling.draw_tokens(scores[n : n + 1], params, uniforms[n : n + 1])[0] for n in range(6)]
    assert sampling.draw_tokens(scores, params, uniforms) == alone


def test_the_extreme_uniform_numbers_give_possible_tokens() -> None:
    scores = torch.tensor([[float("-inf"), 0.0, float("-inf"), 1.0, float("-inf")]])
    params = SamplingParams(temperature=1.0, top_p=1.0)
    assert sampling.draw_tokens(scores, params, [0.0]) == [1]
    assert sampling.draw_tokens(scores, params, [math.nextafter(1.0, 0.0)]) == [3]


def test_the_repetition_penalty_is_that_of_transformers() -> None:
    scores = logits(rows=2)
    seen = [[1, 5, 5, 9], [3, 4, 2, 699]]
    expected = RepetitionPenaltyLogitsProcessor(1.4)(torch.tensor(seen), scores.clone())
    assert torch.equal(sampling.penalised(scores, seen, 1.4), expected)


def test_entropy_in_nats() -> None:
    scores = logits(rows=2, vocabulary=50)
    expected = [stats.entropy(torch.softmax(row.double(), -1).numpy()) for row in scores]
    assert sampling.entropy(scores).tolist() == pytest.approx(expected, rel=1e-5)
    certain = torch.full((1, 4), float("-inf"))
    certain[0, 2] = 0.0
    assert sampling.entropy(certain).item() == 0.0
