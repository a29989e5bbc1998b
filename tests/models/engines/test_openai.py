"""Language models behind an inference server, by token ids: a server on the loopback, a table behind it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from stars_guard.algorithm import replay
from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Constant, Hard
from stars_guard.algorithm.segments import Boundary, EntropyCut, FixedLength
from stars_guard.errors import ConfigurationError, GenerationError, PromptError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.models.base import (
    BatchesItself,
    CountsPrompts,
    DeclaresGuarantee,
    HasTokenizer,
    LanguageModel,
    Order,
)
from stars_guard.models.engines.by_ids import seed_of
from stars_guard.models.engines.openai import OpenAICompatibleModel
from stars_guard.models.engines.profiles import LLAMA_CPP, SERVERS, SGLANG, VLLM
from stars_guard.prompts import Message, Prompt, Tools
from stars_guard.testing import KeywordReward, TabularModel
from stars_guard.types import Candidate, Finish, Guarantee, StopReason
from tests.loop.test_exactness import (
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
from tests.support.http_engine import Abandoned, FakeEngine, HttpEngine, TableTokenizer, tabular, written
from tests.support.http_judge import Reply
from tests.support.tiny import tiny_tokenizer

TOKENIZER = TableTokenizer((*VOCABULARY, ""), EOS)
PROMPT = Prompt.raw("x")
WHERE = {"vllm": "/v1/completions", "sglang": "/v1/completions", "llamacpp": "/completion"}


def table_engine(draw=None, tokenizer=TOKENIZER, **options):
    return FakeEngine(draw or tabular(distribution), tokenizer, **options)


def model_at(server, engine="vllm", **options):
    return OpenAICompatibleModel(server.url, engine, **{"tokenizer": server.engine.tokenizer, **options})


def order(session, candidates=1, tokens=2, alive=lambda: True, **changes):
    parts = {"segment": 0, "first_attempt": 0, "ends_answer": False, "cut": FixedLength(max_tokens=tokens)}
    return Order(session, candidates=candidates, alive=alive, **{**parts, **changes})


def proposal_of(model, sampling=None, prompt=PROMPT, **options):
    session = model.start(prompt, sampling or SamplingParams(seed=3, max_tokens=8))
    (proposal,) = model.propose([order(session, **options)])
    return proposal


def sent(server, path="/v1/completions"):
    return server.engine.bodies[path]


def test_it_is_what_the_engine_loop_asks_for():
    with HttpEngine(table_engine()) as server, model_at(server) as model:
        assert isinstance(model, LanguageModel)
        assert isinstance(model, BatchesItself)
        assert isinstance(model, DeclaresGuarantee)
        assert isinstance(model, HasTokenizer)
        assert model.guarantee is Guarantee.TOKEN_IDS
        assert model.has_room
        assert model.name == f"vllm at {server.url}"
        assert server.asked == []


# The law


def answers(model, config, number):
    llm = StarsGuardedLLM(model, TableReward(), config)
    params = [SamplingParams(seed=seed, max_tokens=MAX_TOKENS) for seed in range(number)]
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(lambda one: Answer(llm.generate(PROMPT, sampling=one)), params))


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_whole_answers_follow_the_enumerated_law(engine):
    config = guard(max_attempts=4)
    fake = table_engine(same_seed=engine == "sglang")
    with HttpEngine(fake) as server, model_at(server, engine) as model:
        results = answers(model, config, 200)
    assert p_value([one.whole for one in results], answer_law(config)) > ERROR_RATE


@pytest.mark.parametrize("engine", WHERE)
@pytest.mark.parametrize("candidates", [2, 5])
def test_candidates_drawn_in_one_call_give_the_very_same_answers(engine, candidates):
    fake = table_engine(same_seed=engine == "sglang")
    with HttpEngine(fake) as server, model_at(server, engine) as model:
        alone = answers(model, guard(drawing=Fixed(candidates=1)), 15)
        together = answers(model, guard(drawing=Fixed(candidates=candidates)), 15)
    assert [(one.whole, one.draws) for one in together] == [(one.whole, one.draws) for one in alone]


def test_seeds_are_addressed():
    seeds = {seed_of(SGLANG, 7, segment, n)["seed"] for segment in range(20) for n in range(20)}
    assert len(seeds) == 400
    assert max(seeds) < 2**31
    first = seed_of(VLLM, 7, 3, 0)["seed"]
    assert [seed_of(VLLM, 7, 3, n)["seed"] for n in range(4)] == [first, first + 1, first + 2, first + 3]
    assert seed_of(VLLM, 7, 4, 0)["seed"] != first
    assert seed_of(VLLM, 8, 3, 0)["seed"] != first
    assert seed_of(VLLM.changed(seed=None), 7, 3, 0) == {}
    assert max(seed_of(LLAMA_CPP, n, 0, 0)["seed"] for n in range(200)) < 2**30


def test_choices_of_one_seed_would_be_alike():
    with HttpEngine(table_engine(same_seed=True)) as server, model_at(server) as model:
        assert len({one.token_ids for one in proposal_of(model, candidates=4, tokens=4).candidates}) == 1
    with HttpEngine(table_engine(same_seed=True)) as server, model_at(server, "sglang") as model:
        assert len({one.token_ids for one in proposal_of(model, candidates=4, tokens=4).candidates}) > 1


def test_a_guarded_answer_replays_and_says_how_it_was_drawn():
    with HttpEngine(table_engine()) as server, model_at(server) as model:
        llm = StarsGuardedLLM(model, TableReward(), guard(min_guarantee=Guarantee.TOKEN_IDS))
        result = llm.generate(PROMPT, sampling=SamplingParams(seed=5, max_tokens=8))
    replay.verify(result.trace)
    assert result.trace.guarantee is Guarantee.TOKEN_IDS
    assert result.trace.model == model.name
    asked = sum(body.get("n", 1) for body in sent(server))
    assert result.usage.forward_passes == asked


# What is sent


@pytest.mark.parametrize("engine", WHERE)
def test_what_was_accepted_goes_out_as_ids(engine):
    with HttpEngine(table_engine()) as server, model_at(server, engine) as model:
        session = model.start(PROMPT, SamplingParams(seed=3, max_tokens=8))
        session.accept(Candidate((0, 1), "ab"))
        model.propose([order(session)])
        assert session.prompt_tokens == 1
        assert [body["prompt"] for body in sent(server, WHERE[engine])] == [[*session.opening, 0, 1]]


def test_one_call_draws_all_candidates_but_no_more_than_the_engine_likes():
    with HttpEngine(table_engine()) as server, model_at(server, max_parallel=3) as model:
        proposal = proposal_of(model, candidates=8)
        assert [body.get("n", 1) for body in sorted(sent(server), key=lambda one: one["seed"])] == [3, 3, 2]
        assert len(proposal.candidates) == 8
        assert proposal.tokens == server.engine.drawn


def test_rejected_candidates_cost_no_second_prefill():
    with HttpEngine(table_engine()) as server, model_at(server) as model:
        session = model.start(Prompt.raw("x" * 50), SamplingParams(seed=3, max_tokens=8))
        rounds = [model.propose([order(session, 4, first_attempt=4 * n)])[0] for n in range(3)]
        hits, asked = model.cached_prompt_tokens()
        assert asked == 12 * 50
        assert asked - hits == 50 + 11  # once the prompt, then its last token alone
        session.accept(rounds[-1].candidates[0])
        model.propose([order(session, segment=1)])
        new_hits, new_asked = model.cached_prompt_tokens()
        assert new_asked - asked - (new_hits - hits) == 1


SAMPLED = SamplingParams(
    seed=3, max_tokens=8, temperature=0.5, top_k=0, top_p=0.9, min_p=0.1, repetition_penalty=1.2
)


@pytest.mark.parametrize(
    ("engine", "fields"),
    [
        ("vllm", {"temperature": 0.5, "top_k": 0, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.2}),
        ("sglang", {"temperature": 0.5, "top_k": -1, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.2}),
        ("llamacpp", {"temperature": 0.5, "top_k": 0, "min_p": 0.1, "repeat_penalty": 1.2}),
    ],
)
def test_every_sampling_parameter_is_said(engine, fields):
    with HttpEngine(table_engine()) as server, model_at(server, engine) as model:
        proposal_of(model, SAMPLED)
        (body,) = sent(server, WHERE[engine])
        assert {key: body[key] for key in fields} == fields
        proposal_of(model, SAMPLED.changed(top_k=5), temperature=0.75)
        assert (sent(server, WHERE[engine])[1]["top_k"], body["temperature"]) == (5, 0.5)
        assert sent(server, WHERE[engine])[1]["temperature"] == 0.75


def test_a_retry_leaves_out_what_would_repeat_the_first_attempt():
    with HttpEngine(table_engine()) as server, model_at(server, "vllm") as model:
        proposal_of(model, SAMPLED.changed(top_k=1, top_p=0.01, min_p=1, temperature=0), temperature=0.7)
        (body,) = sent(server, WHERE["vllm"])
        asked = {"temperature": 0.7, "top_k": 0, "top_p": 0.95, "min_p": 0, "repetition_penalty": 1.2}
        assert {key: body[key] for key in asked} == asked


def test_model_and_salt_are_said():
    with (
        HttpEngine(table_engine()) as server,
        model_at(server, model="m", cache_salt="secret") as model,
    ):
        proposal_of(model)
        assert (sent(server)[0]["model"], sent(server)[0]["cache_salt"], model.name) == ("m", "secret", "m")


# Where candidates end


def test_an_end_of_sequence_ends_the_answer():
    fake = table_engine(written([0, EOS]))
    with HttpEngine(fake) as server, model_at(server) as model:
        (candidate,) = proposal_of(model, tokens=4).candidates
    assert (candidate.token_ids, candidate.text, candidate.finish) == ((0, EOS), "a", Finish.EOS)


@pytest.mark.parametrize("engine", WHERE)
def test_stop_token_ids_end_it_too(engine):
    with HttpEngine(table_engine(written([0, 1, 2, 0, 0]))) as server, model_at(server, engine) as model:
        (candidate,) = proposal_of(
            model, SamplingParams(seed=3, max_tokens=8, stop_token_ids=(1,)), tokens=4
        ).candidates
        assert (candidate.token_ids, candidate.text, candidate.finish) == ((0, 1), "a", Finish.EOS)
        assert server.engine.drawn == (4 if engine == "llamacpp" else 2)


def test_a_stop_string_may_begin_in_one_segment_and_end_in_the_next():
    with HttpEngine(table_engine(written([0, 1, 2, 0, 1, 2]))) as server, model_at(server) as model:
        session = model.start(PROMPT, SamplingParams(seed=3, max_tokens=8, stop="b."))
        session.accept(model.propose([order(session)])[0].candidates[0])
        (candidate,) = model.propose([order(session, segment=1, tokens=4)])[0].candidates
    assert (candidate.token_ids, candidate.text, candidate.finish) == ((2,), "a", Finish.STOP)


def test_segments_are_cut_at_boundaries():
    cut = Boundary(min_tokens=1, max_tokens=4)
    with HttpEngine(table_engine(written([0, 2, 1, 1]))) as server, model_at(server) as model:
        proposal = proposal_of(model, cut=cut)
    assert (proposal.candidates[0].token_ids, proposal.candidates[0].finish) == ((0, 2), None)
    assert proposal.tokens == 4


def test_the_last_segment_reaches_the_limit():
    with HttpEngine(table_engine(written([0] * 9))) as server, model_at(server) as model:
        assert proposal_of(model, ends_answer=True).candidates[0].finish is Finish.LENGTH


def test_segments_cannot_be_cut_by_entropy():
    with (
        HttpEngine(table_engine()) as server,
        model_at(server) as model,
        pytest.raises(ConfigurationError, match="entropy need a local model"),
    ):
        proposal_of(model, cut=EntropyCut())


def test_a_guard_that_would_cut_by_entropy_is_refused_before_anything_is_asked():
    by_entropy = GuardConfig(threshold=Constant(target=0), segments=EntropyCut())
    fake = table_engine()
    with HttpEngine(fake) as server, model_at(server) as model:
        with pytest.raises(ConfigurationError, match="entropy need a local model"):
            StarsGuardedLLM(model, TableReward(), by_entropy)
        llm = StarsGuardedLLM(model, TableReward(), by_entropy.changed(segments=FixedLength()))
        with pytest.raises(ConfigurationError, match="entropy need a local model"):
            llm.generate("x", config=by_entropy)
    assert not fake.bodies


def test_characters_that_are_spread_over_tokens_are_shown_whole():
    tokenizer = tiny_tokenizer()
    ids = tokenizer("ni€o", add_special_tokens=False)["input_ids"]
    fake = table_engine(lambda drawn, seed, step: ids[(len(drawn) - prompt) % len(ids)], tokenizer)
    with HttpEngine(fake) as server, model_at(server) as model:
        session = model.start(Prompt.of("Hello?"), SamplingParams(seed=3, max_tokens=8))
        prompt = session.prompt_tokens
        texts = []
        for segment in range(len(ids)):
            (proposal,) = model.propose([order(session, tokens=1, segment=segment)])
            session.accept(proposal.candidates[0])
            texts.append(session.text)
    assert texts[-1] == "ni€o"
    assert {"\ufffd" in text for text in texts} == {False}
    assert texts.count("ni") >= 2


# Faults


def choices(*found):
    return Reply({"choices": list(found)})


GOOD = {"token_ids": [0, 1], "finish_reason": "length"}


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply([]), "does not hold 1 choices"),
        (Reply({"choices": None}), "does not hold 1 choices"),
        (choices(), "does not hold 1 choices"),
        (choices(GOOD, GOOD), "does not hold 1 choices"),
        (choices("a"), "does not hold 1 choices"),
        (choices({"text": "SECRET", "finish_reason": "length"}), "holds no token ids in 'token_ids'"),
        (choices({**GOOD, "token_ids": ["1"]}), "holds no token ids"),
        (choices({**GOOD, "token_ids": [-1]}), "holds no token ids"),
        (choices({**GOOD, "token_ids": [True]}), "holds no token ids"),
        (
            choices({**GOOD, "finish_reason": "abort"}),
            "ended with a finish_reason other than stop, length; look at the engine",
        ),
        (choices({**GOOD, "finish_reason": None}), "ended with a finish_reason other"),
        (choices({**GOOD, "finish_reason": ["x"]}), "ended with a finish_reason other"),
    ],
)
def test_what_is_no_answer_is_a_generation_error(reply, message):
    with HttpEngine(table_engine(), reply) as server, model_at(server) as model:
        with pytest.raises(GenerationError, match=message) as caught:
            proposal_of(model)
        assert f"{server.url}/v1/completions" in str(caught.value)
        assert "SECRET" not in str(caught.value)


def test_choices_may_have_any_number():
    reply = choices({**GOOD, "index": "x"})
    with HttpEngine(table_engine(), reply) as server, model_at(server) as model:
        assert proposal_of(model).candidates[0].token_ids == (0, 1)


def test_a_context_that_is_full_ends_the_answer():
    reply = choices({**GOOD, "token_ids": [0]})
    with HttpEngine(table_engine(), reply) as server, model_at(server) as model:
        assert proposal_of(model).candidates[0].finish is Finish.LENGTH


def test_an_outage_in_the_middle_shows_nothing_unjudged():
    config = GuardConfig(threshold=Constant(target=0), acceptance=Hard(), segments=FixedLength(max_tokens=2))
    config = config.changed(on_error="stop", drawing=Fixed(candidates=1))
    fake = table_engine(written([0, 1] * 9))
    with HttpEngine(fake, fake, Reply(status=500)) as server, model_at(server) as model:
        model.ahead = None
        llm = StarsGuardedLLM(model, KeywordReward(["x"]), config)
        result = llm.generate(PROMPT, sampling=SamplingParams(seed=3, max_tokens=8))
    assert (result.text, result.stop_reason) in [("ab", StopReason.GENERATION_ERROR)]


# Many at once


def give_up(model, begun, candidates=1):
    """Order candidates, and want them no more once the engine has begun with them; the order."""
    dead, found = threading.Event(), []
    session = model.start(PROMPT, SamplingParams(seed=3, max_tokens=8))
    dying = order(session, candidates=candidates, alive=lambda: not dead.is_set())
    caller = threading.Thread(target=lambda: found.extend(model.propose([dying])))
    caller.start()
    assert begun.wait(10)
    assert not model.has_room
    dead.set()
    caller.join(10)
    assert (found[0].candidates, found[0].tokens) == ((), 0)
    return dying


def test_an_order_that_died_closes_its_connection():
    step = Abandoned()
    with HttpEngine(table_engine(), step) as server, model_at(server, max_parallel=1) as model:
        give_up(model, step.begun)
        assert step.noticed.wait(10)
        assert model.has_room


def test_a_session_may_be_drawn_from_ahead():
    with HttpEngine(table_engine()) as server, model_at(server) as model:
        session = model.start(PROMPT, SamplingParams(seed=3, max_tokens=8))
        (candidate,) = model.propose([order(session)])[0].candidates
        ahead = model.ahead(session, candidate)
        assert (session.token_ids, ahead.token_ids) == ((), candidate.token_ids)
        (early,) = model.propose([order(ahead, segment=1)])
        session.hold(candidate)
        session.accept(candidate)
        (late,) = model.propose([order(session, segment=1)])
        session.close()
        assert early == late
        assert session.forward_passes == ahead.forward_passes == 3


# What is refused

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
ASKED = (Message(role="user", content="Hello"),)


@pytest.mark.parametrize(
    ("prompt", "sampling", "message"),
    [
        (Prompt.raw("x" * 90), {}, "90 prompt tokens plus max_tokens=32 exceed the 100 positions of fake"),
        (Prompt.of("Hello"), {"response_schema": {}}, "an engine forgets at each segment"),
        (Prompt(ASKED, tools=Tools((TOOL,), "any")), {}, "an engine forgets at each segment"),
        (Prompt(ASKED, tools=Tools((TOOL,))), {}, "no chat template in use, and tools need one"),
        (Prompt(text=""), {}, "the prompt has no tokens"),
    ],
)
def test_prompts_that_cannot_be_served(prompt, sampling, message):
    with (
        HttpEngine(table_engine()) as server,
        model_at(server, name="fake", context_window=100) as model,
        pytest.raises(PromptError, match=message),
    ):
        model.start(prompt, SamplingParams(seed=1, **{"max_tokens": 32, **sampling}))


def test_how_long_a_prompt_is_is_said_before_it_is_served():
    with HttpEngine(table_engine()) as server:
        for guarantee in ("token_ids", "text"):
            with model_at(server, guarantee=guarantee, context_window=100) as model:
                assert isinstance(model, CountsPrompts)
                assert model.context_window == 100
                assert model.prompt_tokens(Prompt.raw("xxx")) == 3
        for options in ({"guarantee": "prefill"}, {"guarantee": "text", "tokenizer": None}):
            with model_at(server, **options) as model:
                assert (model.context_window, model.prompt_tokens(Prompt.raw("x"))) == (None, None)


@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        ("nobody", {}, "there is no engine 'nobody'; there are: vllm, sglang, llamacpp"),
        ("llamacpp", {"cache_salt": "s"}, "llamacpp keeps no caches apart"),
        ("vllm", {"cache_salt": ""}, "cache_salt is empty"),
        ("sglang", {"guarantee": "token_ids", "tokenizer": None}, "pass tokenizer="),
        ("openai", {"guarantee": "token_ids"}, "openai cannot give guarantee token_ids; take a weaker one"),
        ("openai", {"guarantee": "prefill"}, "cannot give guarantee prefill"),
        ("vllm", {"guarantee": "best"}, "guarantee 'best' is none of token_ids, text, prefill, whole"),
        ("vllm", {"tokenizer": "/nowhere"}, "there is no such folder"),
        ("vllm", {"prompt_format": "chat"}, "needs a tokenizer with a chat template"),
    ],
)
def test_what_does_not_fit_is_found_at_construction(engine, options, message):
    with pytest.raises(ConfigurationError, match=message):
        OpenAICompatibleModel("http://localhost", engine, **{"tokenizer": TOKENIZER, **options})


def test_sessions_of_other_models_are_refused():
    other = TabularModel(distribution, VOCABULARY).start(PROMPT, SamplingParams())
    with (
        HttpEngine(table_engine()) as server,
        model_at(server) as model,
        pytest.raises(TypeError, match="session of another model"),
    ):
        model.propose([order(other)])


@pytest.mark.parametrize("metrics", [b"# nothing\n", b"vllm:other 1.0\nalone\n"])
def test_counters_that_are_not_there(metrics):
    with (
        HttpEngine(table_engine(), Reply(raw=metrics)) as server,
        model_at(server) as model,
        pytest.raises(GenerationError, match="no counters of a prefix cache"),
    ):
        model.cached_prompt_tokens()


def test_profiles_are_found_by_name():
    assert all(SERVERS[name].name == name for name in SERVERS)
