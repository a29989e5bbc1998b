"""From a GGUF file to a plain transformers folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf  # noqa: F401 - transformers needs it; import it here so that a missing extra is named
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging


def convert(file: Path, destination: Path) -> None:
    """Write ``file`` to the folder ``destination`` as bfloat16 safetensors, with its tokenizer."""
    source: dict[str, Any] = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        tokenizer = AutoTokenizer.from_pretrained(**source, trust_remote_code=False)
        model: Any = AutoModelForCausalLM.from_pretrained(
            **source, dtype=torch.float32, trust_remote_code=False
        )
        # The weights are plain floats by now; these marks would make save_pretrained refuse them.
        del model.config.quantization_config
        model.hf_quantizer, model.is_quantized = None, False
        model.generation_config.eos_token_id = tokenizer.eos_token_id
        model.generation_config.pad_token_id = tokenizer.pad_token_id
        model.to(torch.bfloat16).save_pretrained(destination)
        tokenizer.save_pretrained(destination)
    finally:
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
