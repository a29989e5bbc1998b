"""Classifiers as rewards: values, batches, settings and loading."""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertModel

from stars_guard.errors import ConfigurationError, ScoringError
from stars_guard.prompts import Prompt
from stars_guard.rewards import pretrained
from stars_guard.rewards.base import ScoreRequest, score_checked
from stars_guard.rewards.classifiers import classifier
from stars_guard.rewards.classifiers.classifier import ClassifierReward
from stars_guard.rewards.classifiers.passes import plan_batches
from stars_guard.rewards.encoding import Encoded
from tests.support.tiny import (
    tiny_bert_classifier,
    tiny_bert_tokenizer,
    tiny_distilbert_classifier,
    tiny_llama_reward,
    tiny_roberta_classifier,
    tiny_tokenizer,
)

PROMPT = Prompt.of("How do I bake bread?")
RESPONSES = ["Mix the flour", "", "I cannot help with that, but I can help you", "Wait", "a b c d e f g"]


def requests(responses=RESPONSES):
    return [ScoreRequest(PROMPT, response, False, run_id="run") for response in responses]


def values(reward, batch=None):
    return [item.value for item in reward.score(batch or requests())]


# --- encoders ---


def direct(model, tokenizer, responses=RESPONSES):
    """Log-odds of "safe" against "unsafe" by the model's own forward, one text at a time."""
    with torch.no_grad():
        rows = [tokenizer(PROMPT.as_text(), response, return_tensors="pt") for response in responses]
        return [float(z[0] - z[1]) for z in (model(**row).logits[0] for row in rows)]


@pytest.mark.parametrize("batch_tokens", [1, 60, 16384])
def test_bert_pair_equals_direct_forward_in_any_batch(batch_tokens):
    model, tokenizer = tiny_bert_classifier(), tiny_bert_tokenizer()
    reward = ClassifierReward(model, tokenizer, good="safe", batch_tokens=batch_tokens)
    assert values(reward) == pytest.approx(direct(model, tokenizer), abs=1e-5)
    assert reward.name == "BertForSequenceClassification"


def test_models_without_type_ids():
    tokenizer = tiny_bert_tokenizer()
    model = tiny_distilbert_classifier()
    plain = tiny_bert_tokenizer()
    plain.model_input_names = ["input_ids", "attention_mask"]
    expected = pytest.approx(direct(model, plain), abs=1e-5)
    assert values(ClassifierReward(model, tokenizer, good="safe")) == expected
    assert values(ClassifierReward(model, plain, bad="unsafe")) == expected
    bert = tiny_bert_classifier()
    assert values(ClassifierReward(bert, plain, good="safe")) == pytest.approx(direct(bert, plain), abs=1e-5)


def test_roberta_reads_as_many_tokens_as_it_has_positions():
    model, tokenizer = tiny_roberta_classifier(), tiny_tokenizer(chat_template=False)
    reward = ClassifierReward(model, tokenizer, good="safe", format="text")
    short, long = reward.score(requests(["Mix the flour", "flour " * 200]))
    row = tokenizer(f"{PROMPT.as_text()}\nMix the flour", return_tensors="pt")
    with torch.no_grad():
        logits = model(row.input_ids).logits[0]
    assert short.value == pytest.approx(float(logits[0] - logits[1]), abs=1e-5)
    assert short.truncated_tokens == 0
    tokens = len(tokenizer(PROMPT.as_text() + "\n" + "flour " * 200).input_ids)
    assert long.truncated_tokens == tokens - 64


def test_label_probabilities_are_components():
    model, tokenizer = tiny_bert_classifier(), tiny_bert_tokenizer()
    reward = ClassifierReward(model, tokenizer, good="safe", scale="probability")
    for item in reward.score(requests()):
        assert item.components["safe"] == pytest.approx(item.value)
        assert sum(item.components.values()) == pytest.approx(1)
    scalar = ClassifierReward(tiny_bert_classifier(["score"]), tokenizer)
    assert all(item.components == {} for item in scalar.score(requests()))


def test_encoder_counts_tokens_and_forgets_nothing():
    tokenizer = tiny_bert_tokenizer()
    reward = ClassifierReward(tiny_bert_classifier(), tokenizer, good="safe")
    reward.score(requests(["Mix"]))
    assert reward.tokens_fed == len(tokenizer(PROMPT.as_text(), "Mix").input_ids)
    assert reward.score([]) == []
    reward.release("run")


def test_an_empty_text_without_special_tokens_is_one_padding_token():
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = None
    model = tiny_llama_reward()
    reward = ClassifierReward(model, tokenizer, format="response_only")
    with torch.no_grad():
        expected = model(torch.tensor([[tokenizer.pad_token_id]])).logits.item()
    assert values(reward, requests([""])) == pytest.approx([expected])


def test_own_format_and_a_model_that_gives_nan():
    model = tiny_bert_classifier()
    reward = ClassifierReward(
        model, tiny_bert_tokenizer(), good="safe", format=lambda *_: Encoded((2, 3), dropped=7), name="mine"
    )
    assert [item.truncated_tokens for item in reward.score(requests(["x"]))] == [7]
    torch.nn.init.constant_(model.classifier.bias, math.nan)
    with pytest.raises(ScoringError, match="mine returned the reward nan; it must be finite"):
        score_checked(reward, requests(["x"]))


def test_threads_take_turns():
    inside, most = [], []

    def slow(tokenizer, request, max_length):
        inside.append(request)
        most.append(len(inside))
        time.sleep(0.002)
        inside.remove(request)
        return Encoded((2, 3))

    reward = ClassifierReward(tiny_bert_classifier(), tiny_bert_tokenizer(), good="safe", format=slow)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: values(reward), range(8)))
    assert max(most) == 1
    assert all(result == pytest.approx(results[0], abs=1e-5) for result in results)


def test_dropout_is_turned_off():
    model = tiny_bert_classifier().train()
    ClassifierReward(model, tiny_bert_tokenizer(), good="safe")
    assert not model.training


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 120))
def test_batches_hold_everything_once_and_stay_within_bounds(lengths, batch_tokens):
    by_index = {index + 100: length for index, length in enumerate(lengths)}
    batches = plan_batches(by_index, batch_tokens)
    assert sorted(index for batch in batches for index in batch) == sorted(by_index)
    for batch in batches:
        widest = max(by_index[index] for index in batch)
        assert len(batch) == 1 or len(batch) * widest <= batch_tokens


# --- settings ---


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"the model has the labels \['safe', 'unsafe'\]"),
        ({"good": "fine"}, r"unknown labels \['fine'\]"),
        ({"good": "safe", "format": "chat"}, "needs a tokenizer with a chat template"),
        ({"good": "safe", "max_length": 65}, "max_length must be between 1 and 64 tokens, got 65"),
        ({"good": "safe", "max_length": 0}, "max_length must be between 1 and 64 tokens, got 0"),
        ({"good": "safe", "max_length": 3}, "max_length=3 leaves no room beside 3 special tokens"),
        ({"good": "safe", "batch_tokens": 0}, "batch_tokens must be at least 1, got 0"),
        ({"good": "safe", "cached_runs": -1}, r"cached_runs must be 0 \(no cache\) or more, got -1"),
    ],
)
def test_settings_are_checked_at_construction(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        ClassifierReward(tiny_bert_classifier(), tiny_bert_tokenizer(), **settings)


def test_a_broken_template_is_found_at_construction():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(ConfigurationError, match=r"encoding a text for .* failed: .*roles must alternate"):
        ClassifierReward(tiny_llama_reward(), tokenizer)


def test_a_slow_tokenizer_is_refused(monkeypatch):
    tokenizer = tiny_tokenizer()
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    with pytest.raises(ConfigurationError, match="cannot tell prompt tokens from answer tokens"):
        ClassifierReward(tiny_llama_reward(), tokenizer)


@pytest.mark.parametrize(
    ("tokenizer_limit", "positions", "wanted", "expected"),
    [
        (int(1e30), 128, None, 128),
        (100, 128, None, 100),
        (100, 128, 120, 120),
        (100, 0, None, 100),
        (100, 0, 4000, 4000),
    ],
)
def test_the_longest_text(tokenizer_limit, positions, wanted, expected):
    model, tokenizer = tiny_llama_reward(), tiny_tokenizer()
    model.config.max_position_embeddings = positions
    tokenizer.model_max_length = tokenizer_limit
    reward = ClassifierReward(model, tokenizer, max_length=wanted)
    (item,) = reward.score(requests(["flour " * 2000]))
    assert reward.tokens_fed == expected
    assert item.truncated_tokens > 0


def test_no_limit_at_all_must_be_given():
    model, tokenizer = tiny_llama_reward(), tiny_tokenizer()
    model.config.max_position_embeddings = 0
    tokenizer.model_max_length = int(1e30)
    with pytest.raises(ConfigurationError, match="pass max_length="):
        ClassifierReward(model, tokenizer)


@pytest.mark.parametrize("pad_id", [None, -1])
def test_padding_id_falls_back_to_the_end_of_sequence(pad_id):
    model, tokenizer = tiny_llama_reward(), tiny_tokenizer()
    expected = values(ClassifierReward(tiny_llama_reward(), tiny_tokenizer()))
    model.config.pad_token_id = pad_id
    tokenizer.pad_token = None
    reward = ClassifierReward(model, tokenizer)
    assert model.config.pad_token_id == tokenizer.eos_token_id
    assert values(reward) == pytest.approx(expected, abs=1e-5)


# --- loading ---


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "judge"
    tiny_bert_classifier().save_pretrained(folder)
    tiny_bert_tokenizer().save_pretrained(folder)
    return folder


def test_load_from_a_folder(saved):
    reward = ClassifierReward.load(saved, good="safe", local_files_only=True)
    assert reward.name == "judge"
    expected = direct(tiny_bert_classifier(), tiny_bert_tokenizer())
    assert values(reward) == pytest.approx(expected, abs=1e-5)


def test_load_with_precision_device_and_name(saved):
    reward = ClassifierReward.load(
        saved, good="safe", dtype=torch.bfloat16, device="cpu", name="my judge", max_length=20
    )
    assert reward.name == "my judge"
    assert reward._model.dtype == torch.bfloat16
    assert all(map(math.isfinite, values(reward)))


def test_load_leaves_placement_to_a_device_map(monkeypatch):
    model, seen = tiny_llama_reward(), {}

    def from_pretrained(where, output_loading_info, **options):
        seen.update(options)
        return model, {"missing_keys": []}

    monkeypatch.setattr(classifier.AutoModelForSequenceClassification, "from_pretrained", from_pretrained)
    tokenizer = tiny_tokenizer()
    monkeypatch.setattr(pretrained.AutoTokenizer, "from_pretrained", lambda where, **options: tokenizer)
    monkeypatch.setattr(model, "to", None)
    assert ClassifierReward.load("judge", device_map="auto").name == "judge"
    assert seen == {"device_map": "auto", "trust_remote_code": False}


def test_load_from_the_home_folder(saved, monkeypatch):
    monkeypatch.setenv("HOME", str(saved.parent))
    assert ClassifierReward.load("~/judge", good="safe").name == "judge"


@pytest.mark.parametrize("where", ["./nowhere", "/no/such/folder", "~/no-such-folder"])
def test_load_without_the_folder(where):
    with pytest.raises(ConfigurationError, match=f"the folder {where} does not exist"):
        ClassifierReward.load(where)


def test_load_a_model_that_is_not_there_offline():
    with pytest.raises(ConfigurationError, match="loading the classifier 'nobody/nothing' failed"):
        ClassifierReward.load("nobody/nothing", local_files_only=True)


def test_load_a_folder_without_a_model(tmp_path):
    with pytest.raises(ConfigurationError, match=r"loading the classifier .* failed"):
        ClassifierReward.load(tmp_path)


def test_load_a_model_without_a_trained_head(saved):
    BertModel(tiny_bert_classifier().config).save_pretrained(saved)
    with pytest.raises(
        ConfigurationError, match=r"no weights for \['classifier.bias', 'classifier.weight'\]"
    ):
        ClassifierReward.load(saved, good="safe")
