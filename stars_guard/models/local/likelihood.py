"""How likely a model finds answers that it need not have written."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from stars_guard.models.local.passes import Passes
from stars_guard.models.local.reading import batches, lengths_of

LOGIT_TOKENS = 1024
"""Most tokens read in a pass, padding included, since each has logits over the whole vocabulary."""


def log_probabilities(passes: Passes, texts: Sequence[tuple[list[int], list[int]]]) -> list[list[float]]:
    """The log-probability of each token of answers, given the prompt and the tokens before it.

    Args:
        passes: of the model that reads them.
        texts: token ids of each prompt, at least one, and of the answer to it.

    Returns:
        For each text one number, at most 0 and in nats, for each token of the answer.
    """
    values: dict[int, list[float]] = {}
    for places in batches(passes.sharing, lengths_of(texts), LOGIT_TOKENS):
        logits = passes.logits([texts[place][0] + texts[place][1] for place in places])
        for place, row in zip(places, logits, strict=True):
            values[place] = _of_answer(row, *texts[place])
    return [values[place] for place in range(len(texts))]


def _of_answer(logits: torch.Tensor, prompt: list[int], answer: list[int]) -> list[float]:
    before = logits[len(prompt) - 1 : len(prompt) + len(answer) - 1].float()
    tokens = torch.tensor(answer, dtype=torch.long, device=logits.device).unsqueeze(-1)
    chosen: list[float] = before.log_softmax(-1).gather(-1, tokens).squeeze(-1).tolist()
    return chosen
