"""The same engine in this process: asked without a server, and the same guarded answers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import pytest

from benchmarks.pipelining import NoRoom
from stars_guard.algorithm import replay
from stars_guard.algorithm.segments import FixedLength
from stars_guard.errors import ConfigurationError, GenerationError, PromptError
from stars_guard.loading.engine_servers import load_engine_server
from stars_guard.loading.parts import load_model
from stars_guard.models.base import Order
from stars_guard.models.engines.vllm import VLLMModel
from stars_guard.prompts import Prompt
from stars_guard.types import Finish, Guarantee
from tests.vllm.conftest import FOLDER
from tests.vllm.guarding import (
    LONG,
    QUESTION,
    SAMPLING,
    decisions,
    drawn,
    guarded,
    read_again,
)
from tests.vllm.server import ARGUMENTS, BLOCK, VLLMServer, engine_environment

pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's own


@pytest.fixture(scope="module")
def model() -> Iterator[VLLMModel]:
    with patch.dict(os.environ, engine_environment()), load_model(f"vllm:{FOLDER}", ARGUMENTS) as model:
        assert isinstance(model, VLLMModel)
        yield model


def test_it_knows_its_bounds(model: VLLMModel) -> None:
    assert (model.context_window, model._max_parallel, model.guarantee) == (2048, 16, Guarantee.TOKEN_IDS)
    with pytest.raises(PromptError, match="exceed the 2048 positions"):
        model.start(Prompt.of(QUESTION), SAMPLING.changed(max_tokens=2048))


def test_a_seed_gives_the_answer_that_it_gives_over_http(server: VLLMServer, model: VLLMModel) -> None:
    sampling = [
        SAMPLING.changed(seed=1),
        SAMPLING.changed(seed=2, top_k=40, min_p=0.02, repetition_penalty=1.1),
    ]
    with load_engine_server(f"vllm@{server.url}", tokenizer=FOLDER) as remote:
        for one in sampling:
            here, there = (guarded(each).generate(QUESTION, sampling=one) for each in (model, remote))
            replay.verify(here.trace)
            assert here.trace.guarantee is Guarantee.TOKEN_IDS
            assert (here.text, here.token_ids) == (there.text, there.token_ids)
            assert decisions(here) == decisions(there)


def test_rejected_candidates_cost_no_second_prefill(model: VLLMModel) -> None:
    drawn(model, model.start(Prompt.of(LONG), SAMPLING), tokens=1)
    hits, asked = model.cached_prompt_tokens()
    result = guarded(NoRoom(model)).generate(LONG, sampling=SAMPLING)
    lengths = read_again(result)
    new_hits, new_asked = model.cached_prompt_tokens()
    assert new_asked - asked == sum(lengths)
    assert sum(lengths) - (new_hits - hits) == sum((length - 1) % BLOCK + 1 for length in lengths)


def test_answers_drawn_ahead_and_beside_others_are_the_same(model: VLLMModel) -> None:
    sampling = [SAMPLING.changed(seed=seed) for seed in range(4)]
    waiting = [guarded(NoRoom(model)).generate(QUESTION, sampling=one) for one in sampling]
    with ThreadPoolExecutor(4) as pool:
        ahead = list(pool.map(lambda one: guarded(model).generate(QUESTION, sampling=one), sampling))
    assert [one.token_ids for one in ahead] == [one.token_ids for one in waiting]
    assert sum(one.usage.ahead_tokens for one in ahead) > 0


def test_a_stop_id_ends_the_answer(model: VLLMModel) -> None:
    (free,) = drawn(model, model.start(Prompt.of(QUESTION), SAMPLING))
    stop = free.token_ids[5]
    (candidate,) = drawn(model, model.start(Prompt.of(QUESTION), SAMPLING.changed(stop_token_ids=(stop,))))
    assert candidate.token_ids == free.token_ids[: free.token_ids.index(stop) + 1]
    assert candidate.finish is Finish.EOS


def test_salts_share_no_cache(model: VLLMModel) -> None:
    session = model.start(Prompt.raw("A prompt of some length, " * 20), SAMPLING)
    drawn(model, session, tokens=1)
    before = model.cached_prompt_tokens()[0]
    with patch.dict(model._shared, {"cache_salt": "other"}):
        drawn(model, session, tokens=1)
    assert model.cached_prompt_tokens()[0] == before
    drawn(model, session, tokens=1)
    assert model.cached_prompt_tokens()[0] > before


def test_an_order_that_died_is_aborted(model: VLLMModel) -> None:
    session = model.start(Prompt.of(QUESTION), SAMPLING)
    end = time.monotonic() + 0.5
    dying = Order(session, 0, 0, 2, FixedLength(max_tokens=1500), False, lambda: time.monotonic() < end)
    (proposal,) = model.propose([dying])
    assert (proposal.candidates, proposal.tokens) == ((), 0)
    assert model.has_room
    assert drawn(model, session)  # and the engine is free again
    assert model._calls._engine.output_processor.get_num_unfinished_requests() == 0


def test_what_the_engine_does_not_take_is_an_outage_without_words(model: VLLMModel) -> None:
    session = model.start(Prompt.raw("SECRET"), SAMPLING)
    session.opening = [10**7]
    with pytest.raises(GenerationError, match="look into its log") as caught:
        drawn(model, session)
    assert "SECRET" not in str(caught.value)
    assert drawn(model, model.start(Prompt.of(QUESTION), SAMPLING))


def test_arguments_that_vllm_does_not_take() -> None:
    with pytest.raises(ConfigurationError, match=r"vLLM does not start: .*colour"):
        VLLMModel(FOLDER, colour="red")
