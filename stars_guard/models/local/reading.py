"""Reading whole texts for their hidden states: in batches, without a cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from stars_guard.models.local.observing import at_prompt, chosen, extended
from stars_guard.types import HiddenStates, Prompt

if TYPE_CHECKING:
    from stars_guard.models.local.transformers import TransformersModel

BATCH_TOKENS = 4096
"""Most tokens in a batch, padding included; a longer text is a batch of its own."""


def read_states(
    model: TransformersModel,
    texts: Sequence[tuple[Prompt, str]],
    layers: tuple[int, ...],
    lengths: Sequence[int | None],
) -> list[list[HiddenStates]]:
    """See :meth:`stars_guard.models.TransformersModel.read_states`."""
    encoded = [(model.encode(prompt), _response_ids(model, response, lengths)) for prompt, response in texts]
    found: dict[int, list[HiddenStates]] = {}
    for places in _batches([len(prompt) + len(response) for prompt, response in encoded]):
        states = _pass(model, [encoded[place][0] + encoded[place][1] for place in places], layers)
        for place, own in zip(places, states, strict=True):
            prompt, response = encoded[place]
            answer = own[:, len(prompt) : len(prompt) + len(response)]
            begin = at_prompt(model.identity, layers, own[:, : len(prompt)])
            found[place] = [_after(begin, answer[:, :length]) for length in lengths]
    return [found[place] for place in range(len(texts))]


def _response_ids(model: TransformersModel, response: str, lengths: Sequence[int | None]) -> list[int]:
    ids = list(model.tokenizer(response, add_special_tokens=False, verbose=False)["input_ids"])
    numbers = [length for length in lengths if length is not None]
    return ids[: max(numbers)] if len(numbers) == len(lengths) else ids


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of texts of similar length, together."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[place] > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


@torch.inference_mode()
def _pass(model: TransformersModel, rows: Sequence[list[int]], layers: tuple[int, ...]) -> torch.Tensor:
    """``[rows, layers, tokens, hidden]``; padding is on the right, where it is not seen."""
    longest = max(map(len, rows))
    device = model.model.device
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=device)
    model.forward_passes += 1
    output = model.model.base_model(
        input_ids=ids, attention_mask=mask, use_cache=False, output_hidden_states=True
    )
    return chosen(layers, output.hidden_states)


def _after(begin: HiddenStates, answer: torch.Tensor) -> HiddenStates:
    return extended(begin, answer) if answer.shape[1] else begin
