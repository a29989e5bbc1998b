"""How likely a model finds answers as they grow: as a pass over each whole text says, and each token once."""

from __future__ import annotations

import pytest
import torch

from stars_guard.errors import ContextLengthError
from stars_guard.models import TransformersModel
from stars_guard.models.local.growing import GrowingLikelihoods
from stars_guard.prompts import Prompt
from tests.families.architectures import build as built
from tests.families.checking import one_token_a_character
from tests.support.tiny import tiny_llama, tiny_mistral_sliding, tiny_qwen_hybrid, tiny_tokenizer

SHORT, LONG = Prompt.of("Hello there"), Prompt.raw("One two three four five six seven eight")


def directly(model: TransformersModel, prompt: Prompt, ids: tuple[int, ...]) -> list[float]:
    """By a pass over all that is before each token, which is what it would be drawn from."""
    whole = [*model.encode(prompt), *ids]
    begin = len(whole) - len(ids)
    with torch.inference_mode():
        logits = [
            model.model(torch.tensor([whole[:place]])).logits[0, -1] for place in range(begin, len(whole))
        ]
    return [float(after.log_softmax(-1)[token]) for after, token in zip(logits, ids, strict=True)]


def checked(model: TransformersModel, likelihoods: GrowingLikelihoods, answers, last) -> None:
    read = likelihoods.read(answers, last)
    for (_, prompt, ids), values in zip(answers, read, strict=True):
        assert values == pytest.approx(directly(model, prompt, ids)[-last:], abs=1e-4)


@pytest.mark.parametrize("build", [tiny_llama, tiny_mistral_sliding, tiny_qwen_hybrid])
@pytest.mark.parametrize("last", [1, 3])
def test_it_is_what_a_pass_over_the_whole_text_says_while_answers_grow(build, last):
    model = TransformersModel(build(), tiny_tokenizer())
    likelihoods = GrowingLikelihoods(model)
    ids = tuple(range(40, 60))
    for length in range(0, len(ids), last):
        ends = [(90, 91, 92)[:last], (93, 94)[:last], (95,)]
        candidates = [(*ids[:length], *end) for end in ends]
        checked(model, likelihoods, [("short", SHORT, each) for each in candidates], last)
        checked(model, likelihoods, [("short", SHORT, candidates[0]), ("long", LONG, candidates[1])], last)


def test_it_is_right_where_a_long_text_is_read_otherwise():
    model = TransformersModel(built("phi3"), one_token_a_character())
    likelihoods = GrowingLikelihoods(model)
    prompt = Prompt.raw("".join(chr(0x4E00 + place) for place in range(18)))
    for length in range(0, 16, 2):
        ids = tuple(5 + place for place in range(length))
        checked(model, likelihoods, [("run", prompt, (*ids, last, last + 1)) for last in (7, 8)], 2)


def test_it_goes_back_where_the_answer_does():
    model = TransformersModel(tiny_llama(), tiny_tokenizer())
    likelihoods = GrowingLikelihoods(model)
    for ids in [(40, 41, 42, 43), (40, 51, 52), (40,), ()]:
        checked(model, likelihoods, [("run", SHORT, ids)], 1)


def test_each_token_is_read_once_however_many_candidates_there_are():
    model = TransformersModel(tiny_llama(), tiny_tokenizer())
    likelihoods = GrowingLikelihoods(model)
    likelihoods.read([("a", SHORT, (40,)), ("b", LONG, (50,))], 1)
    before = model.forward_passes
    likelihoods.read([("a", SHORT, (40, last)) for last in range(60, 70)] + [("b", LONG, (50, 51))], 1)
    assert model.forward_passes == before + 1
    likelihoods.read([("a", SHORT, (40, 77))], 1)
    assert model.forward_passes == before + 1


def test_what_was_forgotten_is_read_anew():
    model = TransformersModel(tiny_llama(), tiny_tokenizer())
    likelihoods = GrowingLikelihoods(model)
    likelihoods.forget("a")
    likelihoods.read([("a", SHORT, (40,))], 1)
    likelihoods.forget("a")
    likelihoods.read([("a", SHORT, (40,))], 1)
    assert model.prefills == 2


def test_a_persona_that_leaves_no_room_for_the_answer_is_refused():
    model = TransformersModel(tiny_llama(), tiny_tokenizer())
    ids = (40,) * (model.context_window or 0)
    with pytest.raises(ContextLengthError, match="exceed"):
        GrowingLikelihoods(model).read([("a", SHORT, ids)], 1)
