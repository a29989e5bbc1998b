"""How the forward pass of a model is called after a cache: by which names, and what is said of places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from transformers import PreTrainedModel

_CACHE_NAMES = ("cache", "past_key_values", "cache_params")
"""What transformers calls the cache, by version and family; the first that a model takes is its own."""

Places = Callable[[Sequence[int], int, int], dict[str, torch.Tensor]]
"""Arguments that say where new tokens stand: of the padding of each row, columns cached, and new ones."""


def explicit(padding: Sequence[int], cached: int, new: int) -> dict[str, torch.Tensor]:
    """Every position is given, and a mask where a row is padded: nothing is left to the model's default.

    Args:
        padding: columns on the left of each row that hold nothing of it.
        cached: columns that were read before, padding included.
        new: columns that are read now.
    """
    hidden = torch.tensor(padding).unsqueeze(-1)
    columns = torch.arange(cached + new)
    positions = {"position_ids": columns[cached:] - hidden}
    return positions | ({"attention_mask": (columns >= hidden).long()} if any(padding) else {})


def masked(padding: Sequence[int], cached: int, new: int) -> dict[str, torch.Tensor]:
    """A mask and no positions: the model counts by the mask. Arguments are those of :func:`explicit`."""
    columns = torch.arange(cached + new)
    return {"attention_mask": (columns >= torch.tensor(padding).unsqueeze(-1)).long()}


def unsaid(padding: Sequence[int], cached: int, new: int) -> dict[str, torch.Tensor]:
    """Neither: a recurrent state knows no positions, and has not read any padding."""
    return {}


WAYS: tuple[Places, ...] = (explicit, unsaid, masked)
"""In the order in which they are tried."""


@dataclass(frozen=True)
class Call:
    """The arguments of a forward pass.

    Attributes:
        accepted: names that the model takes.
        cache: the name of its cache; None if it takes none.
        places: what is said of the places of new tokens.
    """

    accepted: frozenset[str]
    cache: str | None
    places: Places

    def after(self, ids: torch.Tensor, cache: Any, padding: Sequence[int], cached: int) -> dict[str, Any]:
        """For new tokens after a cache.

        Args:
            ids: token ids ``[rows, new]``, on the model's device.
            cache: of as many rows.
            padding: columns of ``cache`` that each row must not see, on its left; empty for none.
            cached: columns of ``cache``.
        """
        places = self.places(padding or [0] * len(ids), cached, ids.shape[1])
        said = {name: value.to(ids.device) for name, value in places.items()}
        given = {**said, "logits_to_keep": 1, "use_cache": True, str(self.cache): cache}
        return {"input_ids": ids} | self._taken(given)

    def alone(self, ids: torch.Tensor, *, last: bool = False) -> dict[str, Any]:
        """For whole texts and no cache.

        Args:
            ids: token ids ``[rows, tokens]``, on the model's device.
            last: whether only the last logits are wanted.
        """
        given = {"use_cache": False} | ({"logits_to_keep": 1} if last else {})
        return {"input_ids": ids} | self._taken(given)

    def _taken(self, given: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in given.items() if name in self.accepted}


def ways_to_call(model: PreTrainedModel) -> list[Call]:
    """The ways in which a model may want to be called, the likeliest first."""
    accepted = frozenset(_names(model))
    cache = next((name for name in _CACHE_NAMES if name in accepted), None)
    return [Call(accepted, cache, places) for places in WAYS]


def _names(model: Any) -> set[str]:
    """Arguments of a forward pass; adapters and compiled models hand on what the model inside them takes."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else getattr(model, "_orig_mod", None)
    return set(signature(model.forward).parameters) | (_names(inner) if inner is not None else set())
