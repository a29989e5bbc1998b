"""Models in vLLM that hand out hidden states: a server on the loopback that writes those of a tiny model."""

from __future__ import annotations

import os
import sys

import pytest

pytest.importorskip("torch")

import torch

from stars_guard.algorithm import replay
from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Constant, Hard, Last
from stars_guard.algorithm.segments import Boundary, FixedLength
from stars_guard.errors import ConfigurationError, GenerationError, PromptError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading.parts import load_model
from stars_guard.loading.specs import EngineServer
from stars_guard.models.base import BatchesItself, HandsOutLayers, ObservableModel, Order, ReadsStates
from stars_guard.models.engines import observable
from stars_guard.models.engines.observable import ModelShape, ObservableServer, ObservableVLLM
from stars_guard.models.engines.openai import OpenAICompatibleModel
from stars_guard.models.engines.written_states import StateFiles, WrittenStates
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.prompts import Prompt
from stars_guard.rewards.classifiers.probe import ProbeHead, ProbeReward, ProbeSettings
from stars_guard.types import Finish
from tests.support.fake_vllm import FakeVLLM
from tests.support.http_engine import HttpEngine
from tests.support.tiny import tiny_tokenizer
from tests.support.writing_engine import LAYERS, WritingEngine, any_token, expected, llama, same

SHAPE = ModelShape(layers=2, vocabulary=384)
PROMPT = Prompt.of("How do I bake a loaf?")
SAMPLING = SamplingParams(seed=3, max_tokens=12)


@pytest.fixture
def engine(tmp_path):
    engine = WritingEngine(folder=tmp_path)
    yield engine
    for lock in engine.held:
        lock.close()


@pytest.fixture
def server(engine):
    with HttpEngine(engine) as server:
        yield server


def observable_at(server, **options):
    given = {"tokenizer": tiny_tokenizer(), "states": server.engine.states, "shape": SHAPE, **options}
    return ObservableServer(server.url, "vllm", **given)


@pytest.fixture
def model(server):
    with observable_at(server) as model:
        yield model


def local():
    return TransformersModel(llama(), tiny_tokenizer(), name="tiny")


def probe_for(identity, layers=(1, 2)):
    settings = ProbeSettings(
        layers=layers,
        model_name=identity.name,
        model_layers=identity.layers,
        hidden_size=identity.hidden_size,
        signature=identity.signature,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return ProbeReward(settings, ProbeHead(settings.features, 4))


def drawn(model, session, candidates=1, tokens=4, **changes):
    parts = {"segment": 0, "first_attempt": 0, "ends_answer": False, "alive": lambda: True}
    order = Order(
        session, candidates=candidates, **{"cut": FixedLength(max_tokens=tokens), **parts, **changes}
    )
    (proposal,) = model.propose([order])
    return proposal


def test_it_is_known_by_its_embedding_and_no_other_model_is_observable(server, model):
    assert isinstance(model, ObservableModel)
    assert isinstance(model, HandsOutLayers)
    assert isinstance(model, ReadsStates)
    assert isinstance(model, BatchesItself)
    here = local().identity
    assert model.identity.signature == pytest.approx(here.signature)
    assert (model.identity.layers, model.identity.hidden_size) == (here.layers, here.hidden_size)
    assert model.handed_out == LAYERS
    plain = OpenAICompatibleModel(server.url, "vllm", tokenizer=tiny_tokenizer())
    assert not isinstance(plain, ObservableModel)
    assert not isinstance(local(), HandsOutLayers)


def test_candidates_carry_the_states_of_the_whole_answer(engine, model):
    session = model.observe(PROMPT, SAMPLING, (1, 2))
    assert same(session.hidden, expected(model.identity, session.opening, [], (1, 2)))
    proposal = drawn(model, session, candidates=3)
    assert proposal.tokens == 3 * 5  # one past each segment
    for candidate in proposal.candidates:
        assert len(candidate.token_ids) == 4
        assert candidate.finish is None
        states = expected(model.identity, session.opening, candidate.token_ids, (1, 2))
        assert same(candidate.hidden, states)
    first = proposal.candidates[0]
    early = drawn(model, model.ahead(session, first), segment=1).candidates[0]
    session.accept(first)
    assert session.hidden is first.hidden
    (late,) = drawn(model, session, segment=1).candidates
    assert (late.token_ids, late.text) == (early.token_ids, early.text)
    whole = [*first.token_ids, *late.token_ids]
    assert same(late.hidden, expected(model.identity, session.opening, whole, (1, 2)))
    assert list(engine.folder.iterdir()) == []


def test_candidates_are_those_of_a_model_that_is_not_observed(server, model):
    with OpenAICompatibleModel(server.url, "vllm", tokenizer=tiny_tokenizer()) as plain:
        there = drawn(plain, plain.start(PROMPT, SAMPLING), candidates=3, ends_answer=True).candidates
    here = drawn(model, model.observe(PROMPT, SAMPLING, (1,)), candidates=3, ends_answer=True).candidates
    assert [(one.token_ids, one.text, one.finish) for one in here] == [
        (one.token_ids, one.text, one.finish) for one in there
    ]
    assert {one.finish for one in here} == {Finish.LENGTH}


@pytest.mark.parametrize("at", [0, 2, 4])
def test_what_ends_an_answer_is_no_part_of_its_states(engine, model, at):
    eos = engine.tokenizer.eos_token_id
    engine.draw = lambda ids, seed, step: eos if step == at else any_token(ids, seed, step)
    session = model.observe(PROMPT, SAMPLING, (1,))
    (candidate,) = drawn(model, session).candidates
    read = candidate.token_ids if at == 4 else candidate.token_ids[:-1]
    assert candidate.finish is (None if at == 4 else Finish.EOS)
    assert len(read) == at
    assert same(candidate.hidden, expected(model.identity, session.opening, read, (1,)))


def test_segments_that_end_by_their_text(engine, model):
    ids = engine.tokenizer("Mix it. Then wait. ", add_special_tokens=False)["input_ids"]
    engine.draw = lambda _, seed, step: ids[step % len(ids)]
    session = model.observe(PROMPT, SamplingParams(seed=3, max_tokens=60), (2,))
    (candidate,) = drawn(model, session, cut=Boundary(min_tokens=1, max_tokens=40)).candidates
    assert candidate.text.strip() == "Mix it."
    assert same(candidate.hidden, expected(model.identity, session.opening, candidate.token_ids, (2,)))


def test_a_guarded_answer_with_a_probe(server, model):
    probe = probe_for(local().identity)
    config = GuardConfig(
        threshold=Constant(target=0.2),
        acceptance=Hard(),
        segments=FixedLength(max_tokens=4),
        drawing=Fixed(candidates=2),
        max_attempts=4,
        exhaustion=Last(),
    )
    result = StarsGuardedLLM(model, probe, config).generate(PROMPT, sampling=SAMPLING)
    replay.verify(result.trace)
    rewards = [attempt.reward for segment in result.trace.segments for attempt in segment.attempts]
    assert len(set(rewards)) > 3
    paths = server.engine.bodies["/v1/completions"]
    assert all("n" not in body for body in paths)
    assert len({body["request_id"] for body in paths}) == len(paths)
    with pytest.raises(ConfigurationError, match="reads the hidden states of tiny"):
        StarsGuardedLLM(OpenAICompatibleModel(server.url, "vllm", tokenizer=tiny_tokenizer()), probe, config)


def test_texts_are_read_as_a_local_model_reads_them(engine, model):
    texts = [(PROMPT, "Mix the flour, then wait."), (Prompt.raw("So"), ""), (PROMPT, "Wait.")]
    lengths = [None, 0, 3, 400]
    model._max_parallel = 2
    here = model.read_states(texts, (0, 2), lengths)
    there = local().read_states(texts, (0, 2), lengths)
    assert all(
        same(a, b) for one, other in zip(here, there, strict=True) for a, b in zip(one, other, strict=True)
    )
    begun = len(engine.bodies["/v1/completions"])
    ((few,),) = model.read_states(texts[:1], (1,), [2])
    assert few.tokens == 2
    (body,) = engine.bodies["/v1/completions"][begun:]
    assert len(body["prompt"]) == len(local().encode(PROMPT)) + 2
    assert list(engine.folder.iterdir()) == []


# What is refused


def test_what_cannot_hand_out_states(server, monkeypatch):
    with pytest.raises(ConfigurationError, match="sglang hands out no hidden states"):
        ObservableServer(server.url, "sglang", tokenizer=tiny_tokenizer(), states=server.engine.states)
    with pytest.raises(ConfigurationError, match="pass tokenizer="):
        observable_at(server, tokenizer=None)
    with pytest.raises(ConfigurationError, match="no guarantee but token_ids"):
        observable_at(server, guarantee="text")
    with pytest.raises(ConfigurationError, match=r"no config\.json beside the tokenizer"):
        observable_at(server, shape=None)


def test_the_shape_is_that_beside_the_tokenizer(server, tmp_path):
    llama().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    with observable_at(server, shape=None, tokenizer=str(tmp_path / "model")) as model:
        assert model.identity.layers == 2
    spec = EngineServer(kind="openai", url=server.url, tokenizer=str(tmp_path / "model"))
    states = {"states": server.engine.states}
    for given, options in ((spec.changed(**states), {}), (spec, states)):
        with load_model(given, options) as model:
            assert isinstance(model, ObservableServer)
            assert (model.name, model.context_window) == ("fake", 512)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"says": lambda path: None}, "hands out no hidden states; start it with extract_hidden_states"),
        ({"says": lambda path: {"hidden_states_path": 3}}, "hands out no hidden states"),
        ({"writes": lambda tensors: None}, r"cannot be read \(FileNotFoundError\)"),
        ({"locks": False}, r"no hidden states came into .* within 0\.2 s"),
        ({"writes": lambda t: {**t, "token_ids": t["token_ids"] + 1}}, "those of other tokens"),
        (
            {"writes": lambda t: {**t, "hidden_states": t["hidden_states"][:, :2]}},
            r"not those of layers \[0, 1, 2\]",
        ),
    ],
)
def test_what_is_not_there_is_refused_at_once_and_ends_answers_later(engine, server, model, fault, message):
    session = model.observe(PROMPT, SAMPLING, (1,))
    for name, value in fault.items():
        setattr(engine, name, value)
    with pytest.raises(ConfigurationError, match=message):
        observable_at(server)
    with pytest.raises(GenerationError, match=message):
        drawn(model, session)
    with pytest.raises(GenerationError, match=message):
        model.observe(PROMPT, SAMPLING, (1,))


def test_an_engine_that_draws_no_token_past_the_segment(engine, model):
    session = model.observe(PROMPT, SAMPLING, (1,))
    whole = engine._sequence
    engine._sequence = lambda ids, seed, most, ends: whole(ids, seed, most - 1, ends)
    with pytest.raises(GenerationError, match="no token past the segment"):
        drawn(model, session)


def test_bounds(server, model):
    with pytest.raises(ConfigurationError, match=r"layers \[0, 1, 2\], and \[3\] are wanted too"):
        model.observe(PROMPT, SAMPLING, (1, 3))
    with pytest.raises(PromptError, match="cannot sample with min_p"):
        model.start(PROMPT, SAMPLING.changed(min_p=0.1))
    room = len(local().encode(PROMPT)) + SAMPLING.max_tokens
    with observable_at(server, context_window=room) as tight:
        tight.start(PROMPT, SAMPLING)
        with pytest.raises(PromptError, match="exceed"):
            tight.observe(PROMPT, SAMPLING, (1,))


# Files


def test_files_of_sessions_that_nobody_observes_are_removed(engine, model):
    (candidate,) = drawn(model, model.start(PROMPT, SAMPLING)).candidates
    assert candidate.hidden is None
    assert len(candidate.token_ids) == 4
    assert list(engine.folder.iterdir()) == []
    engine.says = lambda path: None
    assert drawn(model, model.start(PROMPT, SAMPLING)).candidates


def test_abandoned_files_are_swept_and_those_of_others_left(engine, model):
    mark = model._way._mark
    old, new, other = (engine.folder / f"cmpl-{name}.safetensors" for name in (f"{mark}-1", f"{mark}-2", "x"))
    for place in (old, new, other):
        place.touch()
    os.utime(old, (1, 1))
    model.observe(PROMPT, SAMPLING, (1,))
    assert sorted(engine.folder.iterdir()) == sorted([new, other])
    model.close()
    assert list(engine.folder.iterdir()) == [other]


def test_a_file_that_goes_while_it_is_looked_at(engine, monkeypatch):
    gone = engine.folder / "cmpl-mark-1"
    monkeypatch.setattr(type(engine.folder), "glob", lambda folder, pattern: iter([gone]))
    StateFiles(engine.states, "mark").sweep()


@pytest.mark.parametrize("layers", [(1, 2), (0, 2, 1), (0, 1, 1), (0,)])
def test_layers_begin_with_the_embedding_and_rise(tmp_path, layers):
    with pytest.raises(ConfigurationError):
        WrittenStates(folder=tmp_path, layers=layers)


# In this process


@pytest.fixture
def fake(engine, monkeypatch):
    fake = FakeVLLM(engine)
    for name, module in fake.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    return fake


def test_in_this_process_it_is_told_where_to_write(fake, engine, tmp_path, monkeypatch):
    monkeypatch.setattr(observable, "_FAST", tmp_path / "none")
    started = []

    def at(config):
        started.append(config)
        engine.folder = observable.Path(config.kv_connector_extra_config["shared_storage_path"])

    fake.starting = at
    connector = {"kv_connector": "Mine", "kv_connector_extra_config": {"num_writer_threads": 1}}
    with ObservableVLLM(
        "/models/fake", hidden_layers=(2, 1), tokenizer=tiny_tokenizer(), kv_transfer_config=connector
    ) as model:
        (config,) = started
        assert (config.kv_connector, config.kv_role) == ("Mine", "kv_producer")
        assert config.kv_connector_extra_config["num_writer_threads"] == 1
        folder = engine.folder
        assert folder.is_dir()
        assert fake.arguments["speculative_config"] == observable.extracting(LAYERS)["speculative_config"]
        assert model.identity.signature == pytest.approx(local().identity.signature)
        session = model.observe(PROMPT, SAMPLING, (1,))
        (candidate,) = drawn(model, session).candidates
        assert same(candidate.hidden, expected(model.identity, session.opening, candidate.token_ids, (1,)))
        assert all(request_id.startswith("stars-guard-") for *_, request_id in fake.asked)
    assert not folder.exists()


def test_without_vllm_the_model_says_what_is_to_be_done(monkeypatch):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ConfigurationError, match="vLLM cannot be imported here"):
        ObservableVLLM("/models/fake", hidden_layers=(1,), tokenizer=tiny_tokenizer())


def test_where_files_are_memory_they_are_there(fake, engine, tmp_path, monkeypatch):
    monkeypatch.setattr(observable, "_FAST", tmp_path)
    fake.refuses = RuntimeError("no")
    with pytest.raises(ConfigurationError, match="does not start"):
        ObservableVLLM("/models/fake", hidden_layers=(1,), tokenizer=tiny_tokenizer())
    (config,) = [fake.arguments.get("kv_transfer_config")] if fake.arguments else [None]
    assert config is None
