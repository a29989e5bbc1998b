"""Every causal architecture of transformers, built tiny: random weights, a few thousand of them, no files."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCABULARY = 64
NAMES: tuple[str, ...] = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
"""All of them, by ``model_type``."""

_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "eos_token_id": None,
    "bos_token_id": None,
    "pad_token_id": None,
}
"""What every configuration is given."""

_SMALL: dict[str, Any] = {
    "head_dim": 8,
    # experts
    "n_routed_experts": 4,
    "num_experts": 4,
    "num_local_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_topk": 2,
    "moe_k": 2,
    "n_shared_experts": 1,
    "num_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
    "shared_intermediate_size": 16,
    "expert_ffn_hidden_size": 16,
    "ffn_hidden_size": 48,
    "zero_expert_num": 2,
    # latent attention, sparse attention, windows
    "q_lora_rank": 16,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "index_n_heads": 2,
    "index_head_dim": 8,
    "index_topk": 64,
    "sparse_index_topk": 64,
    "sliding_window": 6,
    "kv_channels": 8,
    "global_head_dim": 8,
    "num_global_key_value_heads": 1,
    "swa_head_dim": 8,
    "num_swa_key_value_heads": 2,
    # linear attention
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "head_k_dim": 8,
    "head_v_dim": 8,
    "block_ff_dim": 48,
    # decoders of encoder-decoders
    "d_model": 32,
    "decoder_layers": 2,
    "encoder_layers": 2,
    "decoder_ffn_dim": 48,
    "encoder_ffn_dim": 48,
    "decoder_attention_heads": 4,
    "encoder_attention_heads": 4,
    "dim_head": 8,
    "dim_ff": 48,
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": VOCABULARY,
}
"""What a configuration is given if it has such a field."""

_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_LATENT = {"num_key_value_heads": 4, "head_dim": None}
_GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256}
_GPTJ = {**_GPT2, "rotary_dim": 8}
_MASKED = {"is_decoder": True, "pad_token_id": VOCABULARY - 1}
"""A masked language model, used as a decoder."""
_LINEAR_AND_FULL = {"layer_types": ["linear_attention", "full_attention"] * 2}
_MAMBA2 = {
    "mamba_n_heads": 8,
    "mamba_d_head": 8,
    "mamba_n_groups": 1,
    "mamba_d_state": 8,
    "mamba_chunk_size": 4,
}
_TINY_VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 14,
}
_LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
    "original_max_position_embeddings": 24,
}

_OWN: dict[str, dict[str, Any]] = {
    "axk1": _LATENT,
    "axk2": _LATENT,
    "bailing_hybrid": {**_LATENT, "layer_group_size": 2},
    "bamba": {**_MAMBA2, "mamba_expand": 2, "attn_layer_indices": [1, 3]},
    "bert": _MASKED,
    "bert-generation": _MASKED,
    "big_bird": {**_MASKED, "attention_type": "original_full"},
    "bloom": {"n_layer": 3, "n_head": 4},
    "camembert": _MASKED,
    "codegen": _GPTJ,
    "ctrl": {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256, "dff": 48},
    "cwm": _IDS,
    "data2vec-text": _MASKED,
    "dbrx": {
        "d_model": 32,
        "n_heads": 4,
        "n_layers": 2,
        "max_seq_len": 256,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        "attn_config": {"kv_n_heads": 2},
        "ffn_config": {"ffn_hidden_size": 16, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v2": _LATENT,
    "deepseek_v3": _LATENT,
    "deepseek_v32": _LATENT,
    "dots1": {"layer_types": ["full_attention"] * 4},
    "dots3_note": _LATENT,
    "dots3_note_text": _LATENT,
    "electra": {**_MASKED, "embedding_size": 32},
    "emu3_text_model": _IDS,
    "ernie": _MASKED,
    "falcon": {"alibi": True, "new_decoder_architecture": False, "multi_query": True},
    "falcon_h1": {**_MAMBA2, "mamba_d_ssm": 32, "mamba_n_heads": 4},
    "falcon_mamba": {"state_size": 8},
    "gemma2": {"query_pre_attn_scalar": 8},
    "gemma3_text": {"layer_types": ["sliding_attention", "full_attention"] * 2, "query_pre_attn_scalar": 8},
    "gemma3n_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,
        "laurel_rank": 8,
        "altup_num_inputs": 2,
        "activation_sparsity_pattern": [0.0] * 4,
    },
    "gemma4_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 0,
        "pad_token_id": VOCABULARY - 1,
    },
    "glm4_moe_lite": _LATENT,
    "glm_moe_dsa": _LATENT,
    "gpt2": _GPT2,
    "gpt-sw3": _GPT2,
    "gpt_bigcode": _GPT2,
    "gpt_neo": {
        "num_layers": 4,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 2]],
        "window_size": 6,
    },
    "gptj": _GPTJ,
    "granitemoehybrid": {
        **_MAMBA2,
        "layer_types": ["mamba", "attention"] * 2,
        "num_local_experts": 0,
        "shared_intermediate_size": 48,
        "position_embedding_type": "rope",
    },
    "jamba": {
        "mamba_d_state": 8,
        "mamba_expand": 2,
        "mamba_dt_rank": 4,
        "use_mamba_kernels": False,
        "attn_layer_offset": 1,
        "attn_layer_period": 2,
        "num_experts": 2,
        "num_experts_per_tok": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
    },
    "kimi_linear": {
        **_LATENT,
        "linear_head_dim": 8,
        "linear_attn_config": {
            "full_attn_layers": [2, 4],
            "kda_layers": [1, 3],
            "head_dim": 8,
            "num_heads": 4,
            "short_conv_kernel_size": 4,
        },
    },
    "lfm2": {
        "layer_types": ["conv", "full_attention"] * 2,
        "conv_L_cache": 3,
        "block_auto_adjust_ff_dim": False,
    },
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2, "conv_L_cache": 3, "num_dense_layers": 2},
    "llama4_text": {
        "attention_chunk_size": 8,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "interleave_moe_layer_step": 2,
        "intermediate_size_mlp": 48,
    },
    "longcat_flash": {**_LATENT, "num_layers": 2, "qk_head_dim": 16, "head_dim": 8},
    "mamba": {"state_size": 8},
    "mamba2": {"state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 4},
    "megatron-bert": _MASKED,
    "minicpm3": _LATENT,
    "minimax": {
        **_LINEAR_AND_FULL,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "block_size": 4,
    },
    "modernbert-decoder": {**_IDS, "local_attention": 6, "global_attn_every_n_layers": 2},
    "moshi": {"ffn_dim": 96},
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 3, "max_seq_len": 256},
    "nemotron_h": {
        "mamba_num_heads": 4,
        "mamba_head_dim": 8,
        "ssm_state_size": 8,
        "n_groups": 1,
        "chunk_size": 4,
        "hybrid_override_pattern": "M*M-",
    },
    "olmo_hybrid": _LINEAR_AND_FULL,
    "openai-gpt": _GPT2,
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "phi3": {"rope_parameters": _LONGROPE, "original_max_position_embeddings": 24},
    "prophetnet": {
        "num_hidden_layers": None,
        "num_attention_heads": None,
        "num_decoder_layers": 2,
        "num_encoder_layers": 2,
        "num_decoder_attention_heads": 4,
        "num_encoder_attention_heads": 4,
        "is_decoder": True,
        **_IDS,
    },
    "qwen2": {"use_sliding_window": True, "max_window_layers": 2},
    "qwen3_next": _LINEAR_AND_FULL,
    "qwen3_5_text": _LINEAR_AND_FULL,
    "qwen3_5_moe_text": _LINEAR_AND_FULL,
    "recurrent_gemma": {
        "attention_window_size": 6,
        "lru_width": 32,
        "block_types": ["recurrent", "attention"],
    },
    "reformer": {
        "is_decoder": True,
        "axial_pos_embds": False,
        "attn_layers": ["local", "local"],
        "local_attn_chunk_length": 8,
        "local_num_chunks_before": 1,
        "max_position_embeddings": 256,
        "feed_forward_size": 48,
        "attention_head_size": 8,
        "hash_seed": 0,
        "num_buckets": 2,
        "pad_token_id": 0,
    },
    "rembert": {**_MASKED, "input_embedding_size": 32, "output_embedding_size": 32},
    "roberta": _MASKED,
    "roberta-prelayernorm": _MASKED,
    "roc_bert": {**_MASKED, "enable_pronunciation": False, "enable_shape": False, "concat_input": False},
    "roformer": {**_MASKED, "embedding_size": 32},
    "rwkv": {"attention_hidden_size": 32},
    "smollm3": {"use_sliding_window": False},
    "whisper": _IDS,
    "xglm": {"d_model": 32, "ffn_dim": 48, "num_layers": 3, "attention_heads": 4},
    "xlm": {"emb_dim": 32, "n_layers": 2, "n_heads": 4, "pad_token_id": 0, "causal": True},
    "xlm-roberta": _MASKED,
    "xlm-roberta-xl": _MASKED,
    "xlnet": {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48, "max_position_embeddings": None},
    "xlstm": {"num_heads": 4, "chunkwise_kernel": "chunkwise--native_autograd", "chunk_size": 4},
    "xmod": {**_MASKED, "languages": ["en_XX"], "default_language": "en_XX"},
    "youtu": _LATENT,
    "zamba": {
        "num_hidden_layers": 6,
        "layers_block_type": ["mamba", "hybrid", "mamba", "mamba", "hybrid", "mamba"],
        "mamba_d_state": 8,
        "n_mamba_heads": 2,
        "mamba_dt_rank": 4,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "use_mamba_kernels": False,
    },
    "zamba2": {
        "mamba_d_state": 8,
        "n_mamba_heads": 4,
        "mamba_ngroups": 1,
        "mamba_headdim": 16,
        "chunk_size": 4,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "num_mem_blocks": 1,
        "use_shared_attention_adapter": False,
        "layers_block_type": ["mamba", "hybrid"] * 2,
        "adapter_rank": 4,
    },
    "zaya": {"num_experts_per_tok": 1},
}
"""What an architecture is given beside."""

_OF_TEXT = {
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "llama4": "llama4_text",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "qwen4_exp": "qwen4_exp_text",
    "got_ocr2": "qwen2",
    "emu3": "emu3_text_model",
}
"""Architectures that read images too, and the one that reads their text."""


def settings(name: str) -> dict[str, Any]:
    """The configuration of a tiny model, as keyword arguments.

    Args:
        name: of the architecture, its ``model_type``.
    """
    if name in _OF_TEXT:
        return {"text_config": settings(_OF_TEXT[name]), "vision_config": _TINY_VISION}
    fields = inspect.signature(CONFIG_MAPPING[name].__init__).parameters
    small = {field: value for field, value in _SMALL.items() if field in fields}
    changed = {**_COMMON, **small, **_OWN.get(name, {})}
    kept = {field for field, value in changed.items() if value is not None or field.endswith("token_id")}
    return {field: value for field, value in changed.items() if field in kept}


def build(name: str, seed: int = 0, **changes: Any) -> PreTrainedModel:
    """A tiny model whose weights are large enough for a context to matter.

    Args:
        name: of the architecture.
        seed: of the weights.
        changes: to its configuration.

    Raises:
        ValueError: it cannot be made tiny.
    """
    config = AutoConfig.for_model(name, **{**settings(name), **changes})
    with torch.device("meta"):
        size = sum(weights.numel() for weights in AutoModelForCausalLM.from_config(config).parameters())
    if size > _LARGEST:
        raise ValueError("a part of it has no setting that makes it small")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() > 1:
                weights.mul_(_GAIN.get(name, 4.0))
    return model


_LARGEST = 20_000_000
"""Most weights of a model that is still tiny."""
_GAIN = {"jamba": 3.0}
"""By how much weights are multiplied; some overflow sooner."""
