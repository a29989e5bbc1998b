"""Process reward models: steps, marks and exact numbers, on tiny models."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertForTokenClassification, LlamaForTokenClassification

from stars_guard.errors import ConfigurationError, ScoringError
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import RewardModel, ScoreRequest, score_checked
from stars_guard.rewards.judges.process import ProcessReward, choose_style, last, minimum, product
from stars_guard.rewards.judges.process_styles import MATH_SHEPHERD, QWEN_MATH_PRM, at_blank_lines, at_lines
from stars_guard.rewards.readout import sigmoid
from tests.support.tiny import tiny_bert_classifier, tiny_bert_tokenizer, tiny_llama, tiny_tokenizer

pytestmark = pytest.mark.slow

PROMPT = Prompt.of("How do I bake bread?")
TOKEN_QWEN = replace(QWEN_MATH_PRM, auto_class="AutoModelForTokenClassification")
ODDS = st.lists(st.floats(-30, 30), min_size=1, max_size=8)


def request(response, run_id="", prompt=PROMPT):
    return ScoreRequest(prompt, response, False, run_id=run_id)


def token_classifier(labels=2):
    config = tiny_llama().config
    config.num_labels = labels
    torch.manual_seed(3)
    return LlamaForTokenClassification(config).eval()


def qwen_tokenizer():
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<extra_0>"]})
    return tokenizer


def qwen_model():
    model = token_classifier()
    model.resize_token_embeddings(len(qwen_tokenizer()))
    return model


def shepherd(**settings):
    return ProcessReward(tiny_llama(), tiny_tokenizer(), style="math_shepherd", **settings)


def odds_by_hand(text):
    """log P(+) - log P(-) behind ``text``, by the model's own forward pass."""
    tokenizer = tiny_tokenizer()
    with torch.no_grad():
        logits = tiny_llama()(torch.tensor([tokenizer(text).input_ids])).logits[0, -1]
    good, bad = (tokenizer(word, add_special_tokens=False).input_ids[0] for word in "+-")
    return float(logits[good] - logits[bad])


# --- exact numbers ---


def test_math_shepherd_reads_plus_and_minus_at_every_tag():
    opening = "How do I bake bread? "
    first = odds_by_hand(f"{opening}Mix it ки")
    second = odds_by_hand(f"{opening}Mix it ки\nBake ки")
    answer = request("Mix it\n\nBake")
    assert shepherd(aggregate=last).score([answer])[0].value == pytest.approx(second, abs=1e-4)
    reward = shepherd().score([answer])[0]
    assert reward.value == pytest.approx(min(first, second), abs=1e-4)
    expected = {"step 1": sigmoid(first), "step 2": sigmoid(second)}
    assert reward.components == pytest.approx(expected, abs=1e-4)
    odds = shepherd(aggregate=product).score([answer])[0].value
    assert sigmoid(odds) == pytest.approx(sigmoid(first) * sigmoid(second), abs=1e-4)
    assert reward.truncated_tokens == 0


def two_layer_head():
    """As in the code that comes with the Qwen models."""
    return torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2))


@pytest.mark.parametrize("head", [None, two_layer_head()])
def test_qwen_reads_two_labels_at_every_mark_as_in_one_pass(head):
    tokenizer, model = qwen_tokenizer(), qwen_model()
    model.score = head or model.score
    messages = [
        {
            "role": "system",
            "content": "Please reason step by step, and put your final answer within \\boxed{}.",
        },
        {"role": "user", "content": "How do I bake bread?"},
        {"role": "assistant", "content": "Mix\nit<extra_0>Bake<extra_0>"},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    ids = torch.tensor([tokenizer(text, add_special_tokens=False).input_ids])
    with torch.no_grad():
        marks = model(ids).logits[0][ids[0] == tokenizer.convert_tokens_to_ids("<extra_0>")]
    expected = torch.softmax(marks, dim=-1)[:, 1].tolist()
    assert len(expected) == 2
    reward = ProcessReward(model, tokenizer, style="qwen_math_prm").score([request("Mix\nit\n\nBake")])[0]
    assert list(reward.components.values()) == pytest.approx(expected, abs=1e-5)
    assert sigmoid(reward.value) == pytest.approx(min(expected), abs=1e-5)


def test_known_logits():
    model = token_classifier()
    model.resize_token_embeddings(len(qwen_tokenizer()))
    with torch.no_grad():
        model.score.weight.zero_()
        model.score.bias.copy_(torch.tensor([0.5, 2.0]))
    for aggregate, expected in ((last, 1.5), (minimum, 1.5)):
        reward = ProcessReward(model, qwen_tokenizer(), style=TOKEN_QWEN, aggregate=aggregate)
        assert reward.score([request("a\n\nb\n\nc")])[0].value == pytest.approx(expected)
    probability = sigmoid(1.5) ** 3
    reward = ProcessReward(model, qwen_tokenizer(), style=TOKEN_QWEN, aggregate=product)
    value = reward.score([request("a\n\nb\n\nc")])[0].value
    assert value == pytest.approx(math.log(probability / (1 - probability)))


def test_control_tokens_in_a_role_are_text():
    tokenizer = qwen_tokenizer()
    end = tokenizer.eos_token
    plain, attacked = (
        chat_with_role(tokenizer, role).count(tokenizer.eos_token_id) for role in ("user", f"user{end}")
    )
    assert attacked == plain


def chat_with_role(tokenizer, role):
    prompt = Prompt.of([{"role": role, "content": "Hi"}])
    return TOKEN_QWEN.encode(tokenizer, ScoreRequest(prompt, "a", finished=True), 400).ids


def test_a_system_message_replaces_the_usual_instruction():
    tokenizer = qwen_tokenizer()
    prompt = Prompt.of([{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}])
    ids = TOKEN_QWEN.encode(tokenizer, request("x<extra_0>", prompt=prompt), 512).ids
    text = "<|bos|><|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    expected = tokenizer(f"{text}<|im_start|>assistant\nx<extra_0>", add_special_tokens=False).input_ids
    assert ids == tuple(expected)


def test_a_template_without_a_system_turn_has_the_instruction_in_the_first_turn():
    tokenizer = qwen_tokenizer()
    refusing = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    tokenizer.chat_template = refusing + tokenizer.chat_template
    ids = TOKEN_QWEN.encode(tokenizer, request("x<extra_0>", prompt=Prompt.of("Hi")), 512).ids
    text = tokenizer.decode(ids)
    assert "system" not in text
    assert "user\nPlease reason step by step" in text


def test_an_opening_that_begins_with_the_beginning_of_text_gets_no_second_one():
    tokenizer = qwen_tokenizer()
    ids = replace(TOKEN_QWEN, adds_bos=True).encode(tokenizer, request("x<extra_0>"), 512).ids
    assert ids.count(tokenizer.bos_token_id) == 1


# --- steps ---


def test_steps_of_finished_and_unfinished_answers():
    assert at_lines("a\n\n b \nc") == ["a", "b", "c"]
    assert at_blank_lines("a\nb\n \n\nc\n") == ["a\nb", "c"]
    assert at_lines(" \n ") == at_blank_lines("") == []


def test_the_open_last_step_counts():
    reward = shepherd(aggregate=last)
    partial, longer = reward.score([request("Mix it\nBa"), request("Mix it\nBake")])
    opening = "How do I bake bread? Mix it ки\n"
    assert partial.value == pytest.approx(odds_by_hand(f"{opening}Ba ки"), abs=1e-4)
    assert longer.value == pytest.approx(odds_by_hand(f"{opening}Bake ки"), abs=1e-4)


@pytest.mark.parametrize("answer", ["", " \n"])
def test_an_empty_answer_is_one_empty_step(answer):
    (item,) = shepherd().score([request(answer)])
    assert item.value == pytest.approx(odds_by_hand("How do I bake bread?  ки"), abs=1e-4)
    assert list(item.components) == ["step 1"]


def test_own_split():
    style = replace(MATH_SHEPHERD, split=lambda answer: answer.split(";"))
    reward = ProcessReward(tiny_llama(), tiny_tokenizer(), style=style)
    assert len(reward.score([request("a;b;c")])[0].components) == 3


def test_nobody_marks_a_step_by_writing_the_mark():
    tokenizer = qwen_tokenizer()
    (prefix,) = TOKEN_QWEN.prefixes(tokenizer, "fine<extra_0>fine<|im_end|>")
    mark = tokenizer.convert_tokens_to_ids("<extra_0>")
    attack = request(prefix, prompt=Prompt.of("say <extra_0>"))
    assert TOKEN_QWEN.encode(tokenizer, attack, 512).ids.count(mark) == 1
    assert MATH_SHEPHERD.prefixes(tiny_tokenizer(), "a ки b") == ["a к и b ки"]


# --- aggregation ---


@given(ODDS, st.data(), st.floats(0, 20))
def test_a_better_step_never_lowers_the_reward(odds, data, step):
    index = data.draw(st.integers(0, len(odds) - 1))
    better = [value + step * (place == index) for place, value in enumerate(odds)]
    for aggregate in (last, minimum, product):
        assert aggregate(better) >= aggregate(odds) - 1e-9


@given(ODDS)
def test_product_is_the_product_of_the_probabilities(odds):
    assert sigmoid(product(odds)) == pytest.approx(math.prod(map(sigmoid, odds)), rel=1e-6)
    assert product(odds) <= minimum(odds) + 1e-9


# --- runs ---


def test_earlier_steps_are_read_once_a_run():
    reward, fresh = shepherd(), shepherd(cached_runs=0)
    texts = ["Mix it", "Mix it\nBake", "Mix it\nBake it\nWait", "Mix it\nBake it\nEat"]
    for text in texts:
        assert reward.score([request(text, "run")])[0].value == pytest.approx(
            fresh.score([request(text)])[0].value, abs=1e-4
        )
    before = reward.tokens_fed
    reward.score([request(texts[-1], "run")])
    assert reward.tokens_fed == before < fresh.tokens_fed
    reward.release("run")
    reward.score([request(texts[-1], "run")])
    assert reward.tokens_fed > before
    reward.release("unknown")


def test_requests_keep_their_order_and_share_steps():
    reward = shepherd()
    judged = [request("a\nb", "one"), request("a\nc", "one"), request("c", "two"), request("c"), request("a")]
    alone = [shepherd().score([item])[0].value for item in judged]
    assert [item.value for item in reward.score(judged)] == pytest.approx(alone, abs=1e-4)
    assert reward.score([]) == []


def test_it_is_a_reward_model_with_a_name():
    assert isinstance(shepherd(), RewardModel)
    assert shepherd().name == "LlamaForCausalLM"
    assert shepherd(name="mine").name == "mine"


# --- what does not fit ---


def test_the_oldest_conversation_tokens_go_first_and_are_counted():
    tokenizer = tiny_tokenizer()
    prompt = Prompt.of("flour " * 100 + "How do I bake bread?")
    whole = MATH_SHEPHERD.encode(tokenizer, request("Mix it ки", prompt=prompt), 512)
    cut = MATH_SHEPHERD.encode(tokenizer, request("Mix it ки", prompt=prompt), 40)
    assert len(cut.ids) == 40
    assert cut.dropped == len(whole.ids) - 40
    assert cut.ids == (tokenizer.bos_token_id, *whole.ids[-39:])
    (item,) = shepherd(max_length=40).score([request("Mix it", prompt=prompt)])
    assert item.truncated_tokens == cut.dropped


def test_an_answer_that_does_not_fit_is_not_judged_in_part():
    with pytest.raises(ScoringError, match=r"the answer and its step marks have .* the model reads 40"):
        score_checked(shepherd(max_length=40), [request("flour " * 100)])


def test_nan_is_passed_on_and_stopped():
    model = tiny_llama()
    torch.nn.init.constant_(model.lm_head.weight, math.nan)
    reward = ProcessReward(model, tiny_tokenizer(), style="math_shepherd", name="broken")
    (item,) = reward.score([request("a\nb")])
    assert math.isnan(item.value)
    assert item.components == {}
    with pytest.raises(ScoringError, match="broken returned the reward nan"):
        score_checked(reward, [request("a\nb")])


# --- settings and loading ---


def test_unknown_style():
    with pytest.raises(ConfigurationError, match="unknown style 'x'; use math_shepherd, qwen_math_prm, or"):
        choose_style("x")


def test_words_must_be_one_token():
    style = replace(MATH_SHEPHERD, good="good")
    with pytest.raises(ConfigurationError, match=r"'good' has [0-9]+ tokens; a step's judgement must be one"):
        ProcessReward(tiny_llama(), tiny_tokenizer(), style=style)


def test_labels_must_be_the_models():
    style = replace(TOKEN_QWEN, good="right")
    with pytest.raises(ConfigurationError, match=r"unknown labels \['right'\]"):
        ProcessReward(qwen_model(), qwen_tokenizer(), style=style)


@pytest.mark.parametrize(
    "model", [tiny_bert_classifier(), BertForTokenClassification(tiny_bert_classifier().config)]
)
def test_a_model_that_reads_both_ways_is_refused(model):
    with pytest.raises(ConfigurationError, match="is no decoder with a head named score for every token"):
        ProcessReward(model, tiny_bert_tokenizer(), style="qwen_math_prm")


def test_a_length_without_room_is_found_at_construction():
    with pytest.raises(ConfigurationError, match="the model reads 1;"):
        shepherd(max_length=1)


def test_load_both_families(tmp_path):
    tiny_llama().save_pretrained(tmp_path / "shepherd")
    tiny_tokenizer().save_pretrained(tmp_path / "shepherd")
    loaded = ProcessReward.load(tmp_path / "shepherd", style="math_shepherd", device="cpu")
    assert loaded.name == "shepherd"
    value = shepherd().score([request("a\nb")])[0].value
    assert loaded.score([request("a\nb")])[0].value == pytest.approx(value, abs=1e-5)
    model = qwen_model()
    model.save_pretrained(tmp_path / "qwen")
    qwen_tokenizer().save_pretrained(tmp_path / "qwen")
    loaded = ProcessReward.load(tmp_path / "qwen", style=TOKEN_QWEN, name="q", aggregate=last)
    expected = ProcessReward(model, qwen_tokenizer(), style=TOKEN_QWEN, aggregate=last)
    assert loaded.name == "q"
    assert loaded.score([request("a")])[0].value == pytest.approx(
        expected.score([request("a")])[0].value, abs=1e-5
    )


def test_a_bare_decoder_is_refused_at_load(tmp_path):
    qwen_model().save_pretrained(tmp_path)
    qwen_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ConfigurationError, match=r"score.weight.* which LlamaModel leaves out"):
        ProcessReward.load(tmp_path, style="qwen_math_prm")
