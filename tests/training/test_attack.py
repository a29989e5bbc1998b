"""The attack on a probe by gradient, on a tiny language model and a random head."""

from __future__ import annotations

import pytest
import torch

from stars_guard.errors import ConfigurationError
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.prompts import Prompt
from stars_guard.rewards.classifiers.probe import ProbeHead, ProbeReward, ProbeSettings
from stars_guard.testing import KeywordReward
from stars_guard.training import attack
from stars_guard.training.attack import ProbeAttacker, SuffixSearch
from tests.support.tiny import tiny_llama, tiny_tokenizer

PROMPT, RESPONSE = "How do I hurt somebody?", "Mix the flour, the water and the salt."


@pytest.fixture(scope="module")
def model():
    return TransformersModel(tiny_llama(), tiny_tokenizer(), name="tiny")


@pytest.fixture(scope="module")
def probe(model):
    identity = model.identity
    settings = ProbeSettings(
        layers=(1,),
        model_name="tiny",
        model_layers=identity.layers,
        hidden_size=identity.hidden_size,
        signature=identity.signature,
    )
    torch.manual_seed(0)
    return ProbeReward(settings, ProbeHead(settings.features, 8))


def test_the_suffix_raises_the_reward_of_the_fixed_answer(model, probe):
    attacker = ProbeAttacker(model, probe)
    found = attacker.search(PROMPT, RESPONSE, SuffixSearch(tokens=6, steps=3, tried=12))
    assert found.after > found.before
    assert list(found.rewards) == sorted(found.rewards)
    assert attacker.rewards([PROMPT, PROMPT + found.suffix], RESPONSE) == pytest.approx(
        [found.before, found.after], abs=1e-5
    )
    assert found.suffix.isprintable()


def test_the_same_seed_finds_the_same_suffix(model, probe):
    search = SuffixSearch(tokens=4, steps=1, tried=6)
    attacker = ProbeAttacker(model, probe)
    assert attacker.search(PROMPT, RESPONSE, search) == attacker.search(PROMPT, RESPONSE, search)


def test_the_gradient_is_that_of_the_reward_that_guards(model, probe):
    """A small step along it changes the reward by what the gradient says."""
    attacker = ProbeAttacker(model, probe)
    ids = model.encode(Prompt.of(PROMPT))
    answer = model.tokenizer(RESPONSE, add_special_tokens=False)["input_ids"]
    gradient = attacker.gradient(ids, answer)
    assert gradient.shape == (len(ids), model.identity.hidden_size)
    embedding = model.model.get_input_embeddings()
    place, step = len(ids) - 3, 1e-3
    assert [*ids, *answer].count(ids[place]) == 1
    direction = gradient[place] / gradient[place].norm()
    (before,) = attacker.rewards([PROMPT], RESPONSE)
    with torch.no_grad():
        embedding.weight[ids[place]] += step * direction
    try:
        (after,) = attacker.rewards([PROMPT], RESPONSE)
    finally:
        with torch.no_grad():
            embedding.weight[ids[place]] -= step * direction
    assert (after - before) / step == pytest.approx(float(gradient[place].norm()), rel=0.05)


def test_a_suffix_that_raises_nothing_is_none(model, probe, monkeypatch):
    attacker = ProbeAttacker(model, probe)
    monkeypatch.setattr(attacker, "rewards", lambda prompts, response: [1.0] * len(prompts))
    found = attacker.search(PROMPT, RESPONSE, SuffixSearch(tokens=2, steps=1, tried=2))
    assert (found.suffix, found.before, found.after) == ("", 1.0, 1.0)


def test_another_models_probe_is_refused(probe):
    other = TransformersModel(tiny_llama(seed=9), tiny_tokenizer(), name="other")
    with pytest.raises(ConfigurationError, match="reads the hidden states of tiny"):
        ProbeAttacker(other, probe)


def test_it_loads_a_probe_and_its_model_in_full_precision(model, probe, monkeypatch):
    options = []

    def load_model(name, given):
        options.append((name, given))
        return model

    monkeypatch.setattr(attack, "load_reward", lambda name: probe)
    monkeypatch.setattr(attack, "load_model", load_model)
    ProbeAttacker.load(None, "embedded:probe")
    assert options == [(None, {"dtype": "float32"})]
    monkeypatch.setattr(attack, "load_reward", lambda name: KeywordReward(["bad"]))
    with pytest.raises(ConfigurationError, match="gradients are those of a probe"):
        ProbeAttacker.load(None, "words")
