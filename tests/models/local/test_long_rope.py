"""LongRoPE: a text past the first training length is read otherwise, from its beginning."""

from __future__ import annotations

import pytest
import torch

from stars_guard.algorithm.config import SamplingParams
from stars_guard.algorithm.segments import FixedLength
from stars_guard.models.base import Order
from stars_guard.models.local.sharing import turning_points
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.models.local.unshared import UnsharedRows
from stars_guard.prompts import Prompt
from stars_guard.types import Candidate, Guarantee
from tests.families.architectures import build
from tests.families.checking import check_rejections, one_token_a_character, whole_pass
from tests.support.tiny import tiny_llama

TURNS = 24
"""Tokens past which the tiny model is read otherwise."""
LAYERS = (1, 3)


@pytest.fixture(scope="module")
def model() -> TransformersModel:
    made = TransformersModel(build("phi3"), one_token_a_character(), prefill_tokens=8)
    made.eos_ids = frozenset()
    return made


def session(model: TransformersModel, tokens: int, layers=()):
    prompt = Prompt.raw("".join(chr(0x4E00 + place * 7 % 63) for place in range(tokens)))
    return model._read(model.begin(prompt, SamplingParams(max_tokens=100, temperature=0, seed=1), layers))


def order(session, tokens: int = 4) -> Order:
    return Order(session, 0, 0, 2, FixedLength(max_tokens=tokens), False, lambda: True)


def greedy(model: TransformersModel, ids: list[int], count: int) -> tuple[int, ...]:
    answer: list[int] = []
    while len(answer) < count:
        answer.append(int(whole_pass(model.model, [*ids, *answer]).argmax()))
    return tuple(answer)


def test_where_a_model_turns():
    assert turning_points(build("phi3").config) == (TURNS,)
    assert turning_points(build("llama").config) == ()
    by_layer = tiny_llama().config
    by_layer.rope_parameters = {
        "full_attention": {"rope_type": "longrope", "original_max_position_embeddings": 8},
        "sliding_attention": {"rope_type": "default"},
    }
    assert turning_points(by_layer) == (8,)


def test_it_shares_what_it_can(model):
    assert model.guarantee is Guarantee.TOKEN_IDS
    assert [session(model, tokens).side for tokens in (5, 24, 25)] == [0, 0, 1]
    # In pieces of eight up to there; past it, a piece would have been read otherwise than the whole.
    assert [session(model, tokens).forward_passes for tokens in (5, 24, 25, 40)] == [1, 3, 1, 1]


@pytest.mark.parametrize("lengths", [(5, 30), (22, 23, 24, 25), (5, 19, 40)])
def test_a_long_row_does_not_change_a_short_one(model, lengths):
    sessions = [session(model, tokens) for tokens in lengths]
    for _ in range(5):
        expected = [greedy(model, [*each.prompt_ids, *each.token_ids], 4) for each in sessions]
        proposals = model.propose([order(each) for each in sessions])
        assert [proposal.candidates[1].token_ids for proposal in proposals] == expected
        for each, proposal in zip(sessions, proposals, strict=True):
            each.accept(proposal.candidates[1])


def test_only_the_round_that_crosses_is_drawn_anew(model):
    answer = session(model, 18)
    kinds, sides = [], []
    for _ in range(4):
        [proposal] = model.propose([order(answer)])
        kinds.append(type(answer.cache) is UnsharedRows)
        sides.append(answer.side)
        answer.accept(proposal.candidates[0])
    assert kinds == [False, True, False, False]
    assert sides == [0, None, 1, 1]


def test_a_pass_for_every_row_is_counted_where_nothing_is_shared(model):
    answer = session(model, 22)
    before = answer.forward_passes
    model.propose([order(answer)])
    assert answer.forward_passes - before == 2 * 3


@pytest.mark.parametrize("tokens", [1, 4])
def test_tokens_from_elsewhere_may_cross_too(model, tokens):
    answer = session(model, 23, LAYERS)
    ids = tuple(range(3, 3 + tokens))
    answer.accept(Candidate(ids, "", None))
    [proposal] = model.propose([order(answer)])
    expected = greedy(model, [*answer.prompt_ids, *ids], 4)
    assert proposal.candidates[0].token_ids == expected
    plain = session(model, 23)
    plain.accept(Candidate(ids, "", None))
    [proposal] = model.propose([order(plain)])
    assert proposal.candidates[0].token_ids == expected
    assert answer.hidden.tokens == tokens


def test_states_are_those_of_a_text_read_whole(model):
    prompt = Prompt.raw("".join(chr(0x4E00 + place * 5 % 63) for place in range(20)))
    answer = model.observe(prompt, SamplingParams(max_tokens=100, temperature=0, seed=1), LAYERS)
    for _ in range(3):
        [proposal] = model.propose([order(answer)])
        answer.accept(proposal.candidates[0])
    ids = [*answer.prompt_ids, *answer.token_ids]
    with torch.inference_mode():
        states = model.model(input_ids=torch.tensor([ids]), use_cache=False, output_hidden_states=True)
    last = torch.stack([states.hidden_states[layer][0, -1] for layer in LAYERS])
    torch.testing.assert_close(answer.hidden.last, last, atol=1e-4, rtol=1e-4)


def test_texts_on_both_sides_are_read_apart(model):
    texts = [(Prompt.raw("一丁丂七"), "丄" * tokens) for tokens in (3, 30, 5)]
    passes = model.forward_passes
    together = model.read_states(texts, LAYERS)
    assert model.forward_passes - passes == 2
    for text, [states] in zip(texts, together, strict=True):
        [[alone]] = model.read_states([text], LAYERS)
        torch.testing.assert_close(states.last, alone.last, atol=1e-5, rtol=1e-5)


def test_rejections_change_nothing(model):
    check_rejections(model)
