"""Reading whole texts for their hidden states: in batches, without a cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from stars_guard.models.local.passes import Passes
from stars_guard.models.local.sharing import Sharing
from stars_guard.models.observing import at_prompt, extended
from stars_guard.types import HiddenStates, ModelIdentity

READ_TOKENS = 4096
"""Most tokens read in a pass, padding included; a longer text has one of its own."""


def read_states(
    passes: Passes,
    model: ModelIdentity,
    texts: Sequence[tuple[list[int], list[int]]],
    layers: tuple[int, ...],
    lengths: Sequence[int | None],
) -> list[list[HiddenStates]]:
    """The states of answers, wherever they were drawn.

    Args:
        passes: of the model that reads them.
        model: what tells it from others.
        texts: token ids of each prompt and of the answer to it.
        layers: whose output is read, from 0, the embedding.
        lengths: response tokens after which to take the states; None is the end.

    Returns:
        For each text, the states at each length.
    """
    states: dict[int, list[HiddenStates]] = {}
    for places in batches(passes.sharing, lengths_of(texts), READ_TOKENS):
        read = passes.hidden([texts[place][0] + texts[place][1] for place in places], layers)
        for place, row in zip(places, read, strict=True):
            prompt, response = texts[place]
            answer = row[:, len(prompt) : len(prompt) + len(response)]
            begin = at_prompt(model, layers, row[:, : len(prompt)])
            states[place] = [_after(begin, answer[:, :length]) for length in lengths]
    return [states[place] for place in range(len(texts))]


def lengths_of(texts: Sequence[tuple[list[int], list[int]]]) -> list[int]:
    """Tokens of each prompt and its answer together."""
    return [len(prompt) + len(response) for prompt, response in texts]


def batches(sharing: Sharing, lengths: Sequence[int], most_tokens: int) -> Iterator[list[int]]:
    """Places of texts of similar length, together; one by one where rows of a batch cannot be trusted.

    Args:
        sharing: what texts of the model may share.
        lengths: tokens of each text.
        most_tokens: most tokens of a batch, padding included; a longer text has one of its own.
    """
    most = most_tokens if sharing.padded else 0
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        crosses = batch and sharing.past(lengths[batch[0]]) != sharing.past(lengths[place])
        if batch and (crosses or (len(batch) + 1) * lengths[place] > most):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _after(begin: HiddenStates, answer: torch.Tensor) -> HiddenStates:
    return extended(begin, answer) if answer.shape[1] else begin
