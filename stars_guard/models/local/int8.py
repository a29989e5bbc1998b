"""Linear layers with 8-bit weights for CPUs: about half the time per decoding step.

Weights are quantised per output channel. Activations are quantised per row (per token), so that a row's
result does not depend on what else is in the batch: every row is scaled to [-1, 1], and one extra row that
spans this range fixes the kernel's own scale.
"""

from __future__ import annotations

import warnings
from typing import Any, TypeVar

import torch
from torch import nn

from stars_guard.errors import ConfigurationError

_Module = TypeVar("_Module", bound=nn.Module)


class Int8Linear(nn.Module):
    """A linear layer with int8 weights and per-row dynamic 8-bit activations; float32 in and out.

    Args:
        linear: the layer to take over; its weights are ``[out, in]``.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = None if linear.bias is None else linear.bias.detach().float()
        self._packed = _packed(linear.weight.detach().float())
        self._reduce_range = not torch.cpu._is_vnni_supported()
        self._span = torch.zeros(1, linear.in_features)
        self._span[0, 0], self._span[0, -1] = 1.0, -1.0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """``[..., in]`` float32 to ``[..., out]`` float32."""
        rows = inputs.reshape(-1, self.in_features)
        scale = rows.abs().amax(dim=-1, keepdim=True).clamp_(min=1e-12)
        spanned = torch.cat((rows / scale, self._span))
        product = torch.ops.quantized.linear_dynamic(spanned, self._packed, self._reduce_range)
        result: torch.Tensor = product[:-1].mul_(scale)
        if self.bias is not None:
            result += self.bias
        return result.view(*inputs.shape[:-1], self.out_features)


def int8_linears(model: _Module) -> _Module:
    """Replace every linear layer of a CPU model, in place; everything else becomes float32.

    Raises:
        ConfigurationError: the model is not on a CPU, or this torch has no int8 kernels.
    """
    devices = {parameter.device.type for parameter in model.parameters()}
    if devices != {"cpu"}:
        raise ConfigurationError(f"int8_linears is for CPUs; the model is on {', '.join(sorted(devices))}")
    if not is_available():
        raise ConfigurationError("this torch has no int8 kernels for this CPU; load without int8_linears")
    for name, child in list(model.named_modules()):
        if isinstance(child, nn.Linear):
            model.set_submodule(name, Int8Linear(child))
    return model.float()


def is_available() -> bool:
    """Whether this torch has the kernels, and no accelerator is there that would be faster still."""
    engines = [str(engine) for engine in torch.backends.quantized.supported_engines]
    kernels = "fbgemm" in engines and hasattr(torch.ops.quantized, "linear_dynamic")
    return kernels and torch.accelerator.current_accelerator(check_available=True) is None


def _packed(weight: torch.Tensor) -> Any:
    scales = weight.abs().amax(dim=1).clamp(min=1e-12) / 127
    quantised = (weight / scales.unsqueeze(1)).round().to(torch.int8)
    zeros = torch.zeros(len(scales), dtype=torch.long)
    with warnings.catch_warnings():
        # torch announces the end of its quantised tensors; no other kernel is as fast on CPUs yet.
        warnings.simplefilter("ignore")
        tensor = torch._make_per_channel_quantized_tensor(quantised, scales.double(), zeros, 0)
        return torch.ops.quantized.linear_prepack(tensor, None)
