"""Decoder reward models: incremental scoring equals scoring from the beginning, and feeds only new tokens."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stars_guard.errors import ScoringError
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest, score_checked
from stars_guard.rewards.classifiers import causal
from stars_guard.rewards.classifiers.causal import CausalScorer, is_causal_decoder
from stars_guard.rewards.classifiers.classifier import ClassifierReward
from tests.support.tiny import (
    tiny_bert_classifier,
    tiny_llama_reward,
    tiny_mistral_reward,
    tiny_qwen_hybrid_reward,
    tiny_tokenizer,
)

MODELS = {"llama": tiny_llama_reward, "sliding": tiny_mistral_reward}
PROMPT = Prompt.of("How do I bake a good loaf of bread? Say it in a few words.")
# Ragged rounds of one run: each begins with an accepted text, or repeats one after all were rejected.
ROUNDS = [
    [""],
    ["Mix the flour", "I cannot", "Wait, what is the good of it?", "M"],
    ["Mix the flour, the water and the salt", "Mix the flour quickly", "Mix the flour"],
    ["I cannot help with that", "Mix the flour \U0001f600", "Wait"],
    ["Mix the flour \U0001f600 then wait for an hour or two", "Mix the flour \U0001f600 caf\u00e9"],
]


def requests(responses, *, run_id="run", finished=False, prompt=PROMPT):
    return [ScoreRequest(prompt, response, finished, run_id) for response in responses]


def values(reward, batch):
    return [item.value for item in reward.score(batch)]


def from_the_beginning(model, batch, **settings):
    """The reference: each text alone, through the model's own forward, without any cache."""
    alone = ClassifierReward(model, tiny_tokenizer(), cached_runs=0, **settings)
    with torch.inference_mode():
        rows = [torch.tensor([alone._encode(request).ids]) for request in batch]
        return [model(row, use_cache=False).logits[0].tolist() for row in rows]


def expected_values(model, batch, **settings):
    return [logits[0] for logits in from_the_beginning(model, batch, **settings)]


def close(expected):
    return pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_incremental_equals_full_over_rounds(build):
    model = build()
    reward = ClassifierReward(model, tiny_tokenizer())
    for responses in ROUNDS:
        batch = requests(responses)
        assert values(reward, batch) == close(expected_values(model, batch))
    closed = requests(ROUNDS[-1][:1], finished=True)
    assert values(reward, closed) == close(expected_values(model, closed))


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_the_cache_goes_in_under_the_name_that_the_decoder_has_for_it(name, monkeypatch):
    model = tiny_llama_reward()
    expected = expected_values(model, requests(ROUNDS[2]))
    forward, takes = model.base_model.forward, causal._cache_argument(model.base_model)

    def renamed(input_ids, attention_mask, position_ids, use_cache, cache):
        places = {"attention_mask": attention_mask, "position_ids": position_ids}
        return forward(input_ids=input_ids, use_cache=use_cache, **places, **{takes: cache})

    def named_as_before(input_ids, attention_mask, position_ids, use_cache, past_key_values):
        return renamed(input_ids, attention_mask, position_ids, use_cache, past_key_values)

    monkeypatch.setattr(
        model.base_model, "forward", {"cache": renamed, "past_key_values": named_as_before}[name]
    )
    assert is_causal_decoder(model)
    reward = ClassifierReward(model, tiny_tokenizer())
    for responses in ROUNDS[1:3]:
        scored = values(reward, requests(responses))
    assert scored == close(expected)


@pytest.mark.parametrize("build", [*MODELS.values(), tiny_qwen_hybrid_reward], ids=[*MODELS, "hybrid"])
def test_batch_equals_single_without_a_run(build):
    model = build()
    reward = ClassifierReward(model, tiny_tokenizer())
    batch = [request for responses in ROUNDS for request in requests(responses, run_id="")]
    together = values(reward, batch)
    assert together == pytest.approx([values(reward, [request])[0] for request in batch], abs=1e-5)
    assert together == close(expected_values(model, batch))


def test_a_cache_that_cannot_be_cropped_is_not_used():
    model = tiny_qwen_hybrid_reward()
    reward = ClassifierReward(model, tiny_tokenizer())
    assert not reward._causal.incremental
    for responses in ROUNDS[1:3]:
        batch = requests(responses)
        assert values(reward, batch) == close(expected_values(model, batch))


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_rotary_embeddings_that_depend_on_the_length_are_not_cached(kind):
    rope = {"rope_type": kind, "rope_theta": 10000.0, "factor": 2.0}
    if kind == "longrope":
        rope |= {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "original_max_position_embeddings": 32}
    scorer = CausalScorer(tiny_llama_reward(rope_parameters=rope), 0, cached_runs=2)
    assert not scorer.incremental


ROWS = st.lists(st.lists(st.integers(5, 6), min_size=1, max_size=24).map(tuple), min_size=1, max_size=4)
SCORERS = {name: CausalScorer(build(), 0, cached_runs=1) for name, build in MODELS.items()}


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=40, deadline=None)
@given(rounds=st.lists(ROWS, min_size=2, max_size=5))
def test_any_rows_in_any_order(name, rounds):
    scorer = SCORERS[name]
    with torch.inference_mode():
        for rows in rounds:
            got, expected = scorer.logits_of_run("run", rows), scorer.logits(rows)
            assert [row[0] for row in got] == close([row[0] for row in expected])


def test_only_new_tokens_are_fed():
    scorer = CausalScorer(tiny_llama_reward(), 0, cached_runs=2)
    prompt = tuple(range(10, 30))

    def fed(*rows):
        before = scorer.tokens_fed
        with torch.inference_mode():
            scorer.logits_of_run("run", rows)
        return scorer.tokens_fed - before

    assert fed(prompt) == 20
    assert fed((*prompt, 1, 2, 3), (*prompt, 4, 5), (*prompt, 6)) == 3 + 2 + 1
    assert fed((*prompt, 7, 8), (*prompt, 9)) == 2 + 1  # all were rejected
    assert fed((*prompt, 7, 8, 1, 2), (*prompt, 7, 8, 3)) == 2 + 1  # the first was accepted
    assert fed((*prompt, 7, 8, 1, 2)) == 1  # the same again: the last token gives the reward
    scorer.release("run")
    assert fed((*prompt, 1), (*prompt, 2)) == 20 + 2  # the shared prompt only once
    assert fed((99, 98)) == 2


def test_a_short_shared_part_is_fed_with_each_row():
    scorer = CausalScorer(tiny_llama_reward(), 0, cached_runs=2)
    with torch.inference_mode():
        scorer.logits_of_run("run", [(1, 2, 3), (1, 2, 4)])
    assert scorer.tokens_fed == 6


def test_one_accepted_answer_through_the_adapter_feeds_little():
    reward = ClassifierReward(tiny_llama_reward(), tiny_tokenizer())
    reward.score(requests([""]))
    whole = reward.tokens_fed
    reward.score(requests([" flour", " bread"]))
    assert reward.tokens_fed - whole < 8


def test_runs_have_caches_of_their_own():
    model = tiny_llama_reward()
    reward = ClassifierReward(model, tiny_tokenizer())
    other = Prompt.of("How do I hurt somebody?")
    for first, second in zip(ROUNDS[1], ROUNDS[2], strict=False):
        batch = [
            *requests([first], run_id="a"),
            *requests([second], run_id="b", prompt=other),
            *requests([second], run_id="a"),
            *requests([first], run_id=""),
        ]
        assert values(reward, batch) == close(expected_values(model, batch))


def test_release_and_the_bound_on_runs():
    reward = ClassifierReward(tiny_llama_reward(), tiny_tokenizer(), cached_runs=2)
    runs = reward._causal._runs
    for run_id in "abc":
        reward.score(requests(["Mix"], run_id=run_id))
    assert list(runs) == ["b", "c"]
    reward.score(requests(["Mix it"], run_id="b"))
    assert list(runs) == ["c", "b"]
    reward.release("c")
    reward.release("unknown")
    assert list(runs) == ["b"]


def test_no_runs_are_cached_when_turned_off():
    reward = ClassifierReward(tiny_llama_reward(), tiny_tokenizer(), cached_runs=0)
    reward.score(requests(["Mix"]))
    assert not reward._causal._runs


def test_a_failure_leaves_no_broken_cache(monkeypatch):
    model = tiny_llama_reward()
    reward = ClassifierReward(model, tiny_tokenizer())
    reward.score(requests(ROUNDS[1]))
    with monkeypatch.context() as patch:
        patch.setattr(reward._causal, "_head", lambda hidden: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            reward.score(requests(ROUNDS[2]))
    assert not reward._causal._runs
    assert values(reward, requests(ROUNDS[2])) == close(expected_values(model, requests(ROUNDS[2])))


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_truncation_moves_the_prefix_and_stays_correct(build):
    model = build()
    reward = ClassifierReward(model, tiny_tokenizer(), max_length=48)
    for responses in [*ROUNDS, ["Mix the flour " * length for length in (5, 9, 20)]]:
        batch = requests(responses)
        assert values(reward, batch) == close(expected_values(model, batch, max_length=48))
    assert all(item.truncated_tokens > 0 for item in reward.score(batch))


def test_several_labels_and_no_padding_id():
    model = tiny_llama_reward(num_labels=3, pad_token_id=None)
    reward = ClassifierReward(model, tiny_tokenizer(), good="LABEL_1", scale="logit")
    assert model.config.pad_token_id == tiny_tokenizer().pad_token_id
    batch = requests(ROUNDS[1])
    expected = [logits[1] for logits in from_the_beginning(model, batch, good="LABEL_1")]
    assert values(reward, batch) == close(expected)


def test_which_models_count_as_causal():
    assert is_causal_decoder(tiny_llama_reward())
    assert not is_causal_decoder(tiny_bert_classifier())
    assert not is_causal_decoder(tiny_llama_reward(is_causal=False))
    assert not is_causal_decoder(tiny_llama_reward(use_bidirectional_attention=True))


def test_positions_are_left_out_for_models_that_make_their_own():
    from transformers import BloomConfig, BloomForSequenceClassification

    torch.manual_seed(0)
    config = BloomConfig(vocab_size=384, hidden_size=32, n_layer=2, n_head=4, num_labels=1, pad_token_id=0)
    model = BloomForSequenceClassification(config).eval()
    reward = ClassifierReward(model, tiny_tokenizer())
    for responses in ROUNDS[:3]:
        batch = requests(responses)
        assert values(reward, batch) == close(expected_values(model, batch))


def test_a_long_text_is_fed_in_pieces_between_which_the_call_may_end(monkeypatch):
    rows = [tuple(range(10, 50)), (*range(10, 49), 7)]
    with torch.inference_mode():
        expected = CausalScorer(tiny_llama_reward(), 0, cached_runs=2).logits_of_run("run", rows)
    monkeypatch.setattr(causal, "_PIECE", 10)
    scorer = CausalScorer(tiny_llama_reward(), 0, cached_runs=2)
    fed = []

    def between():
        fed.append(scorer.tokens_fed)
        if len(fed) == 6:
            raise TimeoutError

    with torch.inference_mode():
        got = scorer.logits_of_run("run", rows, between)
        assert [row[0] for row in got] == close([row[0] for row in expected])
        assert fed == [0, 10, 20, 30]
        assert [row[0] for row in scorer.logits_of_run("one", rows[:1])] == close([expected[0][0]])
        with pytest.raises(TimeoutError):
            scorer.logits_of_run("another", rows, between)
        got = scorer.logits_of_run("another", rows)
    assert [row[0] for row in got] == close([row[0] for row in expected])


@pytest.mark.parametrize("run_id", ["run", ""])
def test_nothing_is_read_that_is_late(run_id):
    reward = ClassifierReward(tiny_llama_reward(), tiny_tokenizer())
    late = ScoreRequest(Prompt.of("word " * 200), "x", False, run_id=run_id, deadline=0.0)
    in_time = ScoreRequest(Prompt.of("word"), "x", False, run_id=run_id)
    with pytest.raises(ScoringError, match="had no time to read to the end"):
        score_checked(reward, [late])
    assert len(score_checked(reward, [late, in_time])) == 2
