"""How likely a model in this process finds answers that are there already."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from stars_guard.models.local.transformers import TransformersModel
from stars_guard.prompts import Prompt

_ROWS = 8
"""Texts read in one pass: the logits of all their tokens are in memory at once."""


def log_probabilities(model: TransformersModel, texts: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
    """Log-probability, at temperature 1, of each token of each answer, given its prompt and what is before.

    Args:
        model: reads them; its tokenizer cuts the answers into tokens, which may be others than were drawn.
        texts: prompts and answers.

    Returns:
        For each text, one number a token, in nats.

    Raises:
        PromptError: the template refuses the messages.
    """
    encoded = [(model.encode(prompt), _ids(model, response)) for prompt, response in texts]
    together = _ROWS if model.passes.sharing.padded else 1
    batches = (encoded[begin : begin + together] for begin in range(0, len(encoded), together))
    return [row for batch in batches for row in _batch(model, batch)]


def _ids(model: TransformersModel, response: str) -> list[int]:
    return list(model.tokenizer(response, add_special_tokens=False, verbose=False)["input_ids"])


def _batch(model: TransformersModel, encoded: Sequence[tuple[list[int], list[int]]]) -> list[list[float]]:
    longest = max(len(prompt) + len(response) for prompt, response in encoded)
    earliest = min(len(prompt) for prompt, _ in encoded)
    # Padding stands on the right, where no token of a causal model sees it.
    padded = [ids + [0] * (longest - len(ids)) for ids in (prompt + response for prompt, response in encoded)]
    ids = torch.tensor(padded, device=model.passes.device)
    with torch.inference_mode():
        logits = model.model(input_ids=ids, logits_to_keep=longest - earliest + 1, use_cache=False).logits
        scores = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, earliest:, None]).squeeze(-1)
    return [
        scores[row, len(prompt) - earliest : len(prompt) - earliest + len(response)].tolist()
        for row, (prompt, response) in enumerate(encoded)
    ]
