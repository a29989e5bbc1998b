"""The most extreme sampling parameters that are taken: probabilities stay numbers."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from stars_guard.algorithm.config import LARGEST_PENALTY, LEAST_TEMPERATURE, SamplingParams  # noqa: E402
from stars_guard.models.local.sampling import draw_tokens, penalised  # noqa: E402
from stars_guard.settings import LEAST_NUMBER  # noqa: E402

LOGITS = torch.tensor([[1e4, 1e4 - 1, -1e4, 0.0]])


@pytest.mark.parametrize(
    "params",
    [
        {"temperature": LEAST_TEMPERATURE},
        {"temperature": LEAST_TEMPERATURE, "top_p": LEAST_NUMBER, "top_k": 2},
        {"top_p": LEAST_NUMBER},
        {"min_p": LEAST_NUMBER, "top_p": 1.0},
        {"min_p": 1.0},
    ],
)
def test_the_likeliest_token_is_drawn(params):
    params = {"temperature": 0.1, **params}
    assert draw_tokens(LOGITS, SamplingParams(**params), [0.5]) == [0]


@pytest.mark.parametrize("penalty", [LARGEST_PENALTY, 1 / LARGEST_PENALTY])
def test_penalised_logits_are_finite_at_the_least_temperature(penalty):
    logits = penalised(LOGITS, [[0, 2]], penalty)
    assert bool(torch.isfinite(logits / LEAST_TEMPERATURE).all())
    draw_tokens(logits, SamplingParams(temperature=LEAST_TEMPERATURE), [0.5])
