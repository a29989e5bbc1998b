"""Tiny random models and tokenizers, built on the fly: no network, no files, a fraction of a second each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from inspect import signature
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForCausalLM,
    MistralForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
    Qwen3NextForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

torch.set_num_threads(1)  # matrices this small only lose time on threads


def cache_argument(forward: Callable[..., Any]) -> str:
    """The name under which a forward pass takes its cache; since transformers 5.24 another one."""
    return "cache" if "cache" in signature(forward).parameters else "past_key_values"


PAD, BOS, EOS, START, END = "<|pad|>", "<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>"
VOCAB_SIZE = 384

CHATML = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

# Plain ASCII, so that every other character is spread over several byte tokens.
CORPUS = (
    "user assistant system\n",
    "How do I bake a good loaf of bread? Mix the flour, the water and the salt, then wait.",
    "How do I hurt somebody? I cannot help with that, but I can help you to talk about it.",
    "The quick brown fox jumps over the lazy dog. Safe answers are kind, short and true.",
    "def main():\n    return [number for number in range(10) if number % 2 == 0]\n",
)


@cache
def _byte_level_json() -> str:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[PAD, BOS, EOS, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return str(tokenizer.to_str())


def tiny_tokenizer(*, chat_template: bool = True, eos: str = END) -> PreTrainedTokenizerFast:
    """Byte-level BPE of 384 tokens with bos, eos and pad; adds bos to plain text; ChatML on demand.

    ``eos`` is the end of a turn, as in most chat models; pass ``EOS`` for a base model.
    """
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_byte_level_json()),
        bos_token=BOS,
        eos_token=eos,
        pad_token=PAD,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHATML if chat_template else None
    return tokenizer


def tiny_bert_tokenizer(*, max_length: int = 64) -> PreTrainedTokenizerFast:
    """Lower-casing WordPiece of characters and a few words: ``[CLS] A [SEP] B [SEP]`` with type ids."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = sorted({word.strip(".,?:").lower() for line in CORPUS for word in line.split() if word.isalpha()})
    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    pieces = dict.fromkeys([*specials, *words, *characters, *("##" + c for c in characters)])
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def _build(model_class: type[PreTrainedModel], config: Any, seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model_class(config).eval()


def _decoder_settings(overrides: dict[str, Any]) -> dict[str, Any]:
    tokens = tiny_tokenizer()
    settings: dict[str, Any] = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,  # the usual 0.02 makes all tokens, and all rewards, nearly equal
        "bos_token_id": tokens.bos_token_id,
        "eos_token_id": tokens.eos_token_id,
        "pad_token_id": tokens.pad_token_id,
    }
    return {**settings, **overrides}


def tiny_llama(*, seed: int = 0, **overrides: Any) -> LlamaForCausalLM:
    """Full attention; settings of ``LlamaConfig`` may be overridden."""
    return _build(LlamaForCausalLM, LlamaConfig(**_decoder_settings(overrides)), seed)


def tiny_llama_reward(*, seed: int = 0, **overrides: Any) -> LlamaForSequenceClassification:
    """Scalar reward model with full attention (``num_labels=1`` unless overridden)."""
    config = LlamaConfig(**_decoder_settings({"num_labels": 1, **overrides}))
    return _build(LlamaForSequenceClassification, config, seed)


def tiny_mistral_sliding(*, seed: int = 0, **overrides: Any) -> MistralForCausalLM:
    """Sliding-window attention over 16 tokens in every layer."""
    config = MistralConfig(**_decoder_settings({"sliding_window": 16, **overrides}))
    return _build(MistralForCausalLM, config, seed)


def tiny_mistral_reward(*, seed: int = 0, **overrides: Any) -> MistralForSequenceClassification:
    """Scalar reward model with sliding-window attention over 16 tokens."""
    settings = {"sliding_window": 16, "num_labels": 1, **overrides}
    return _build(MistralForSequenceClassification, MistralConfig(**_decoder_settings(settings)), seed)


def _hybrid_config(overrides: dict[str, Any]) -> Qwen3NextConfig:
    settings = {
        "layer_types": ["linear_attention", "full_attention"],
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 2,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    }
    return Qwen3NextConfig(**_decoder_settings({**settings, **overrides}))


def tiny_qwen_hybrid(*, seed: int = 0, **overrides: Any) -> Qwen3NextForCausalLM:
    """One linear-attention and one full-attention layer: a cache that cannot be cropped."""
    return _build(Qwen3NextForCausalLM, _hybrid_config(overrides), seed)


def tiny_qwen_hybrid_reward(*, seed: int = 0, **overrides: Any) -> Qwen3NextForSequenceClassification:
    """Scalar reward model over the hybrid decoder."""
    return _build(Qwen3NextForSequenceClassification, _hybrid_config({"num_labels": 1, **overrides}), seed)


def _named(labels: Sequence[str]) -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }


def tiny_bert_classifier(
    labels: Sequence[str] = ("safe", "unsafe"), *, seed: int = 0, **overrides: Any
) -> BertForSequenceClassification:
    """Encoder for :func:`tiny_bert_tokenizer`; one label makes it a scalar reward model."""
    settings = {
        "vocab_size": len(tiny_bert_tokenizer()),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,
        **_named(labels),
        **overrides,
    }
    return _build(BertForSequenceClassification, BertConfig(**settings), seed)


def tiny_distilbert_classifier(
    labels: Sequence[str] = ("safe", "unsafe"), *, seed: int = 0, **overrides: Any
) -> DistilBertForSequenceClassification:
    """Encoder without token type ids, for :func:`tiny_bert_tokenizer`."""
    settings = {
        "vocab_size": len(tiny_bert_tokenizer()),
        "dim": 32,
        "hidden_dim": 48,
        "n_layers": 2,
        "n_heads": 4,
        "max_position_embeddings": 64,
        "initializer_range": 0.2,
        **_named(labels),
        **overrides,
    }
    return _build(DistilBertForSequenceClassification, DistilBertConfig(**settings), seed)


def tiny_roberta_classifier(
    labels: Sequence[str] = ("safe", "unsafe"), *, seed: int = 0, **overrides: Any
) -> RobertaForSequenceClassification:
    """Encoder whose positions start at ``pad_token_id + 1``: 65 embeddings serve 64 tokens."""
    settings = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 65,
        "initializer_range": 0.2,
        "pad_token_id": 0,
        "type_vocab_size": 1,
        **_named(labels),
        **overrides,
    }
    return _build(RobertaForSequenceClassification, RobertaConfig(**settings), seed)
