"""Observed sessions: candidates carry the hidden states of every token that they show."""

from __future__ import annotations

import pytest
import torch

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Constant, Hard, LinearInTokens, Refuse
from stars_guard.algorithm.segments import EntropyCut, FixedLength
from stars_guard.errors import ConfigurationError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loop.loop import Loop
from stars_guard.loop.sources import Proposers
from stars_guard.models.base import Order
from stars_guard.models.local import reading
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import hidden_state_readers
from stars_guard.rewards.channels import ByChannel
from stars_guard.rewards.combine import Minimum
from stars_guard.rewards.function import FunctionReward
from stars_guard.testing import KeywordReward, ScriptedModel
from stars_guard.types import Finish, Reward
from tests.support.tiny import tiny_llama, tiny_mistral_sliding, tiny_qwen_hybrid, tiny_tokenizer

LAYERS = (0, 1, 2)
BUILDS = [tiny_llama, tiny_mistral_sliding, tiny_qwen_hybrid]


class Watcher:
    """Reads hidden states of two layers; remembers what it was shown."""

    def __init__(self, layers=LAYERS, fits=True):
        self.name = "watcher"
        self.hidden_layers = layers
        self.seen = []
        self._fits = fits

    def observes(self, model):
        if model is None or not self._fits:
            raise ConfigurationError(f"made for another model than {model.name if model else 'such a one'}")
        return True

    def score(self, requests):
        self.seen += requests
        return [Reward(float(len(self.seen) % 3)) for _ in requests]

    def release(self, run_id):
        pass


def local(build=tiny_llama):
    return TransformersModel(build(), tiny_tokenizer())


def order(session, segment=0, candidates=1, cut=None, ends=False):
    return Order(session, segment, 0, candidates, cut or FixedLength(max_tokens=6), ends, lambda: True)


def expected(model, prompt, ids):
    """Averages and last states by a fresh pass over everything."""
    begin = len(model.encode(prompt))
    with torch.inference_mode():
        output = model.model(torch.tensor([[*model.encode(prompt), *ids]]), output_hidden_states=True)
    states = torch.stack([output.hidden_states[layer][0] for layer in LAYERS])
    weights = torch.tensor([0.5 ** (age / 32) for age in reversed(range(len(ids)))])
    mean = (states[:, begin:] * weights[:, None]).sum(1) / weights.sum() if ids else states[:, -1]
    return mean, states[:, -1], states[:, begin - 1]


def assert_covers(model, prompt, hidden, ids):
    mean, last, before = expected(model, prompt, ids)
    assert hidden.tokens == len(ids)
    for found, wanted in ((hidden.mean, mean), (hidden.last, last), (hidden.prompt, before)):
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("build", BUILDS)
def test_states_cover_the_prompt_and_every_token_of_every_candidate(build):
    model, prompt = local(build), Prompt.of("How do I bake bread?")
    session = model.observe(prompt, SamplingParams(max_tokens=64, seed=3), LAYERS)
    assert_covers(model, prompt, session.hidden, [])
    for segment in range(3):
        (proposal,) = model.propose([order(session, segment, candidates=3)])
        for candidate in proposal.candidates:
            ids = [
                one
                for one in candidate.token_ids
                if candidate.finish is not Finish.EOS or one not in model.eos_ids
            ]
            assert_covers(model, prompt, candidate.hidden, [*session.token_ids, *ids])
        going_on = [one for one in proposal.candidates if one.finish is None]
        session.accept(going_on[-1])
        assert session.hidden is going_on[-1].hidden


def test_sessions_of_different_lengths_share_a_batch():
    model = local()
    prompts = [Prompt.of("Hi"), Prompt.of("A much longer prompt about bread and salt")]
    sessions = [model.observe(one, SamplingParams(max_tokens=64, seed=5), LAYERS) for one in prompts]
    orders = [order(sessions[0], candidates=2), order(sessions[1], cut=FixedLength(max_tokens=11))]
    for prompt, proposal in zip(prompts, model.propose(orders), strict=True):
        for candidate in proposal.candidates:
            if candidate.finish is None:
                assert_covers(model, prompt, candidate.hidden, candidate.token_ids)


@pytest.mark.parametrize(
    "cut", [EntropyCut(threshold=0.0, min_tokens=3, max_tokens=9), FixedLength(max_tokens=4)]
)
def test_states_cover_what_is_cut_early_or_ends_at_the_limit(cut):
    model, prompt = local(), Prompt.of("Hi")
    model.eos_ids = frozenset()
    session = model.observe(prompt, SamplingParams(max_tokens=64, seed=1), LAYERS)
    (proposal,) = model.propose([order(session, candidates=2, cut=cut, ends=True)])
    for candidate in proposal.candidates:
        assert_covers(model, prompt, candidate.hidden, candidate.token_ids)


def test_an_end_of_sequence_token_is_left_out_and_others_go_on():
    model, prompt = local(), Prompt.of("Hi")
    plain = model.observe(prompt, SamplingParams(max_tokens=64, seed=1), LAYERS)
    (drawn,) = model.propose([order(plain, candidates=2)])
    # What candidate 0 draws third now ends it, while candidate 1 goes on.
    model.eos_ids = frozenset([drawn.candidates[0].token_ids[2]]) - set(drawn.candidates[1].token_ids)
    session = model.observe(prompt, SamplingParams(max_tokens=64, seed=1), LAYERS)
    (proposal,) = model.propose([order(session, candidates=2)])
    ended, other = proposal.candidates
    assert (ended.finish, other.finish) == (Finish.EOS, None)
    assert_covers(model, prompt, ended.hidden, ended.token_ids[:-1])
    assert_covers(model, prompt, other.hidden, other.token_ids)


def test_a_stop_string_is_read_to_its_end():
    model, prompt = local(), Prompt.of("Hi")
    free = model.observe(prompt, SamplingParams(max_tokens=64, seed=1), LAYERS)
    (drawn,) = model.propose([order(free)])
    stop = model.tokenizer.decode(drawn.candidates[0].token_ids)[1:3]
    session = model.observe(prompt, SamplingParams(max_tokens=64, seed=1, stop=stop), LAYERS)
    (stopped,) = model.propose([order(session)])
    assert stopped.candidates[0].finish is Finish.STOP
    assert_covers(model, prompt, stopped.candidates[0].hidden, stopped.candidates[0].token_ids)


def test_observing_changes_no_draw_and_costs_no_further_pass():
    answers = []
    for reward in (FunctionReward(lambda prompt, text: 1.0), Watcher()):
        model = local()
        config = GuardConfig(
            threshold=Constant(target=0.0),
            acceptance=Hard(),
            drawing=Fixed(candidates=1),
            segments=FixedLength(max_tokens=8),
        )
        result = StarsGuardedLLM(model, reward, config).generate(
            "Hi", sampling=SamplingParams(max_tokens=32, seed=4)
        )
        answers.append((result.token_ids, model.forward_passes))
    (plain, passes), (observed, watched) = answers
    assert plain == observed
    # The last token of a segment is read with it instead of after it; only the answer's last is one more.
    assert watched <= passes + 1


def test_a_reward_gets_the_states_of_the_bare_prompt_and_of_each_candidate():
    watcher = Watcher()
    config = GuardConfig(
        threshold=LinearInTokens(target=0.0), acceptance=Hard(), floor=-9, segments=FixedLength(max_tokens=8)
    )
    guard = StarsGuardedLLM(local(), Minimum({"watcher": watcher}), config)
    guard.generate("Hi", sampling=SamplingParams(max_tokens=16, seed=1))
    assert watcher.seen[0].hidden.tokens == watcher.seen[0].tokens == 0
    assert all(one.hidden.tokens in (one.tokens, one.tokens - 1) for one in watcher.seen)
    assert {one.hidden.layers for one in watcher.seen} == {LAYERS}


def test_readers_are_found_wherever_they_are():
    first, second = Watcher((1,)), Watcher((2,))
    combined = ByChannel(Minimum({"words": KeywordReward(["x"]), "first": first}), tool=second)
    assert hidden_state_readers(combined) == [first, second]


def test_what_cannot_be_observed_fails_at_construction():
    config = GuardConfig(threshold=Constant(target=0.0), exhaustion=Refuse())
    with pytest.raises(ConfigurationError, match="than such a one"):
        StarsGuardedLLM(ScriptedModel([["a"]]), Watcher(), config)
    with pytest.raises(ConfigurationError, match="another model than llama"):
        StarsGuardedLLM(local(), Watcher(fits=False), config)
    for layers in ((3,), (-1,), ()):
        with pytest.raises(ConfigurationError, match="layers 0 to 2"):
            local().observe(Prompt.of("Hi"), SamplingParams(seed=1), layers)


def test_an_unobserved_session_has_no_states():
    session = local().start(Prompt.of("Hi"), SamplingParams(seed=1))
    with pytest.raises(RuntimeError, match="not asked"):
        _ = session.hidden


def test_the_identity_survives_precision():
    model = local()
    half = TransformersModel(tiny_llama().to(torch.bfloat16), tiny_tokenizer())
    assert model.identity.layers == 2
    assert half.identity.signature == pytest.approx(model.identity.signature, abs=0.01)
    assert Loop(model, Watcher()).rounds.reward.hidden_layers == LAYERS


def test_texts_that_were_not_drawn_are_read_to_the_same_states(monkeypatch):
    monkeypatch.setattr(reading, "READ_TOKENS", 70)
    model = local()
    prompts = [Prompt.of(text) for text in ("Hi", "How do I bake bread?", "Why?")]
    answers = ["Mix flour and water, then wait for a while.", "", "Kind and short."]
    passes = model.forward_passes
    found = model.read_states(list(zip(prompts, answers, strict=True)), LAYERS, lengths=(4, None))
    assert model.forward_passes == passes + 2
    for prompt, answer, (early, whole) in zip(prompts, answers, found, strict=True):
        ids = model.tokenizer(answer, add_special_tokens=False)["input_ids"]
        assert_covers(model, prompt, early, ids[:4])
        assert_covers(model, prompt, whole, ids)
    assert model.read_states([], LAYERS) == []
    with pytest.raises(ConfigurationError, match="layers 0 to 2"):
        model.read_states([], (9,))


class ObservedAtOnce:
    """A model that hands out states, and reads prompts in one piece."""

    def __init__(self, model):
        self.name, self.identity = model.name, model.identity
        self.start, self.propose, self.observe = model.start, model.propose, model.observe


def test_a_model_that_reads_no_pieces_is_observed_at_once():
    source = Proposers(ObservedAtOnce(local()), None, LAYERS).begin(
        Prompt.of("Hi"), SamplingParams(seed=1), None
    )
    assert source.read
    assert source.hidden.layers == LAYERS
