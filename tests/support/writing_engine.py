"""The fake engine of :mod:`tests.support.http_engine` as vLLM is that writes hidden states into files."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from stars_guard.algorithm.random_numbers import uniform
from stars_guard.models.engines.written_states import WrittenStates
from stars_guard.models.observing import at_prompt, extended
from stars_guard.types import HiddenStates, ModelIdentity
from tests.support.http_engine import FakeEngine
from tests.support.tiny import tiny_llama, tiny_tokenizer

LAYERS = (0, 1, 2)
Tensors = dict[str, torch.Tensor]


@cache
def llama() -> Any:
    """Whose states are written."""
    return tiny_llama()


def any_token(ids: Sequence[int], seed: int, step: int) -> int:
    """Any but control tokens."""
    return 5 + int(uniform(seed, 0, 0, step) * 370)


@torch.inference_mode()
def states_of(ids: Sequence[int], layers: Sequence[int] = LAYERS) -> torch.Tensor:
    """``[tokens, layers, hidden]``."""
    output = llama().base_model(torch.tensor([list(ids)]), output_hidden_states=True)
    return torch.stack([output.hidden_states[layer][0] for layer in layers], dim=1)


def expected(
    identity: ModelIdentity, prompt: Sequence[int], response: Sequence[int], layers: tuple[int, ...]
) -> HiddenStates:
    """The states of an answer."""
    read = states_of([*prompt, *response], layers).transpose(0, 1)
    begin = at_prompt(identity, layers, read[:, : len(prompt)])
    return extended(begin, read[:, len(prompt) :]) if response else begin


def same(one: HiddenStates, other: HiddenStates) -> bool:
    pairs = [(one.prompt, other.prompt), (one.mean, other.mean), (one.last, other.last)]
    alike = all(torch.allclose(a, b, atol=1e-4) for a, b in pairs)
    return alike and (one.layers, one.tokens) == (other.layers, other.tokens)


@dataclass
class WritingEngine(FakeEngine):
    """An engine that writes states.

    Attributes:
        folder: where.
        writes: what is done to them before.
        says: what the answer says of them.
        locks: whether the file is let go of.
    """

    draw: Callable[..., int] = any_token
    tokenizer: Any = field(default_factory=tiny_tokenizer)
    folder: Path = Path()
    writes: Callable[[Tensors], Tensors | None] = lambda tensors: tensors
    says: Callable[[str], Any] = lambda path: {"hidden_states_path": path}
    locks: bool = True
    _files: Any = field(default_factory=count)
    held: list[Any] = field(default_factory=list)

    @property
    def states(self) -> WrittenStates:
        """What a client is told of it."""
        return WrittenStates(folder=self.folder, layers=LAYERS, timeout=0.2)

    def completions(self, body: Any) -> Any:
        answer = super().completions(body)
        ids = [*body["prompt"]]
        if (body.get("kv_transfer_params") or {}).get("include_output_tokens"):
            ids = [*ids, *answer["choices"][0]["token_ids"]][:-1]
        name = f"cmpl-{body.get('request_id', 'x')}-{next(self._files)}.safetensors"
        self._write(self.folder / name, {"hidden_states": states_of(ids), "token_ids": torch.tensor(ids)})
        return {**answer, "kv_transfer_params": self.says(f"/on/the/server/{name}")}

    def _write(self, place: Path, tensors: Tensors) -> None:
        given = self.writes(tensors)
        lock = place.with_name(place.name + ".lock").open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX)
        if given is not None:
            save_file({name: tensor.contiguous() for name, tensor in given.items()}, place)
        if self.locks:
            lock.close()
        else:
            self.held.append(lock)
