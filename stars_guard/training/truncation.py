"""A LoRA adapter brought to a lower rank: half the bytes, and what the weights change most is kept."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stars_guard.errors import ConfigurationError

_WEIGHTS, _SETTINGS = "adapter_model.safetensors", "adapter_config.json"
_DOWN, _UP = ".lora_A.weight", ".lora_B.weight"


def truncate_adapter(folder: Path, rank: int) -> float:
    """Replace the adapter in ``folder`` by the nearest one of a lower rank (singular value decomposition).

    Args:
        folder: of the adapter, as ``train`` wrote it.
        rank: new rank; at least 1 and less than the adapter's.

    Returns:
        Share of the change to the base's weights that is kept, in squares; 1 is all.

    Raises:
        ConfigurationError: the rank is no lower one.
    """
    settings = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
    if not 0 < rank < settings["r"]:
        raise ConfigurationError(f"rank {rank} is not in 1 to {settings['r'] - 1}, under the adapter's")
    weights = load_file(folder / _WEIGHTS)
    kept = total = 0.0
    for down in [name for name in weights if name.endswith(_DOWN)]:
        up = down.removesuffix(_DOWN) + _UP
        weights[down], weights[up], values = _nearest(weights[down], weights[up], rank)
        kept += float(values[:rank].square().sum())
        total += float(values.square().sum())
    save_file(weights, folder / _WEIGHTS, metadata={"format": "pt"})
    # The factor alpha / r stays what it was.
    settings |= {"r": rank, "lora_alpha": settings["lora_alpha"] * rank / settings["r"]}
    (folder / _SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return kept / total


def _nearest(down: Tensor, up: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Factors of ``up @ down`` at ``rank``, and all its singular values."""
    left, values, right = torch.linalg.svd(up.float() @ down.float(), full_matrices=False)
    root = values[:rank].sqrt()
    new_down, new_up = root[:, None] * right[:rank], left[:, :rank] * root
    return new_down.to(down.dtype).contiguous(), new_up.to(up.dtype).contiguous(), values
