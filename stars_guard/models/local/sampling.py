"""From logits to tokens: truncation, then inverse-CDF with one given uniform number per row.

The truncations follow transformers' processors (same order, same result); drawing by inverse CDF makes each
token a function of its own row and its own random number only, so a batch cannot change a draw.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from stars_guard.algorithm.config import SamplingParams

_NUCLEUS_GUESS = 512
"""How many of the likeliest tokens usually hold the nucleus; sorting those beats sorting the vocabulary."""


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Entropy in nats of each row of ``[rows, vocabulary]`` logits, at temperature 1."""
    # entr(0) is 0, where p * log(p) would be NaN for tokens that are ruled out.
    nats: torch.Tensor = torch.special.entr(torch.softmax(logits.float(), dim=-1)).sum(dim=-1)
    return nats


def penalised(logits: torch.Tensor, seen: Sequence[Sequence[int]], penalty: float) -> torch.Tensor:
    """Logits in which ids that were there before are less likely.

    Args:
        logits: ``[rows, vocabulary]``.
        seen: ids of prompt and answer, by row.
        penalty: by which positive logits are divided, and negative ones multiplied.
    """
    logits = logits.clone()
    for row, ids in enumerate(seen):
        index = torch.tensor(sorted(set(ids)), device=logits.device)
        old = logits[row, index]
        logits[row, index] = torch.where(old < 0, old * penalty, old / penalty)
    return logits


def draw_tokens(logits: torch.Tensor, params: SamplingParams, uniforms: Sequence[float]) -> list[int]:
    """One token id per row.

    Args:
        logits: ``[rows, vocabulary]``.
        params: temperature and truncation, the same for all rows.
        uniforms: a random number in [0, 1) for each row.
    """
    if params.temperature == 0:
        return [int(token) for token in logits.argmax(dim=-1)]
    scores = logits.float() / params.temperature
    ids = None
    if params.top_k and params.top_k < scores.shape[-1]:
        scores, ids = scores.topk(params.top_k, dim=-1)
    if params.top_p < 1:
        scores, ids = _nucleus(scores, ids, params.top_p)
    probs = torch.softmax(scores, dim=-1)
    if params.min_p > 0:
        probs = probs.masked_fill(probs < params.min_p * probs.amax(dim=-1, keepdim=True), 0)
    picked = _inverse_cdf(probs, uniforms)
    return [int(token) for token in (picked if ids is None else ids.gather(-1, picked)).squeeze(-1)]


def _nucleus(
    scores: torch.Tensor, ids: torch.Tensor | None, mass: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The smallest sets of tokens with at least ``mass``: sorted scores (-inf outside) and their ids."""
    total = scores.logsumexp(dim=-1, keepdim=True)
    ranked, order = scores.topk(min(_NUCLEUS_GUESS, scores.shape[-1]), dim=-1)
    if bool(((ranked - total).exp().sum(dim=-1) < mass).any()):
        ranked, order = scores.sort(dim=-1, descending=True)
    probs = (ranked - total).exp()
    before = probs.cumsum(dim=-1) - probs
    ranked = ranked.masked_fill(before >= mass, float("-inf"))
    return ranked, order if ids is None else ids.gather(-1, order)


def _inverse_cdf(probs: torch.Tensor, uniforms: Sequence[float]) -> torch.Tensor:
    # Double precision: the tail of a 100k-token vocabulary is lost in a float32 cumulative sum.
    cdf = probs.cumsum(dim=-1, dtype=torch.float64)
    points = torch.tensor(uniforms, dtype=torch.float64, device=probs.device).unsqueeze(-1) * cdf[:, -1:]
    # right=True steps over tokens of zero probability, whose CDF equals their neighbour's.
    return torch.searchsorted(cdf, points, right=True).clamp_(max=probs.shape[-1] - 1)
