"""Folders with a tiny random Qwen3Guard-Stream, laid out as the published ones are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import Qwen3Config, Qwen3Model

from tests.support.tiny import _decoder_settings, tiny_tokenizer

LEVELS = ("Safe", "Unsafe", "Controversial")
"""In the published order of the logits."""
INNER = 12
TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if loop.last and message['role'] == 'assistant' %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""Prints what Qwen3's does: a block of no thoughts before the last answer."""
_HEADS = {
    "risk_level_category_pre": (INNER, 32),
    "risk_level_category_layernorm": (INNER,),
    "risk_level_head": (3, INNER),
    "category_head": (8, INNER),
}


def stream_guard_folder(
    folder: Path, *, config: dict[str, Any] | None = None, weights: dict[str, Any] | None = None
) -> Path:
    """The folder, with files written into it; a value of None takes a key of config or weights out.

    Args:
        folder: is made if need be.
        config: entries of config.json instead of the usual ones.
        weights: tensors by name instead of the usual ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    entries = {**_entries(), **(config or {})}
    kept = {key: value for key, value in entries.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept), encoding="utf-8")
    tensors = {**_tensors(), **(weights or {})}
    save_file(
        {name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / "model.safetensors"
    )
    return folder


def _decoder_config() -> Qwen3Config:
    return Qwen3Config(**_decoder_settings({}))


def _entries() -> dict[str, Any]:
    levels = {str(index): level for index, level in enumerate(LEVELS)}
    return {
        **_decoder_config().to_dict(),
        "architectures": ["Qwen3ForGuardModel"],
        "auto_map": {
            "AutoConfig": "configuration_qwen3.Qwen3Config",
            "AutoModel": "modeling_qwen3_guard.Qwen3ForGuardModel",
        },
        "guard_inner_size": INNER,
        "num_risk_level": 3,
        "num_category": 8,
        "num_query_risk_level": 3,
        "num_query_category": 9,
        "response_risk_level_map": levels,
        "query_risk_level_map": levels,
    }


def _tensors() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        decoder = Qwen3Model(_decoder_config()).state_dict()
        heads = {f"{name}.weight": torch.randn(shape) for name, shape in _HEADS.items()}
        query = {f"query_{name}": torch.randn_like(tensor) for name, tensor in heads.items()}
    query["query_category_head.weight"] = torch.zeros(9, INNER)
    return {**{f"model.{name}": tensor for name, tensor in decoder.items()}, **heads, **query}
