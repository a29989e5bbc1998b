"""What a model may share is proven when it is constructed: by running it, whatever its name."""

from __future__ import annotations

import logging

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Constant
from stars_guard.algorithm.segments import FixedLength
from stars_guard.errors import ConfigurationError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.models.base import Order
from stars_guard.models.local import prefix_cache
from stars_guard.models.local.call import ways_to_call
from stars_guard.models.local.int8 import int8_linears, is_available
from stars_guard.models.local.proof import TOKENS, tokens_to_try
from stars_guard.models.local.rounding import Reference
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.prompts import Prompt
from stars_guard.rewards.function import FunctionReward
from stars_guard.types import Guarantee
from tests.families.architectures import build
from tests.families.checking import check_model, one_token_a_character
from tests.support.tiny import (
    cache_argument,
    tiny_llama,
    tiny_mistral_sliding,
    tiny_qwen_hybrid,
    tiny_tokenizer,
)


def local(model, **options) -> TransformersModel:
    return TransformersModel(model, tiny_tokenizer(), **options)


def acting(forward) -> LlamaForCausalLM:
    """A tiny Llama whose forward pass is another one, which gets the usual one as its first argument."""

    class Other(LlamaForCausalLM):
        pass

    made = tiny_llama()
    made.__class__ = Other
    Other.forward = forward
    return made


def usual(model, input_ids, attention_mask=None, position_ids=None, past_key_values=None, **kwargs):
    """Under the name that this transformers has for a cache."""
    given = {cache_argument(LlamaForCausalLM.forward): past_key_values}
    return LlamaForCausalLM.forward(model, input_ids, attention_mask, position_ids, **given, **kwargs)


def swallows_the_cache(self, input_ids=None, **kwargs):
    kwargs.pop("past_key_values", None)
    return usual(self, input_ids, **kwargs)


def ignores_the_cache(self, input_ids=None, past_key_values=None, **kwargs):
    return usual(self, input_ids, **kwargs)


def keeps_the_last_text(self, input_ids=None, past_key_values=None, use_cache=True, **kwargs):
    """The cache is written, and what is read is another one, of the text that was begun last."""
    if past_key_values is None or past_key_values.get_seq_length() == 0:
        self.kept = past_key_values
    return usual(self, input_ids, past_key_values=self.kept, use_cache=use_cache)


def calls_it_cache(self, input_ids=None, cache=None, attention_mask=None, position_ids=None, use_cache=True):
    """The name of transformers 5.24 and later."""
    return usual(self, input_ids, attention_mask, position_ids, cache, use_cache=use_cache)


def attends_to_padding(self, input_ids=None, past_key_values=None, attention_mask=None, **kwargs):
    return usual(self, input_ids, past_key_values=past_key_values, **kwargs)


def counts_from_nought(
    self, input_ids=None, past_key_values=None, attention_mask=None, position_ids=None, use_cache=True
):
    """Without positions, those after a cache begin again."""
    if position_ids is None:
        position_ids = torch.arange(input_ids.shape[1])[None]
    return usual(self, input_ids, attention_mask, position_ids, past_key_values, use_cache=use_cache)


def reads_both_ways(self, input_ids=None, past_key_values=None, use_cache=True, **kwargs):
    """Every token sees the last one."""
    output = usual(self, input_ids, past_key_values=past_key_values, use_cache=use_cache)
    output.logits = output.logits + 0.1 * self.lm_head.weight[input_ids[:, -1]].mean(-1)[:, None, None]
    return output


def needs_eight_tokens(self, input_ids=None, past_key_values=None, **kwargs):
    if input_ids.shape[1] < 8:
        raise IndexError("a chunk has 8 tokens")
    return usual(self, input_ids, past_key_values=past_key_values, **kwargs)


def always_fails(self, input_ids=None, past_key_values=None, **kwargs):
    raise RuntimeError("no kernel for this device\nand a second line")


def never_the_same(self, input_ids=None, past_key_values=None, **kwargs):
    output = usual(self, input_ids, past_key_values=past_key_values, **kwargs)
    self.calls = getattr(self, "calls", 0) + 1
    output.logits = output.logits * (1 + self.calls / 7)
    return output


def gives_no_numbers(self, input_ids=None, past_key_values=None, **kwargs):
    output = usual(self, input_ids, past_key_values=past_key_values, **kwargs)
    output.logits = output.logits * float("nan")
    return output


def test_a_proof_takes_five_passes_and_leaves_no_trace():
    made, calls = tiny_llama(), []
    made.register_forward_hook(lambda *args: calls.append(args))
    model = local(made)
    assert len(calls) == 5
    assert (model.forward_passes, model.prefills) == (0, 0)
    assert model.guarantee is Guarantee.TOKEN_IDS
    assert model.passes.sharing.reason == ""
    assert not made.get_input_embeddings()._forward_hooks


@pytest.mark.parametrize("build_model", [tiny_llama, tiny_mistral_sliding, tiny_qwen_hybrid])
def test_what_shares_all_says_nothing(build_model, caplog):
    sharing = local(build_model()).passes.sharing
    assert (sharing.shared, sharing.padded) == (True, True)
    assert sharing.in_pieces is (build_model is not tiny_qwen_hybrid)
    assert not [record for record in caplog.records if record.name == "stars_guard"]


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (swallows_the_cache, "takes no cache"),
        (ignores_the_cache, "keeps its state elsewhere"),
        (keeps_the_last_text, "RuntimeError: Sizes of tensors must match"),
        (reads_both_ways, "a pass that fills a cache gives other logits"),
        (needs_eight_tokens, "IndexError: a chunk has 8 tokens"),
    ],
)
def test_what_fails_shares_nothing_and_says_so_once(forward, reason, caplog):
    with caplog.at_level(logging.WARNING, logger="stars_guard"):
        model = local(acting(forward), name="odd")
    [warning] = caplog.messages
    assert warning.startswith("odd: candidates share nothing (")
    assert reason in warning
    assert reason in model.passes.sharing.reason
    assert model.guarantee is Guarantee.UNSHARED


@pytest.mark.parametrize("forward", [swallows_the_cache, ignores_the_cache, reads_both_ways])
def test_it_is_never_wrong_text(forward):
    made = acting(forward)
    made.config.update({"vocab_size": 64})
    made.resize_token_embeddings(64)
    assert check_model("odd", made).guarantee == "unshared"


def test_the_level_is_in_the_trace_and_as_exact_as_token_ids():
    config = GuardConfig(threshold=Constant(target=0.0), min_guarantee=Guarantee.TOKEN_IDS)
    guard = StarsGuardedLLM(
        local(acting(ignores_the_cache)), FunctionReward(lambda prompt, text: 1.0), config
    )
    result = guard.generate("Hi", sampling=SamplingParams(max_tokens=4, seed=1))
    assert result.trace.guarantee is Guarantee.UNSHARED


def test_levels_are_ordered_but_for_the_two_of_token_ids():
    assert Guarantee.UNSHARED.covers(Guarantee.TOKEN_IDS)
    assert Guarantee.TOKEN_IDS.covers(Guarantee.UNSHARED)
    assert not Guarantee.TEXT.covers(Guarantee.UNSHARED)


def test_positions_are_never_left_to_a_default():
    model = local(acting(counts_from_nought))
    assert model.passes.sharing.padded
    assert model.guarantee is Guarantee.TOKEN_IDS


def test_the_cache_goes_by_the_name_that_a_version_has_for_it():
    model = local(acting(calls_it_cache))
    assert model.passes.sharing.call.cache == "cache"
    assert model.passes.sharing.padded


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_adapters_and_compiled_models_take_what_the_model_inside_takes():
    adapted = get_peft_model(tiny_llama(), LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))
    compiled = torch.compile(tiny_llama(), backend="eager")
    for made in (adapted, compiled):
        [usual_way, *_] = ways_to_call(made)
        assert {"position_ids", "logits_to_keep", "attention_mask"} <= usual_way.accepted
        assert usual_way.cache == ways_to_call(tiny_llama())[0].cache
    assert local(adapted).passes.sharing.padded


@pytest.mark.parametrize("window", [1, 2, 7])
def test_a_window_may_be_shorter_than_the_text_of_a_proof(window):
    made = tiny_mistral_sliding(sliding_window=window)
    made.resize_token_embeddings(64)
    assert check_model("mistral", made).proven


def test_rows_that_cannot_be_padded_are_drawn_with_their_equals(caplog):
    made = acting(attends_to_padding)
    model = local(made, name="odd")
    assert model.guarantee is Guarantee.TOKEN_IDS
    assert not model.passes.sharing.padded
    assert caplog.messages == [
        "odd: only answers of equal length are drawn together (a padded row gives other logits than a pass "
        "without a cache)"
    ]
    made.resize_token_embeddings(64)
    assert check_model("odd", made) == check_model("odd", made)


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (
            always_fails,
            "a pass over 8 tokens without a cache failed: RuntimeError: no kernel for this device",
        ),
        (never_the_same, "the same text, read again, gives other logits"),
        (gives_no_numbers, "its logits are no numbers"),
    ],
)
def test_what_cannot_be_used_at_all_is_refused(forward, reason):
    with pytest.raises(ConfigurationError, match=f"odd cannot be used: {reason}"):
        local(acting(forward), name="odd")


def test_a_kind_of_cache_that_is_not_known_is_not_forked(monkeypatch):
    monkeypatch.setattr(prefix_cache, "_SUPPORTED", ())
    model = local(tiny_llama())
    assert model.guarantee is Guarantee.UNSHARED
    assert "which cannot be forked" in model.passes.sharing.reason


@pytest.mark.parametrize("name", ["recurrent_gemma", "roberta"])
def test_a_state_kept_in_modules_and_positions_counted_by_padding_are_found(name):
    assert TransformersModel(build(name), one_token_a_character()).guarantee is Guarantee.UNSHARED


@pytest.mark.parametrize("number_format", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["llama", "mixtral", "gpt2", "gemma2"])
def test_rounding_is_no_fault(name, number_format):
    for seed in range(3):
        made = build(name, seed).to(number_format)
        assert TransformersModel(made, one_token_a_character()).passes.sharing.padded


@pytest.mark.parametrize("number_format", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("forward", [ignores_the_cache, keeps_the_last_text])
def test_a_fault_is_no_rounding(forward, number_format):
    assert local(acting(forward).to(number_format)).guarantee is Guarantee.UNSHARED


@pytest.mark.skipif(not is_available(), reason="this torch has no int8 kernels for this machine")
def test_eight_bits_are_no_fault():
    for seed in range(3):
        made = int8_linears(tiny_llama(seed=seed))
        assert local(made).passes.sharing.padded


def tolerance(model) -> float:
    call = local(model).passes.sharing.call
    return Reference(model, call, [7, 8, 9, 10, 7, 11, 12, 13], 4)._tolerance


def test_the_tolerance_is_that_of_what_computes(monkeypatch):
    plain = tolerance(tiny_llama())
    quantised = tiny_llama()
    quantised.config.quantization_config = {"quant_method": "of some kind"}
    elsewhere = tiny_llama()
    call = local(elsewhere).passes.sharing.call
    monkeypatch.setattr(
        "stars_guard.models.local.rounding._is_on_cpu", lambda model: False
    )  # where 10 bits of a float32 may be kept
    reduced = Reference(elsewhere, call, [7, 8, 9, 10, 7, 11, 12, 13], 4)._tolerance
    monkeypatch.undo()
    assert plain < reduced < tolerance(quantised)


def test_a_proof_reads_ordinary_tokens():
    tokenizer, config = tiny_tokenizer(), tiny_llama().config
    ids = tokens_to_try(tokenizer, config)
    assert len(set(ids)) == TOKENS
    assert set(ids) & set(tokenizer.all_special_ids) == {config.pad_token_id}
    config.pad_token_id = None
    assert not set(tokens_to_try(tokenizer, config)) & set(tokenizer.all_special_ids)
    config.vocab_size = 3
    assert set(tokens_to_try(one_token_a_character(), config)) == {0, 1, 2}


def test_a_model_is_usable_after_its_proof():
    model = local(tiny_llama())
    session = model.start(Prompt.of("Hi"), SamplingParams(max_tokens=4, seed=1))
    assert session.forward_passes == model.forward_passes == 1


def test_rows_that_share_nothing_may_end_apart():
    model = local(acting(ignores_the_cache))
    model.eos_ids = frozenset()
    sampling = SamplingParams(max_tokens=20, temperature=0, seed=1)
    sessions = [model.start(Prompt.of(text), sampling) for text in ("Hi", "Hello there")]
    orders = [
        Order(session, 0, 0, 2, FixedLength(max_tokens=tokens), False, lambda: True)
        for session, tokens in zip(sessions, (2, 5), strict=True)
    ]
    together = model.propose(orders)
    assert [len(proposal.candidates[0].token_ids) for proposal in together] == [2, 5]
    for proposal, order in zip(together, orders, strict=True):
        assert model.propose([order])[0].candidates[0].token_ids == proposal.candidates[0].token_ids
