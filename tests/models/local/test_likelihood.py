"""How likely a model finds an answer: as direct passes say, for texts of any lengths together."""

from __future__ import annotations

import pytest
import torch

from stars_guard.models import TransformersModel
from stars_guard.models.local.likelihood import log_probabilities
from stars_guard.prompts import Prompt
from tests.support.tiny import tiny_llama, tiny_mistral_sliding, tiny_qwen_hybrid, tiny_tokenizer

TEXTS = [
    (Prompt.of("Hello there"), "Hi!"),
    (Prompt.raw("Once"), " upon a time, long, long ago"),
    (Prompt.of("x"), ""),
    (Prompt.raw("One two three four five six seven eight"), "."),
] * 3


@pytest.mark.parametrize("build", [tiny_llama, tiny_mistral_sliding, tiny_qwen_hybrid])
def test_it_is_what_a_pass_over_each_text_alone_says(build):
    model = TransformersModel(build(), tiny_tokenizer())
    for (prompt, response), read in zip(TEXTS, log_probabilities(model, TEXTS), strict=True):
        assert read == pytest.approx(directly(model, prompt, response), abs=1e-4)


def directly(model: TransformersModel, prompt: Prompt, response: str) -> list[float]:
    before = model.encode(prompt)
    after = model.tokenizer(response, add_special_tokens=False)["input_ids"]
    with torch.inference_mode():
        scores = model.model(torch.tensor([before + after])).logits[0].log_softmax(-1)
    return [float(scores[len(before) + place - 1, token]) for place, token in enumerate(after)]
