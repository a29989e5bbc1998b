"""What is promised when many ask at once.

In float32 a candidate is the same whatever is in the batch with it, on the CPU and as far as was tried. In
bfloat16, the usual precision, it is not: of eight calls of twelve tokens, one or another differed from what
it drew alone, from about the eighth token on, and so did one of eight choices of a single call. Each request
has a random number generator of its own in vLLM, so the draws are the same; but sums in another order make
other logits, and now and then another token. ``VLLM_BATCH_INVARIANT`` has no kernels on the CPU. The law does
not suffer, and decisions replay from the trace; only "same seed, same answer" does.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from stars_guard.algorithm import replay
from stars_guard.loading.engine_servers import load_engine_server
from stars_guard.models.engines.openai import OpenAICompatibleModel
from stars_guard.prompts import Prompt
from tests.vllm.conftest import FOLDER
from tests.vllm.guarding import QUESTION, SAMPLING, drawn, guarded
from tests.vllm.server import VLLMServer


@pytest.fixture(scope="module")
def model(server: VLLMServer) -> Iterator[OpenAICompatibleModel]:
    with load_engine_server(f"vllm@{server.url}", tokenizer=FOLDER) as model:
        yield model


def test_candidates_are_the_same_alone_together_and_beside_others(model: OpenAICompatibleModel) -> None:
    session = model.start(Prompt.of(QUESTION), SAMPLING)
    alone = [drawn(model, session, first=number)[0] for number in range(8)]
    together = drawn(model, session, 8)
    with ThreadPoolExecutor(8) as pool:
        beside = list(pool.map(lambda number: drawn(model, session, first=number)[0], range(8)))
    assert list(together) == alone
    assert beside == alone
    assert len({one.token_ids for one in alone}) == 8


def test_guarded_answers_are_the_same_beside_others(model: OpenAICompatibleModel) -> None:
    llm = guarded(model)
    sampling = [SAMPLING.changed(seed=seed) for seed in range(4)]
    alone = [llm.generate(QUESTION, sampling=one) for one in sampling]
    beside = llm.batch([QUESTION] * len(sampling), sampling=sampling)
    for one in beside:
        replay.verify(one.trace)
    assert [one.token_ids for one in beside] == [one.token_ids for one in alone]


def test_prompts_that_do_not_fit_into_one_step_are_read_all_the_same(model: OpenAICompatibleModel) -> None:
    prompts = [Prompt.raw(f" {number} word" * 300) for number in range(3)]
    sessions = [model.start(prompt, SAMPLING) for prompt in prompts]
    assert sum(one.prompt_tokens for one in sessions) > 2048
    with ThreadPoolExecutor(3) as pool:
        beside = list(pool.map(lambda one: drawn(model, one, tokens=2), sessions))
    assert beside == [drawn(model, one, tokens=2) for one in sessions]
