"""How far two right computations of the same logits may lie apart, measured on the model itself.

Rounding depends on number format, quantisation and depth: it moves logits by 1e-5 of what a context does in
float32, and by a tenth of it in 8 bits. A fixed tolerance would refuse the latter, or let faults through.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

from stars_guard.models.local.call import Call
from stars_guard.models.local.int8 import Int8Linear

_FACTOR = 4
"""Two right computations lie within so many times what rounding one input does."""
_LEAST = 1e-4
"""Share of the effect of a context that is let pass as rounding anyway."""
_MOST = 0.5
"""Share of it that is too much, whatever rounding does, unless rounding alone does about as much."""


class Reference:
    """The logits of a text read in one pass without a cache, beside copies that are rounded otherwise.

    Args:
        model: a causal LM in evaluation mode.
        call: how it is called.
        text: token ids; ``text[repeated]`` is ``text[0]`` again.
        repeated: place of a token that stands there with a context, and at the beginning without one.
    """

    def __init__(self, model: PreTrainedModel, call: Call, text: Sequence[int], repeated: int) -> None:
        ids = torch.tensor([text] * 3, device=model.device)
        with torch.inference_mode(), _nudged(model):
            rows = model(**call.alone(ids)).logits.float()
        self._logits = rows[0]
        effect = distance(self._logits[0], self._logits[repeated])
        rounding = max(
            distance(mine, other) for copy in rows[1:] for mine, other in zip(rows[0], copy, strict=True)
        )
        most = max(_MOST * effect, rounding)
        self._tolerance = max(_LEAST * effect, min(_FACTOR * rounding, most))

    def agrees(self, place: int, logits: torch.Tensor) -> bool:
        """Whether logits ``[vocabulary]`` are those after the token at ``place``, but for rounding."""
        return distance(self._logits[place], logits.float()) <= self._tolerance


def distance(first: torch.Tensor, second: torch.Tensor) -> float:
    """Root mean square of the differences; what is infinite in both differs by nothing."""
    return float(torch.where(first == second, 0.0, first - second).square().mean().sqrt())


@contextmanager
def _nudged(model: PreTrainedModel) -> Iterator[None]:
    """Move the embeddings of the second and third row by about as much as rounding would, either way."""

    def nudge(module: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        signs = torch.zeros_like(output)
        signs[1], signs[2] = 1, -1
        signs[..., ::2] *= -1
        return output * (1 + signs * _precision(model))

    handle = model.get_input_embeddings().register_forward_hook(nudge)
    try:
        yield
    finally:
        handle.remove()


def _precision(model: PreTrainedModel) -> float:
    """The spacing of numbers near 1 in the coarsest of the formats that a model computes in."""
    formats = {tensor.dtype for tensor in model.parameters()} & {torch.float16, torch.bfloat16}
    coarsest = max([torch.finfo(name).eps for name in formats], default=2.0**-23)
    quantised = getattr(model.config, "quantization_config", None) is not None
    if quantised or any(isinstance(module, Int8Linear) for module in model.modules()):
        return max(coarsest, 2.0**-8)
    # Accelerators may multiply float32 numbers of which only 10 bits are kept.
    return coarsest if _is_on_cpu(model) else max(coarsest, 2.0**-11)


def _is_on_cpu(model: PreTrainedModel) -> bool:
    return bool(model.device.type == "cpu")
