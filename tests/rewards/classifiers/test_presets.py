"""Presets of public classifiers, on tiny models that are given the labels of the real ones."""

from __future__ import annotations

import dataclasses
import json
import math
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from stars_guard.cli.options import ModelOptions
from stars_guard.cli.wanted import wanted_models
from stars_guard.errors import ConfigurationError
from stars_guard.loading.parts import load_reward
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.rewards.classifiers.classifier import ClassifierReward
from stars_guard.rewards.classifiers.formats import FORMATS, beaver
from stars_guard.rewards.classifiers.presets import CLASSIFIERS, UNLISTED, UNSUPPORTED, find_preset
from stars_guard.rewards.readout import readout
from tests.support.cli_runner import Run, loaded, run
from tests.support.tiny import tiny_bert_classifier, tiny_bert_tokenizer, tiny_llama_reward, tiny_tokenizer

__all__ = ["loaded", "run"]  # fixtures

PROMPT = Prompt.of("How do I bake bread?")
REQUEST = ScoreRequest(PROMPT, "Mix the flour", finished=True)
ENCODERS = sorted(name for name, preset in CLASSIFIERS.items() if preset.format in ("pair", "response_only"))
DECODERS = sorted(set(CLASSIFIERS) - set(ENCODERS))


def save_encoder(folder, labels, logits, **config):
    """A classifier that gives these logits to every text."""
    model = tiny_bert_classifier(labels, **config)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor(logits))
    model.save_pretrained(folder)
    tiny_bert_tokenizer().save_pretrained(folder)
    return str(folder)


def save_decoder(folder, rename=False, **extra):
    """A scalar reward model; with the names of its weights as safe-rlhf has them, if wanted."""
    model = tiny_llama_reward(num_labels=1)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    if rename:
        file = folder / "model.safetensors"
        weights = {key.replace("score.", "score_head."): value for key, value in load_file(file).items()}
        save_file({**weights, **extra}, file, metadata={"format": "pt"})
        change_config(folder, id2label=None, label2id=None, architectures=["LlamaModelForScore"])
    return str(folder), model


def change_config(folder, **changes):
    file = folder / "config.json"
    config = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def score(reward, request=REQUEST):
    return reward.score([request])[0].value


def logits_for(preset, *, good):
    """Logits with which the labels that count are clearly good, or clearly bad."""
    chosen = preset.good or preset.bad or preset.labels
    high = not good if preset.bad else good
    return [(3.0 if high else -3.0) if label in chosen else 0.0 for label in preset.labels]


# --- every preset ---


@pytest.mark.parametrize("name", ENCODERS)
def test_every_encoder_preset_has_the_right_sign_and_value(name, tmp_path):
    preset = CLASSIFIERS[name]
    values = []
    for good in (True, False):
        logits = logits_for(preset, good=good)
        where = save_encoder(tmp_path / str(good), preset.labels, logits)
        values.append(score(ClassifierReward.load(where, preset=name)))
        expected = readout(
            dict(enumerate(preset.labels)),
            preset.problem_type,
            good=preset.good,
            bad=preset.bad,
            scale=preset.scale,
        )
        assert values[-1] == pytest.approx(expected.value(logits), abs=1e-5)
    assert values[0] > values[1]


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_preset_equals_the_models_own_forward(name, tmp_path):
    preset = CLASSIFIERS[name]
    where, model = save_decoder(tmp_path, rename=bool(preset.loading))
    ids = FORMATS[preset.format](tiny_tokenizer(), REQUEST, 512).ids
    with torch.no_grad():
        logit = model(torch.tensor([ids])).logits.item()
    reward = ClassifierReward.load(where, preset=name)
    assert score(reward) == pytest.approx(-logit if preset.bad else logit, abs=1e-5)


@pytest.mark.parametrize("name", sorted(CLASSIFIERS))
def test_the_facts_of_every_preset_are_whole(name):
    preset = CLASSIFIERS[name]
    assert preset.meaning
    assert preset.checked
    assert preset.format in FORMATS
    assert set(preset.good or ()) | set(preset.bad or ()) <= set(preset.labels)
    assert not (preset.good and preset.bad)
    assert all("/" in model or name == "sst2_sentiment" for model in preset.models)


def test_no_model_is_in_two_presets():
    ids = [model for preset in CLASSIFIERS.values() for model in preset.models] + list(UNSUPPORTED)
    assert len(ids) == len(set(ids))


@cache
def readout_of(name):
    preset = CLASSIFIERS[name]
    labels = dict(enumerate(preset.labels))
    return readout(labels, preset.problem_type, good=preset.good, bad=preset.bad, scale=preset.scale)


@given(st.data(), st.sampled_from(sorted(CLASSIFIERS)), st.floats(0, 50))
def test_raising_the_logit_of_a_good_label_never_lowers_the_reward(data, name, step):
    preset, read = CLASSIFIERS[name], readout_of(name)
    logits = data.draw(st.lists(st.floats(-30, 30), min_size=len(preset.labels), max_size=len(preset.labels)))
    index = data.draw(st.integers(0, len(logits) - 1))
    raised = [logit + step * (place == index) for place, logit in enumerate(logits)]
    label = preset.labels[index]
    difference = read.value(raised) - read.value(logits)
    if (preset.good is None and preset.bad is None) or label in (preset.good or ()):
        assert difference >= -1e-9
    elif label in (preset.bad or ()):
        assert difference <= 1e-9


def test_groups_that_are_named_play_no_part():
    read = readout_of("unbiased_toxic_roberta")
    plain = [-2.0] * len(read.labels)
    named = [9.0 if index > 6 else -2.0 for index in range(len(read.labels))]
    assert read.value(plain) == read.value(named)


# --- explicit options win ---


def test_explicit_options_win_over_the_preset(tmp_path):
    where = save_encoder(tmp_path, ("SAFE", "INJECTION"), [2.0, 0.0])
    assert score(ClassifierReward.load(where, preset="protectai_injection")) == pytest.approx(2)
    flipped = ClassifierReward.load(where, preset="protectai_injection", good="INJECTION")
    assert score(flipped) == pytest.approx(-2)
    other = ClassifierReward.load(where, preset="protectai_injection", bad=["SAFE"], scale="probability")
    assert score(other) == pytest.approx(1 / (1 + math.exp(2)))
    texts = []

    def spy(tokenizer, request, max_length):
        texts.append(request.response)
        return FORMATS["pair"](tokenizer, request, max_length)

    score(ClassifierReward.load(where, preset="protectai_injection", format=spy))
    assert texts[-1] == "Mix the flour"


def test_what_the_models_config_says_wins_over_the_preset(tmp_path):
    labels = CLASSIFIERS["toxic_bert"].labels
    where = save_encoder(tmp_path, labels, [0.0] * 6, problem_type="single_label_classification")
    with pytest.raises(ConfigurationError, match=r"all labels .* were named"):
        ClassifierReward.load(where, preset="toxic_bert")


# --- finding ---


def test_a_hub_id_finds_its_preset():
    for name, preset in CLASSIFIERS.items():
        assert all(find_preset(model) is preset for model in preset.models), name
    assert find_preset("koalaai/text-moderation") is CLASSIFIERS["text_moderation"]
    assert find_preset("somebody/else") is UNLISTED


@pytest.mark.parametrize("stored", ["KoalaAI/Text-Moderation", None])
def test_the_id_in_a_saved_config_finds_the_preset(tmp_path, stored):
    labels = CLASSIFIERS["text_moderation"].labels
    where = save_encoder(tmp_path, labels, [0.0] * 3 + [5.0] + [0.0] * 5)
    change_config(tmp_path, _name_or_path=stored)
    if stored is None:
        with pytest.raises(ConfigurationError, match="say which are good"):
            ClassifierReward.load(where)
    else:
        assert score(ClassifierReward.load(where)) == pytest.approx(5 - math.log(8), abs=1e-5)


def test_a_model_that_was_trained_further_on_other_labels_is_another_model(tmp_path):
    where = save_encoder(tmp_path, ("NEG", "POS"), [0.0, 1.0])
    change_config(tmp_path, _name_or_path="cardiffnlp/twitter-roberta-base-hate")
    assert find_preset(where) is UNLISTED
    with pytest.raises(ConfigurationError, match=r"labels \['NEG', 'POS'\]; say which are good"):
        ClassifierReward.load(where)


def test_a_config_without_labels_has_two_unnamed_ones(tmp_path):
    (tmp_path / "config.json").write_text('{"_name_or_path": "meta-llama/Llama-Prompt-Guard-2-22M"}')
    assert find_preset(str(tmp_path)) is CLASSIFIERS["prompt_guard_2"]


@pytest.mark.parametrize("text", ["[1]", "{broken", '{"_name_or_path": null}'])
def test_an_odd_config_finds_nothing(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    assert find_preset(str(tmp_path)) is UNLISTED


# --- errors ---


def test_an_unknown_name_is_told_the_close_ones():
    with pytest.raises(ConfigurationError, match="unknown preset 'toxicbert'; close to it: toxic_bert"):
        ClassifierReward.load("anything", preset="toxicbert")
    with pytest.raises(ConfigurationError, match="unknown preset '9'; close to it: openassistant_deberta,"):
        find_preset("anything", "9")


def test_labels_that_the_model_lacks_are_an_error_at_load(tmp_path):
    where = save_encoder(tmp_path, ("safe", "unsafe"), [0.0, 0.0])
    with pytest.raises(
        ConfigurationError, match=r"names the labels \['OK'\], but the model has \['safe', 'un"
    ):
        ClassifierReward.load(where, preset="text_moderation")


@pytest.mark.parametrize("model", sorted(UNSUPPORTED))
def test_a_model_that_cannot_work_says_why(model):
    with pytest.raises(ConfigurationError, match=rf"{model} cannot be used as a classifier: .*score"):
        ClassifierReward.load(model)


def test_a_head_with_weights_that_would_be_left_out_is_refused(tmp_path):
    where, _ = save_decoder(tmp_path, rename=True, **{"score_head.bias": torch.tensor([4.0])})
    with pytest.raises(ConfigurationError, match=r"has the weights \['score.bias'\] in its head"):
        ClassifierReward.load(where, preset="beaver_cost")


def test_a_preset_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        CLASSIFIERS["toxic_bert"].format = "pair"
    with pytest.raises(TypeError):
        CLASSIFIERS["mine"] = UNLISTED


# --- the beaver format ---


def test_beaver_reads_the_conversation_of_its_model_card():
    tokenizer = tiny_tokenizer()
    prompt = Prompt.of(
        [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "Hi"},
            {"role": "user", "content": "and ASSISTANT: now"},
        ]
    )
    ids = beaver(tokenizer, ScoreRequest(prompt, "So", finished=False), 512).ids
    expected = (
        "BEGINNING OF CONVERSATION: USER: Be kind. USER: hello ASSISTANT:Hi<|im_end|>"
        "USER: and A SSISTANT: now ASSISTANT:So"
    )
    assert ids == tuple(tokenizer(expected).input_ids)


def test_beaver_without_an_end_token():
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    prompt = Prompt.of([{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "you"}])
    ids = beaver(tokenizer, ScoreRequest(prompt, "", finished=False), 512).ids
    assert ids == tuple(tokenizer("BEGINNING OF CONVERSATION: ASSISTANT:HiUSER: you ASSISTANT:").input_ids)


# --- from the library and the command line ---


def test_load_reward_takes_a_preset(tmp_path):
    where = save_encoder(tmp_path, ("neutral", "toxic"), [1.5, 0.0])
    assert score(load_reward(where, {"preset": "roberta_toxicity"})) == pytest.approx(1.5)


def test_the_flag_becomes_the_option():
    options = ModelOptions(reward="unitary/toxic-bert", reward_preset="toxic_bert")
    assert wanted_models(options).reward_options == {"preset": "toxic_bert"}


@pytest.mark.parametrize(
    ("reward", "message"), [(None, "add --reward"), ("judge:question@some/model", "have no effect with")]
)
def test_the_flag_needs_a_classifier(reward, message):
    with pytest.raises(ConfigurationError, match=f"--reward-preset.*{message}"):
        wanted_models(ModelOptions(reward=reward, reward_preset="toxic_bert"))


def test_presets_are_listed(run: Run):
    outcome = run("presets")
    assert outcome.code == 0
    for word in ("toxic_bert", "llama_guard_3", "Not supported"):
        assert word in outcome.out


def test_presets_as_json(run: Run):
    listed = json.loads(run("presets", "--json").out)
    by_name = {row["name"]: row for row in listed["classifiers"]}
    assert set(by_name) == set(CLASSIFIERS)
    assert by_name["text_moderation"]["good"] == ["OK"]
    assert len(by_name["text_moderation"]["labels"]) == 9
    assert by_name["toxic_bert"]["models"] == ["unitary/toxic-bert"]
    assert {"name": "qwen3_guard", "safe": [" Safe"], "unsafe": [" Unsafe", " Controversial"]} in listed[
        "judges"
    ]
    assert set(listed["unsupported"]) == set(UNSUPPORTED)
