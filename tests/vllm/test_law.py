"""The promise on a real engine: first segments follow the tilted law, computed from its own probabilities.

The chance that a correct guard fails is ``ERROR_RATE`` for each test; seeds are fixed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence

import pytest
import torch

from stars_guard.algorithm import replay
from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Constant, Raise, Soft
from stars_guard.algorithm.segments import FixedLength
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading.engine_servers import load_engine_server
from stars_guard.models.engines.openai import OpenAICompatibleModel
from stars_guard.prompts import Prompt
from stars_guard.rewards.function import FunctionReward
from tests.vllm.conftest import FOLDER
from tests.vllm.guarding import drawn
from tests.vllm.server import VLLMServer

ERROR_RATE = 1e-4
TEXT = "My favourite colour of all the colours that there are in the world is"
OUTCOMES = 8
"""Tokens that may be drawn, by ``top_k``."""
SAMPLING = SamplingParams(seed=0, max_tokens=1, temperature=1.0, top_p=1.0, top_k=OUTCOMES)
ANSWERS = 300
BETA, TARGET = 0.5, 1.0

Law = Mapping[Hashable, float]


@pytest.fixture(scope="module")
def model(server: VLLMServer) -> Iterator[OpenAICompatibleModel]:
    with load_engine_server(f"vllm@{server.url}", tokenizer=FOLDER) as model:
        yield model


@pytest.fixture(scope="module")
def base(server: VLLMServer, model: OpenAICompatibleModel) -> Law:
    """The engine's own law of the next token, as it says it."""
    ids = model.start(Prompt.raw(TEXT), SAMPLING).opening
    asked = {"max_tokens": 1, "logprobs": OUTCOMES, "return_tokens_as_token_ids": True, "temperature": 0}
    (choice,) = server.post("/v1/completions", prompt=ids, **asked)["choices"]
    (found,) = choice["logprobs"]["top_logprobs"]
    likeliest = sorted(found.items(), key=lambda item: -item[1])[:OUTCOMES]
    assert len(likeliest) == OUTCOMES
    return normal({int(name.removeprefix("token_id:")): math.exp(value) for name, value in likeliest})


def normal(law: Law) -> Law:
    return {one: mass / sum(law.values()) for one, mass in law.items()}


def p_value(seen: Sequence[Hashable], law: Law) -> float:
    """Of a chi-square test; cells with under five expected are merged."""
    counts, total = Counter(seen), len(seen)
    assert set(counts) <= set(law), "something impossible was drawn"
    cells = {one: mass for one, mass in law.items() if mass * total >= 5}
    assert len(cells) > 3, "too coarse to tell laws apart"
    pairs = [(counts[one], mass * total) for one, mass in cells.items()]
    rest = total - sum(expected for _, expected in pairs)
    if rest > 0.01:
        pairs.append((total - sum(observed for observed, _ in pairs), rest))
    statistic = sum((observed - expected) ** 2 / expected for observed, expected in pairs)
    freedom = torch.tensor((len(pairs) - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(freedom, torch.tensor(statistic / 2, dtype=torch.float64)))


def test_candidates_follow_the_engines_own_law(model: OpenAICompatibleModel, base: Law) -> None:
    session = model.start(Prompt.raw(TEXT), SAMPLING)
    seen = [one.token_ids[0] for n in range(25) for one in drawn(model, session, 16, first=16 * n, tokens=1)]
    assert p_value(seen, base) > ERROR_RATE


def test_first_segments_follow_the_tilted_law(model: OpenAICompatibleModel, base: Law) -> None:
    rewards = {token: (-0.2, 1.3, 0.6)[number % 3] for number, token in enumerate(base)}
    texts = {model.start(Prompt.raw(TEXT), SAMPLING).decode([token]): token for token in base}
    assert len(texts) == OUTCOMES
    config = GuardConfig(
        threshold=Constant(target=TARGET),
        acceptance=Soft(beta=BETA),
        segments=FixedLength(max_tokens=1),
        drawing=Fixed(candidates=2),
        max_attempts=10**4,
        exhaustion=Raise(),
    )
    reward = FunctionReward(lambda prompt, response: rewards[texts[response]])
    llm = StarsGuardedLLM(model, reward, config, max_rows=8)
    sampling = [SAMPLING.changed(seed=seed) for seed in range(1, ANSWERS + 1)]
    results = llm.batch([Prompt.raw(TEXT)] * ANSWERS, sampling=sampling)
    for result in results:
        replay.verify(result.trace)
    seen = [result.token_ids[0] for result in results]
    accepted = {
        token: mass * math.exp(min(0, rewards[token] - TARGET) / BETA) for token, mass in base.items()
    }
    assert p_value(seen, normal(accepted)) > ERROR_RATE
    assert p_value(seen, base) < ERROR_RATE  # of the unguarded law, which the test tells apart
    judged = sum(result.trace.attempts for result in results)
    assert judged / ANSWERS == pytest.approx(1 / sum(accepted.values()), rel=0.2)
