"""Prompts that are read in pieces: the same answers, and others are served in between."""

from __future__ import annotations

import pytest
import torch

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import Budget, SamplingParams
from stars_guard.algorithm.escalation import SafetyHint
from stars_guard.algorithm.rules import Last
from stars_guard.algorithm.segments import FixedLength
from stars_guard.errors import ConfigurationError
from stars_guard.loop.sources import Proposers
from stars_guard.models.base import ObservableModel, ReadsInPieces
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.prompts import Prompt
from stars_guard.rewards.function import FunctionReward
from stars_guard.testing import ScriptedModel
from stars_guard.types import StopReason
from tests.support.guards import guarded, hard
from tests.support.tiny import tiny_llama, tiny_mistral_sliding, tiny_qwen_hybrid, tiny_tokenizer

LONG = "The quick brown fox jumps over the lazy dog. " * 4
SAMPLING = SamplingParams(max_tokens=12, seed=3)
LAYERS = (0, 2)
KINDS = {"full": tiny_llama, "sliding": tiny_mistral_sliding}


def local(made, **options):
    return TransformersModel(made, tiny_tokenizer(), **options)


def config(**changes):
    return hard(segments=FixedLength(max_tokens=4), drawing=Fixed(candidates=2), **changes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pieces", [1, 7, 40])
def test_answers_are_those_of_a_prompt_read_at_once(kind, pieces):
    made = KINDS[kind]()
    whole, parts = local(made), local(made, prefill_tokens=pieces)
    prompt = Prompt.raw(LONG)
    once, often = whole.start(prompt, SAMPLING), parts.start(prompt, SAMPLING)
    assert once.forward_passes == 1
    assert often.forward_passes == -(-often.prompt_tokens // pieces)
    assert parts.prefills == 1
    torch.testing.assert_close(once.known_logits, often.known_logits, atol=1e-5, rtol=1e-5)
    first, second = (guarded(model, None, config()) for model in (whole, parts))
    for seed in range(4):
        sampling = SAMPLING.changed(seed=seed)
        ids = first.generate(LONG, sampling=sampling).token_ids
        assert second.generate(LONG, sampling=sampling).token_ids == ids


@pytest.mark.parametrize("kind", KINDS)
def test_so_are_hidden_states(kind):
    made = KINDS[kind]()
    once = local(made).observe(Prompt.of(LONG), SAMPLING, LAYERS)
    often = local(made, prefill_tokens=7).observe(Prompt.of(LONG), SAMPLING, LAYERS)
    for part in ("prompt", "mean", "last"):
        torch.testing.assert_close(getattr(once.hidden, part), getattr(often.hidden, part))


def test_a_cache_that_cannot_be_read_on_from_is_read_at_once():
    model = local(tiny_qwen_hybrid(), prefill_tokens=4)
    assert model.start(Prompt.of(LONG), SAMPLING).forward_passes == 1


def test_a_piece_has_a_token():
    with pytest.raises(ConfigurationError, match="prefill_tokens=0 must be 1 or more"):
        local(tiny_llama(), prefill_tokens=0)


def test_others_are_served_while_a_prompt_is_read():
    model = local(tiny_llama(), prefill_tokens=2)
    guard = guarded(model, None, config(), sampling=SAMPLING)
    long, short = guard.stream(LONG), guard.stream(Prompt.raw("Hi"))
    alone = guarded(local(tiny_llama()), None, config(), sampling=SAMPLING)
    assert short.read().token_ids == alone.generate(Prompt.raw("Hi")).token_ids
    assert not long._request.started
    assert long.read().token_ids == alone.generate(LONG).token_ids
    assert long.result.usage.seconds.prefill > 0


def test_nobody_waits_for_the_rest_of_a_prompt():
    model = local(tiny_llama(), prefill_tokens=2)
    guard = guarded(model, None, config(), sampling=SAMPLING)
    stream, other = guard.stream(LONG), guard.stream(Prompt.raw("Hi"))
    next(other)
    passes = model.forward_passes
    stream.close()
    assert stream.read().stop_reason is StopReason.CANCELLED
    assert model.forward_passes == passes
    late = guard.stream(LONG, budget=Budget(max_seconds=0.001))
    assert late.read().stop_reason is StopReason.DEADLINE
    assert late.result.usage.forward_passes < 10
    assert late.result.text == ""


def test_what_an_answer_opens_later_is_read_in_pieces_too():
    def answer(**options):
        model = local(tiny_llama(), **options)
        hint = SafetyHint(after=2, text="Be kind, short and true. " * 4)
        reward = FunctionReward(
            lambda prompt, response: -1.0
        )  # so that all attempts are made, the hinted too
        settings = config(escalation=(hint,), max_attempts=6, exhaustion=Last(), floor=-1)
        result = guarded(model, reward, settings, sampling=SAMPLING).generate(LONG)
        return result.token_ids, [segment.attempts for segment in result.trace.segments]

    assert answer(prefill_tokens=5) == answer()


def test_a_source_is_opened_at_once_or_in_pieces():
    model = local(tiny_llama(), prefill_tokens=40)
    assert isinstance(model, ReadsInPieces)
    proposers = Proposers(model, None, LAYERS)
    source = proposers.begin(Prompt.of(LONG), SAMPLING, None)
    assert not source.read
    proposers.read_on(source)
    assert (source.read, source.hidden) == (False, None)
    opened = proposers.open(Prompt.of(LONG), SAMPLING, None)
    assert opened.read
    while not source.read:
        proposers.read_on(source)
    torch.testing.assert_close(source.hidden.prompt, opened.hidden.prompt)
    passes = model.forward_passes
    proposers.read_on(source)
    assert model.forward_passes == passes
    assert Proposers(ScriptedModel([["x"]]), None, ()).begin(Prompt.of("x"), SAMPLING, None).read


def test_a_model_that_shows_its_states_need_not_read_in_pieces():
    model = local(tiny_llama())

    class AtOnce(ScriptedModel):
        identity = model.identity
        observe = staticmethod(model.observe)

    at_once = AtOnce([["x"]])
    assert isinstance(at_once, ObservableModel)
    assert not isinstance(at_once, ReadsInPieces)
    source = Proposers(at_once, None, LAYERS).begin(Prompt.of(LONG), SAMPLING, None)
    opened = Proposers(model, None, LAYERS).open(Prompt.of(LONG), SAMPLING, None)
    assert source.read
    torch.testing.assert_close(source.hidden.prompt, opened.hidden.prompt)
