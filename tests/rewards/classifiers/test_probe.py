"""The probe: a reward read off the base model's own states, in a guard and on its own."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.replay import replay
from stars_guard.algorithm.rules import Constant
from stars_guard.algorithm.segments import FixedLength
from stars_guard.errors import ConfigurationError, ScoringError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.rewards.classifiers.probe import ProbeHead, ProbeReward, ProbeSettings, features_of, is_probe
from stars_guard.rewards.combine import Minimum
from stars_guard.testing import KeywordReward, ScriptedModel
from stars_guard.types import HiddenStates, Reward
from tests.support.tiny import tiny_llama, tiny_tokenizer

PROMPT = Prompt.of("How do I bake bread?")
GUARD = GuardConfig(threshold=Constant(target=-9.0), segments=FixedLength(max_tokens=8))


def local(seed=0, **overrides):
    return TransformersModel(tiny_llama(seed=seed, **overrides), tiny_tokenizer())


def settings(model, layers=(1, 2)):
    identity = model.identity
    return ProbeSettings(
        layers=layers,
        model_name=identity.name,
        model_layers=identity.layers,
        hidden_size=identity.hidden_size,
        signature=identity.signature,
    )


def probe(model, layers=(1, 2), seed=0, **arguments):
    torch.manual_seed(seed)
    made_for = settings(model, layers)
    return ProbeReward(made_for, ProbeHead(made_for.features, 3), **arguments)


def states(model, text, layers=(1, 2)):
    ((hidden,),) = model.read_states([(PROMPT, text)], layers)
    return hidden


def request(model, text, layers=(1, 2)):
    return ScoreRequest(PROMPT, text, finished=False, hidden=states(model, text, layers))


def test_the_reward_is_what_the_head_says_of_the_states():
    model = local()
    reward = probe(model)
    texts = ["Mix the flour.", "", "No."]
    scores = [item.value for item in reward.score([request(model, text) for text in texts])]
    head = reward.head
    for text, score in zip(texts, scores, strict=True):
        x = features_of(states(model, text))
        inner = torch.nn.functional.gelu(head.inner.weight @ x + head.inner.bias)
        by_hand = head.linear.weight[0] @ x + head.linear.bias[0] + head.outer.weight[0] @ inner
        assert score == pytest.approx(by_hand.item(), abs=1e-5)
    assert reward.score([]) == []
    reward.release("any")


def test_features_do_not_depend_on_the_size_of_a_state():
    model = local()
    hidden = states(model, "Mix the flour.")
    larger = replace(hidden, mean=hidden.mean * 50)
    torch.testing.assert_close(features_of(hidden), features_of(larger), rtol=1e-3, atol=1e-3)
    assert features_of(hidden).shape == (2 * 3 * model.identity.hidden_size,)


def test_a_guard_scores_each_candidate_as_if_its_text_had_been_read():
    model = local()
    model.eos_ids = frozenset()
    seen = []
    reward = probe(model)

    class Watched(ProbeReward):
        def score(self, requests):
            rewards = super().score(requests)
            seen.extend(zip(requests, rewards, strict=True))
            return rewards

    watched = Watched(reward.settings, reward.head)
    guard = StarsGuardedLLM(model, watched, GUARD)
    result = guard.generate(PROMPT, sampling=SamplingParams(max_tokens=24, seed=3))
    assert replay(result.trace) == []
    begin = model.encode(PROMPT)
    output = model.model(torch.tensor([begin + result.token_ids]), output_hidden_states=True)
    kept = [reward for request, reward in seen if request.tokens == 24]
    weights = torch.tensor([0.5 ** (age / 32) for age in reversed(range(24))])[:, None]
    layers = [output.hidden_states[layer][0] for layer in (1, 2)]
    answer = [states[len(begin) :] for states in layers]
    whole = HiddenStates(
        model.identity,
        (1, 2),
        24,
        prompt=torch.stack([states[len(begin) - 1] for states in layers]),
        mean=torch.stack([(states * weights).sum(0) / weights.sum() for states in answer]),
        last=torch.stack([states[-1] for states in answer]),
    )
    (alone,) = reward.score([ScoreRequest(PROMPT, "", finished=True, hidden=whole)])
    assert min(abs(item.value - alone.value) for item in kept) < 1e-3


def test_with_a_model_of_its_own_it_reads_texts():
    model = local()
    reading = probe(model, read=model.read_states)
    assert not reading.observes(local(seed=1).identity)
    assert reading.observes(model.identity)
    bare = [ScoreRequest(PROMPT, text, finished=False) for text in ("Mix the flour.", "No.")]
    given = [request(model, text) for text in ("Mix the flour.", "No.")]
    for read, other in zip(reading.score(bare), probe(model).score(given), strict=True):
        assert read.value == pytest.approx(other.value, abs=1e-4)


def test_its_base_and_no_other_is_taken_to_read_texts():
    model, bare = local(), ScoreRequest(PROMPT, "Mix the flour.", finished=True)
    reward = probe(model)
    other = local(seed=1)
    reward.read_with(other.identity, other.read_states)
    with pytest.raises(ScoringError, match="came without"):
        reward.score([bare])
    reward.read_with(model.identity, model.read_states)
    (read,) = reward.score([bare])
    (observed,) = reward.score([request(model, "Mix the flour.")])
    assert read.value == pytest.approx(observed.value, abs=1e-4)
    chosen = probe(model, read=lambda texts, layers: [[states(model, "No.")]])
    (kept,) = chosen.score([bare])
    chosen.read_with(model.identity, model.read_states)
    assert chosen.score([bare])[0].value == kept.value != read.value


def test_a_guard_that_is_loaded_reads_texts_with_its_model(tmp_path):
    model = local()
    probe(model).save(tmp_path)
    guard = StarsGuardedLLM.load(model, tmp_path, GUARD)
    bare, seen = ScoreRequest(PROMPT, "Mix.", finished=True), request(model, "Mix.")
    read, observed = guard.reward.score([bare, seen])
    assert read.value == pytest.approx(observed.value, abs=1e-4)
    both = {"probe": ProbeReward.load(tmp_path), "other": KeywordReward(["bad"])}
    inside = StarsGuardedLLM.load(model, Minimum(both), GUARD)
    assert inside.reward.score([bare])[0].components["probe"] == read.value


class StatesOnly:
    """Reads states, and no texts."""

    name, hidden_layers = "states only", (1,)

    def observes(self, model):
        return True

    def score(self, requests):
        return [Reward(float(each.hidden is not None)) for each in requests]

    def release(self, run_id):
        pass


def test_what_reads_no_texts_is_given_no_model_to_read_them():
    guard = StarsGuardedLLM.load(local(), StatesOnly(), GUARD)
    trace = guard.generate("Hi", sampling=SamplingParams(max_tokens=8, seed=1)).trace
    assert set(trace.kept_rewards) == {1.0}


def test_states_of_another_model_are_not_taken_for_its_own():
    model, other = local(), local(seed=1)
    foreign = request(other, "Mix the flour.")
    with pytest.raises(ScoringError, match="came without"):
        probe(model).score([foreign])
    (read,) = probe(model, read=model.read_states).score([foreign])
    (observed,) = probe(model).score([request(model, "Mix the flour.")])
    assert read.value == pytest.approx(observed.value, abs=1e-4)


def test_it_guards_any_model_if_it_can_read():
    model = local()
    guard = StarsGuardedLLM(ScriptedModel([["Mix the flour."]]), probe(model, read=model.read_states), GUARD)
    trace = guard.generate(PROMPT).trace
    (observed,) = probe(model).score([request(model, "Mix the flour.")])
    assert trace.kept_rewards == pytest.approx([observed.value], abs=1e-4)
    with pytest.raises(ConfigurationError, match="hands out none"):
        StarsGuardedLLM(ScriptedModel([["Mix."]]), probe(model), GUARD)


def test_states_of_further_layers_are_left_alone():
    model = local()
    wide, narrow = probe(model, layers=(0, 1, 2)), probe(model, layers=(1,))
    (from_many,) = narrow.score([request(model, "Mix.", layers=(0, 1, 2))])
    (from_own,) = narrow.score([request(model, "Mix.", layers=(1,))])
    assert from_many.value == pytest.approx(from_own.value, abs=1e-5)
    both = StarsGuardedLLM(model, Minimum({"wide": wide, "narrow": narrow}), GUARD)
    trace = both.generate("Hi", sampling=SamplingParams(max_tokens=8, seed=1)).trace
    assert set(trace.segments[0].attempts[0].components) == {"wide", "narrow"}


def test_a_text_without_states_is_an_error_and_never_a_score():
    with pytest.raises(ScoringError, match="came without"):
        probe(local()).score([ScoreRequest(PROMPT, "Mix.", finished=False)])


@pytest.mark.parametrize("other", [{"seed": 1}, {"num_hidden_layers": 3}])
def test_another_base_model_is_refused_at_construction(other):
    with pytest.raises(ConfigurationError, match="and the language model is llama; train one"):
        StarsGuardedLLM(local(**other), probe(local()), GUARD)


def test_precision_does_not_make_another_model():
    half = TransformersModel(tiny_llama().to(torch.bfloat16), tiny_tokenizer())
    reward = probe(local())
    assert reward.observes(half.identity)
    guard = StarsGuardedLLM(half, reward, GUARD)
    assert guard.generate("Hi", sampling=SamplingParams(max_tokens=8, seed=1)).token_ids


def test_it_is_saved_and_loaded(tmp_path):
    model = local()
    reward = probe(model)
    reward.save(tmp_path / "probe")
    assert is_probe(tmp_path / "probe")
    loaded = ProbeReward.load(str(tmp_path / "probe"))
    assert loaded.settings == reward.settings
    (saved,), (again,) = (probed.score([request(model, "Mix the flour.")]) for probed in (reward, loaded))
    assert again.value == pytest.approx(saved.value, abs=1e-2)


def test_what_is_no_probe_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="holds no probe"):
        ProbeReward.load(tmp_path)
    model = local()
    probe(model).save(tmp_path)
    weights = tmp_path / "probe.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:50])
    with pytest.raises(ConfigurationError, match="is broken"):
        ProbeReward.load(tmp_path)
    weights.write_bytes(whole)
    changed = json.loads((tmp_path / "probe.json").read_text()) | {"layers": [1]}
    (tmp_path / "probe.json").write_text(json.dumps(changed))
    with pytest.raises(ConfigurationError, match="mixed up"):
        ProbeReward.load(tmp_path)
    (tmp_path / "probe.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="loading the probe"):
        ProbeReward.load(tmp_path)


@pytest.mark.parametrize("layers", [(2, 1), (1, 1), (3,), (-1, 1)])
def test_layers_must_rise_and_be_there(layers):
    with pytest.raises(ConfigurationError, match="must rise, from 0 to 2"):
        settings(local(), layers)
