"""What vLLM 0.32 lacks to hand out hidden states on a CPU; on a GPU its own code does all of it.

Its connector copies with CUDA's streams. And where it drafts, which handing out states is a kind of, its CPU
kernel spreads temperatures over the drafted tokens into a copy that is thrown away, so that tokens are drawn
at whatever number was in memory. vLLM loads this module in its processes (``kv_connector_module_path``).
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.distributed.kv_transfer.kv_connector.v1.example_hidden_states_connector import (
    ExampleHiddenStatesConnector,
    PendingSave,
    extract_from_kv_cache,
)
from vllm.v1.sample import rejection_sampler


class _Done:
    """A copy that was made at once."""

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        pass


class CPUHiddenStatesConnector(ExampleHiddenStatesConnector):  # type: ignore[misc]
    """Everything but the copy is vLLM's own."""

    def _submit_async_write(self, pending: PendingSave) -> None:
        blocks = torch.tensor(pending.block_ids, dtype=torch.long)
        slots = (torch.arange(self._block_size) + blocks[:, None] * self._block_size).flatten()
        states = extract_from_kv_cache(self._kv_cache, slots, len(pending.token_ids)).contiguous()
        tensors: dict[str, Any] = {"hidden_states": states, "token_ids": pending.token_ids.clone()}
        lock = self._lock_fds.pop(pending.req_id, None)
        self._write_tensors(tensors, _Done(), pending.filename, lock)
        self._req_copy_events[pending.req_id] = _Done()


def _expanded(
    x: torch.Tensor, cu_num_tokens: torch.Tensor, num_tokens: int, replace_from: int = 0, replace_to: int = 0
) -> torch.Tensor:
    counts = torch.diff(cu_num_tokens, prepend=cu_num_tokens.new_zeros(1))
    values = torch.where(x == replace_from, torch.full_like(x, replace_to), x)
    return values.repeat_interleave(counts.long())


rejection_sampler.expand_batch_to_tokens = _expanded
