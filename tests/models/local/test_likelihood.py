"""How likely a model finds answers: the same numbers as one pass a token, batched or alone."""

from __future__ import annotations

import pytest
import torch

from stars_guard.models.base import ReadsLikelihoods
from stars_guard.models.local import likelihood
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.prompts import Prompt
from stars_guard.testing import ScriptedModel
from tests.support.tiny import tiny_llama, tiny_mistral_sliding, tiny_qwen_hybrid, tiny_tokenizer

PROMPTS = [Prompt.of(text) for text in ("Hi", "How do I bake a good loaf of bread?", "Why?", "Who?")]
ANSWERS = ["Mix the flour and wait.", "Kind.", "", "I can help you to talk about it."]


def one_token_at_a_time(model, prompt, answer):
    ids = model.encode(prompt)
    values = []
    for token in model.tokenizer(answer, add_special_tokens=False)["input_ids"]:
        with torch.inference_mode():
            logits = model.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
        values.append(float(logits.log_softmax(-1)[token]))
        ids = [*ids, token]
    return values


@pytest.mark.parametrize("build", [tiny_llama, tiny_mistral_sliding, tiny_qwen_hybrid])
@pytest.mark.parametrize("most", [1, 130, 4096])
def test_every_token_has_the_log_probability_of_a_pass_of_its_own(monkeypatch, build, most):
    monkeypatch.setattr(likelihood, "LOGIT_TOKENS", most)
    model = TransformersModel(build(), tiny_tokenizer())
    read = model.log_probabilities(list(zip(PROMPTS, ANSWERS, strict=True)))
    for prompt, answer, values in zip(PROMPTS, ANSWERS, read, strict=True):
        assert values == pytest.approx(one_token_at_a_time(model, prompt, answer), abs=1e-4)
        assert all(value < 0 for value in values)
    assert read[2] == []
    assert model.log_probabilities([]) == []


def test_passes_are_counted():
    model = TransformersModel(tiny_llama(), tiny_tokenizer())
    passes = model.forward_passes
    model.log_probabilities([(PROMPTS[0], "a"), (PROMPTS[0], "a")])
    assert model.forward_passes == passes + 1


def test_a_model_says_whether_it_can():
    assert isinstance(TransformersModel(tiny_llama(), tiny_tokenizer()), ReadsLikelihoods)
    assert not isinstance(ScriptedModel([["a"]]), ReadsLikelihoods)
