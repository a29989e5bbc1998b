"""vLLM's engine in this process: asked as its server is, and the same answers."""

from __future__ import annotations

import gc
import sys
import threading

import pytest

from stars_guard.algorithm import replay
from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import SamplingParams
from stars_guard.algorithm.rules import Constant, Hard
from stars_guard.algorithm.segments import EntropyCut
from stars_guard.errors import ConfigurationError, GenerationError, PromptError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading import parts
from stars_guard.models.base import BatchesItself, DeclaresGuarantee, HasTokenizer, LanguageModel
from stars_guard.models.engines.vllm import VLLMModel
from stars_guard.prompts import Prompt
from stars_guard.testing import KeywordReward
from stars_guard.types import Guarantee, StopReason
from tests.loop.test_exactness import (
    ERROR_RATE,
    MAX_TOKENS,
    Answer,
    TableReward,
    answer_law,
    distribution,
    guard,
    p_value,
)
from tests.models.engines.test_openai import PROMPT, TOKENIZER, answers, give_up, model_at, order, proposal_of
from tests.support.fake_vllm import FakeVLLM
from tests.support.http_engine import FakeEngine, HttpEngine, tabular, written
from tests.support.tiny import tiny_tokenizer


@pytest.fixture
def fake(monkeypatch):
    fake = FakeVLLM(FakeEngine(tabular(distribution), TOKENIZER))
    for name, module in fake.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return fake


@pytest.fixture
def model(fake):
    with VLLMModel("/models/fake", tokenizer=TOKENIZER) as model:
        yield model


def test_it_is_what_the_engine_loop_asks_for(fake, model):
    assert isinstance(model, LanguageModel)
    assert isinstance(model, BatchesItself)
    assert isinstance(model, DeclaresGuarantee)
    assert isinstance(model, HasTokenizer)
    assert model.guarantee is Guarantee.TOKEN_IDS
    assert model.has_room
    assert model.name == "fake"
    assert model.tokenizer is TOKENIZER
    assert fake.asked == []


def test_whole_answers_follow_the_enumerated_law(model):
    config = guard(max_attempts=4)
    results = answers(model, config, 200)
    assert p_value([one.whole for one in results], answer_law(config)) > ERROR_RATE


@pytest.mark.parametrize("candidates", [1, 3])
def test_a_seed_gives_the_answer_that_it_gives_over_http(fake, model, candidates):
    config = guard(drawing=Fixed(candidates=candidates))
    with HttpEngine(FakeEngine(tabular(distribution), TOKENIZER)) as server, model_at(server) as remote:
        there = answers(remote, config, 15)
    here = answers(model, config, 15)
    assert [(one.whole, one.draws) for one in here] == [(one.whole, one.draws) for one in there]
    assert len({one.whole for one in here}) > 5


def test_a_guarded_answer_replays_and_says_how_it_was_drawn(model):
    llm = StarsGuardedLLM(model, TableReward(), guard(min_guarantee=Guarantee.TOKEN_IDS))
    result = llm.generate(PROMPT, sampling=SamplingParams(seed=5, max_tokens=MAX_TOKENS))
    replay.verify(result.trace)
    assert result.trace.guarantee is Guarantee.TOKEN_IDS
    assert Answer(result).draws


def test_a_call_draws_many_and_no_more_than_the_engine_does_at_once(fake, model):
    proposal = proposal_of(model, candidates=7, tokens=3)
    assert len(proposal.candidates) == 7
    assert proposal.tokens == sum(len(one.token_ids) for one in proposal.candidates)
    assert len(fake.asked) == 2  # five and two
    assert len({request_id for *_, request_id in fake.asked}) == 2
    alone = [proposal_of(model, candidates=1, tokens=3, first_attempt=n).candidates[0] for n in range(7)]
    assert [one.token_ids for one in proposal.candidates] == [one.token_ids for one in alone]


def test_settings_reach_the_engine(fake):
    sampling = SamplingParams(seed=3, top_k=7, top_p=0.5, min_p=0.1, repetition_penalty=1.5, temperature=0.7)
    fake.engine.draw = written([1, 0, 2, 0])
    with VLLMModel("fake", tokenizer=TOKENIZER, cache_salt="mine", max_parallel=2, dtype="float32") as model:
        session = model.start(PROMPT, sampling.changed(stop_token_ids=(2,), max_tokens=8))
        (proposal,) = model.propose([order(session, candidates=2, tokens=8, temperature=0.9)])
    assert fake.arguments == {"model": "fake", "dtype": "float32", "enforce_eager": False}
    assert [one.token_ids for one in proposal.candidates] == [(1, 0, 2)] * 2
    settings = {"temperature": 0.9, "top_k": 7, "top_p": 0.5, "min_p": 0.1, "repetition_penalty": 1.5}
    ((prompt, salt, found, _),) = fake.asked
    assert (prompt, salt, found) == (list(session.opening), "mine", settings)


def test_a_session_may_be_drawn_from_ahead(model):
    session = model.start(PROMPT, SamplingParams(seed=3, max_tokens=8))
    (candidate,) = model.propose([order(session)])[0].candidates
    (early,) = model.propose([order(model.ahead(session, candidate), segment=1)])
    session.accept(candidate)
    (late,) = model.propose([order(session, segment=1)])
    assert early == late


def test_what_the_prefix_cache_spared(fake, model):
    proposal_of(model, candidates=2)
    assert model.cached_prompt_tokens() == (fake.engine.hits, fake.engine.looked_up)
    assert fake.engine.looked_up == 2
    fake.counts = False
    with pytest.raises(GenerationError, match="vLLM counts nothing; leave disable_log_stats out"):
        model.cached_prompt_tokens()


# What is given up, and what fails


def test_an_order_that_died_is_aborted(fake, model):
    fake.silent = True
    dying = give_up(model, fake.begun, candidates=5)
    assert fake.aborted.wait(10)
    assert model.has_room
    assert model.propose([dying])[0].candidates == ()
    assert len(fake.asked) == 1


def test_an_engine_that_fails_is_an_outage_without_words(fake, model):
    fake.fails = RuntimeError("SECRET")
    with pytest.raises(GenerationError, match=r"^vLLM: RuntimeError; look into its log$"):
        proposal_of(model)
    fake.fails = None
    assert proposal_of(model).candidates


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_candidates_that_the_engine_gave_up_are_none(fake, model, reason):
    fake.finish = reason
    with pytest.raises(GenerationError, match=r"^vLLM: a candidate ended with a finish_reason other than"):
        proposal_of(model)


def test_an_outage_ends_an_answer_as_it_is_configured_to(fake, model):
    fake.fails = RuntimeError()
    llm = StarsGuardedLLM(model, KeywordReward(["x"]), guard(on_error="stop"))
    result = llm.generate(PROMPT, sampling=SamplingParams(seed=3, max_tokens=8))
    assert (result.text, result.stop_reason) == ("", StopReason.GENERATION_ERROR)


def test_it_is_closed_once_and_for_all(fake):
    before = set(threading.enumerate())
    with VLLMModel("fake", tokenizer=TOKENIZER) as model:
        session = model.start(PROMPT, SamplingParams(seed=3, max_tokens=8))
    model.close()
    assert fake.ended == 1
    assert set(threading.enumerate()) <= before
    with pytest.raises(GenerationError, match="this model is closed; make a new one"):
        model.propose([order(session)])


def test_closing_ends_those_who_wait(fake, model):
    fake.silent, found = True, []

    def ask():
        with pytest.raises(GenerationError, match="this model is closed"):
            proposal_of(model)
        found.append(True)

    caller = threading.Thread(target=ask)
    caller.start()
    assert fake.begun.wait(10)
    model.close()
    caller.join(10)
    assert found


# Collected here is also what tests before it left: some call that was cancelled leaves its socket to the
# garbage collector, which warns.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_a_model_that_is_forgotten_ends_its_engine(fake):
    model = VLLMModel("fake", tokenizer=TOKENIZER)
    del model
    gc.collect()
    assert fake.ended == 1


# What does not fit


@pytest.mark.parametrize(
    ("prompt", "sampling", "message"),
    [
        (Prompt.raw("x" * 90), {}, "90 prompt tokens plus max_tokens=32 exceed the 100 positions of fake"),
        (Prompt.of("Hello"), {"response_schema": {}}, "an engine forgets at each segment"),
        (Prompt(text=""), {}, "the prompt has no tokens"),
    ],
)
def test_prompts_that_cannot_be_served(model, prompt, sampling, message):
    with pytest.raises(PromptError, match=message):
        model.start(prompt, SamplingParams(seed=1, **{"max_tokens": 32, **sampling}))


def test_segments_cut_by_entropy_are_refused(fake, model):
    with pytest.raises(ConfigurationError, match="entropy need a local model"):
        proposal_of(model, cut=EntropyCut())
    assert fake.asked == []


def test_vllm_that_is_not_there():
    with pytest.raises(ConfigurationError, match=r"vLLM cannot be imported .*'vllm'.*pins its own torch"):
        VLLMModel("fake", tokenizer=TOKENIZER)


def test_arguments_that_vllm_does_not_take(fake):
    before = set(threading.enumerate())
    with pytest.raises(ConfigurationError, match=r"^vLLM does not start: TypeError: .*'colour'"):
        VLLMModel("fake", tokenizer=TOKENIZER, colour="red")
    assert fake.ended == 0
    assert set(threading.enumerate()) <= before


def test_an_engine_that_does_not_start(fake):
    fake.refuses = ValueError("no memory:\n  2 GiB\n")
    with pytest.raises(ConfigurationError, match=r"^vLLM does not start: ValueError: no memory: 2 GiB$"):
        VLLMModel("fake", tokenizer=TOKENIZER)


def test_no_model_at_all(fake):
    with pytest.raises(ConfigurationError, match=r"no model is named; .* as in vllm:FOLDER"):
        parts.load_model("vllm:", {})
    assert fake.arguments == {}


# By name


def test_it_is_loaded_by_name_with_the_tokenizer_beside_it(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    tiny_tokenizer().save_pretrained(tmp_path / "tiny")
    with parts.load_model("vllm:~/tiny", {"name": "mine", "enforce_eager": True}) as model:
        assert fake.arguments == {"model": str(tmp_path / "tiny"), "dtype": "auto", "enforce_eager": True}
        assert model.name == "mine"
        assert model.start(Prompt.of("Hello"), SamplingParams(seed=1, max_tokens=8)).prompt_tokens > 5
    with pytest.raises(ConfigurationError, match="there is no such folder"):
        parts.load_model("vllm:./nowhere", {})


def test_it_is_guarded_by_name(fake, tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    ids = tokenizer("safe", add_special_tokens=False)["input_ids"]
    fake.engine = FakeEngine(lambda drawn, seed, step: [*ids, tokenizer.eos_token_id][step], tokenizer)
    config = guard(threshold=Constant(target=0.0), acceptance=Hard())
    reward = tmp_path / "reward.py"
    reward.write_text("def calm(prompt, response):\n    return 1.0\n")
    llm = StarsGuardedLLM.load(f"vllm:{tmp_path}", f"{reward}:calm", config)
    assert llm.generate("Hello", sampling=SamplingParams(seed=1, max_tokens=2)).trace.guarantee == "token_ids"


def test_a_forked_process_is_told_to_start_an_engine_of_its_own(model):
    session = model.start(PROMPT, SamplingParams(seed=3, max_tokens=8))
    model._client.renew()
    with pytest.raises(GenerationError, match="start one after a fork"):
        model.propose([order(session)])
