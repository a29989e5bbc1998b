"""Language models behind an inference server, by token ids: a real server on the loopback."""

from __future__ import annotations

import threading

import pytest

from stars_guard.config import SamplingParams
from stars_guard.drawing import Fixed
from stars_guard.errors import GenerationError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.models.base import BatchesItself, DeclaresGuarantee, LanguageModel, Order
from stars_guard.models.openai import OpenAICompatibleModel
from stars_guard.segments import FixedLength
from stars_guard.types import Guarantee, Prompt
from tests.http_engine import Abandoned, FakeEngine, HttpEngine, TableTokenizer, tabular
from tests.test_exactness import (
    EOS,
    ERROR_RATE,
    MAX_TOKENS,
    VOCABULARY,
    Answer,
    TableReward,
    answer_law,
    distribution,
    guard,
    p_value,
)

TOKENIZER = TableTokenizer((*VOCABULARY, ""), EOS)
PROMPT = Prompt.raw("x")


def table_engine(**options):
    return FakeEngine(tabular(distribution), TOKENIZER, **options)


def model_at(server, engine="vllm", **options):
    return OpenAICompatibleModel(server.url, engine, **{"tokenizer": TOKENIZER, **options})


def order(session, candidates=1, tokens=2, alive=lambda: True, **changes):
    parts = {"segment": 0, "first_attempt": 0, "ends_answer": False, **changes}
    return Order(session, candidates=candidates, cut=FixedLength(max_tokens=tokens), alive=alive, **parts)


def drawn(model, **options):
    session = model.start(PROMPT, SamplingParams(seed=3, max_tokens=8))
    (proposal,) = model.propose([order(session, **options)])
    return proposal.candidates


def test_it_is_what_the_engine_loop_asks_for():
    with HttpEngine(table_engine()) as server, model_at(server) as model:
        assert isinstance(model, LanguageModel)
        assert isinstance(model, BatchesItself)
        assert isinstance(model, DeclaresGuarantee)
        assert model.guarantee is Guarantee.TOKEN_IDS
        assert model.has_room


def answers(model, config, number):
    llm = StarsGuardedLLM(model, TableReward(), config)
    params = [SamplingParams(seed=seed, max_tokens=MAX_TOKENS) for seed in range(number)]
    return [Answer(llm.generate(PROMPT, sampling=one)) for one in params]


def test_whole_answers_follow_the_enumerated_law():
    config = guard(max_attempts=4)
    with HttpEngine(table_engine()) as server, model_at(server) as model:
        results = answers(model, config, 400)
    assert p_value([one.whole for one in results], answer_law(config)) > ERROR_RATE


@pytest.mark.parametrize("drawing", [Fixed(candidates=2), Fixed(candidates=4)])
def test_candidates_drawn_in_one_call_give_the_very_same_answers(drawing):
    with HttpEngine(table_engine()) as server, model_at(server) as model:
        alone = answers(model, guard(drawing=Fixed(candidates=1)), 25)
        together = answers(model, guard(drawing=drawing), 25)
    assert [(one.whole, one.draws) for one in together] == [(one.whole, one.draws) for one in alone]


def test_an_order_that_died_closes_its_connection():
    step, alive = Abandoned(), threading.Event()
    with HttpEngine(table_engine(), step) as server, model_at(server) as model:
        session = model.start(PROMPT, SamplingParams(seed=3))
        found = []
        dying = order(session, alive=lambda: not alive.is_set())
        caller = threading.Thread(target=lambda: found.extend(model.propose([dying])))
        caller.start()
        assert step.begun.wait(10)
        assert model._in_flight == 1
        alive.set()
        caller.join(10)
        assert found[0].candidates == ()
        assert step.noticed.wait(10)
        assert model._in_flight == 0


def test_an_outage_is_a_generation_error():
    with HttpEngine(table_engine()) as server:
        pass
    with model_at(server, name="gone") as model, pytest.raises(GenerationError, match="cannot connect"):
        drawn(model)
