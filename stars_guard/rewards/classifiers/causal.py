"""Reading with a decoder that has a ``score`` head, feeding it only the tokens it has not seen.

Per run, the token ids and the KV cache of the last scored rows are kept. The next rows of that run share a
prefix with one of them: that row is selected, cropped to the shared prefix, forked, and only the rest is fed.
Everything goes by token ids, so a rejected candidate, a closed turn or a prompt that was cut at its beginning
only make the shared prefix shorter, never the result wrong.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, cast

import torch
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from stars_guard.rewards.encoding import common_length

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Ids: TypeAlias = tuple[int, ...]
_Logits = TypeVar("_Logits")
_Kept = TypeVar("_Kept", covariant=True)

_PIECE = 512
"""Most tokens of one text that are fed in a pass, so that a call can end before a long text is read."""
_WORTH_A_PASS = 8
"""Tokens that all rows share are fed once, in a pass of their own, if there are at least this many."""


@dataclass(frozen=True, slots=True)
class _Scored(Generic[_Kept]):
    """The rows of a run that were scored last, and their keys and values, padded to ``width`` tokens."""

    rows: tuple[Ids, ...]
    cache: DynamicCache
    width: int
    logits: Sequence[_Kept]


class CausalReader(ABC, Generic[_Logits]):
    """Logits of rows of tokens that a causal decoder and its head read; subclasses say at which tokens.

    Args:
        model: with a decoder and a ``score`` head, whose inputs are the decoder's last hidden states.
        pad_id: token id to pad with.
        cached_runs: most runs whose keys and values are kept; the oldest go first.

    Attributes:
        tokens_fed: real tokens that went through the model so far, without padding.
        incremental: whether runs are cached; False for models whose cache cannot be cropped, such as hybrids
            with linear attention, and for rotary embeddings that depend on the length of the text: those are
            scored from the beginning every time.
    """

    def __init__(self, model: PreTrainedModel, pad_id: int, cached_runs: int) -> None:
        self.tokens_fed = 0
        self.incremental = cached_runs > 0 and _can_resume(model)
        self._decoder = model.base_model
        self._head = cast(Callable[[torch.Tensor], torch.Tensor], model.score)
        self._model = model
        self._cache_name = cast(str, _cache_argument(self._decoder))
        self._takes_positions = "position_ids" in inspect.signature(self._decoder.forward).parameters
        self._pad_id = pad_id
        self._cached_runs = cached_runs
        self._runs: OrderedDict[str, _Scored[_Logits]] = OrderedDict()

    def logits(self, rows: Sequence[Ids]) -> list[_Logits]:
        """The logits of each row, from the whole row; nothing is cached. Rows must not be empty."""
        return self._feed(rows, None, 0)

    def logits_of_run(
        self, run_id: str, rows: Sequence[Ids], between: Callable[[], None] = lambda: None
    ) -> list[_Logits]:
        """Logits as of :meth:`logits`, feeding only what the last rows of this run do not cover.

        Args:
            run_id: names the run.
            rows: token ids of its texts, none empty.
            between: called between two pieces of a long text; what it raises ends the call.
        """
        # Taken out while it is being changed: a failure must not leave a broken cache behind.
        scored = self._runs.pop(run_id, None)
        shared = _shared_prefix(rows)
        cache, seen, before = _resume(scored, shared)
        if len(shared) - seen >= (_WORTH_A_PASS if len(rows) > 1 else _PIECE):
            for start in range(seen, len(shared), _PIECE):
                between()
                (piece,) = self._feed([shared[start : start + _PIECE]], cache, start)
                before = self._joined(before, start, piece)
            seen = len(shared)
        _select(cache, [0] * len(rows))
        fed = self._feed([row[seen:] for row in rows], cache, seen)
        logits = [self._joined(before, seen, rest) for rest in fed]
        self._runs[run_id] = _Scored(tuple(rows), cache, max(map(len, rows)), logits)
        while len(self._runs) > self._cached_runs:
            self._runs.popitem(last=False)
        return logits

    def release(self, run_id: str) -> None:
        """Forget the cache of a run."""
        self._runs.pop(run_id, None)

    @abstractmethod
    def _pooled(self, hidden: torch.Tensor, lengths: Sequence[int]) -> list[_Logits]:
        """The logits of each row, whose states ``hidden`` (rows, longest, size) are padded on the right."""

    @abstractmethod
    def _joined(self, before: _Logits | None, seen: int, rest: _Logits) -> _Logits:
        """The logits of a row whose first ``seen`` tokens are in ``before``, and the others gave ``rest``."""

    def _feed(self, rows: Sequence[Ids], cache: DynamicCache | None, seen: int) -> list[_Logits]:
        """Pass ``rows``, which follow ``seen`` cached tokens each, and read their logits."""
        ids, mask = padded(rows, self._pad_id, self._model.device)
        past = torch.ones(len(rows), seen, dtype=mask.dtype, device=mask.device)
        positions = torch.arange(seen, seen + ids.shape[1], device=ids.device).expand_as(ids)
        hidden = self._decoder(
            input_ids=ids,
            attention_mask=torch.cat([past, mask], dim=1),
            use_cache=cache is not None,
            **{self._cache_name: cache},
            **({"position_ids": positions} if self._takes_positions else {}),
        ).last_hidden_state
        self.tokens_fed += sum(map(len, rows))
        return self._pooled(hidden, list(map(len, rows)))


class CausalScorer(CausalReader[list[float]]):
    """Logits of a sequence classifier that is a causal decoder, pooled at the last real token."""

    def _pooled(self, hidden: torch.Tensor, lengths: Sequence[int]) -> list[list[float]]:
        last = torch.tensor(lengths, device=hidden.device) - 1
        pooled = hidden[torch.arange(len(lengths), device=hidden.device), last]
        logits: list[list[float]] = self._head(pooled).float().tolist()
        return logits

    def _joined(self, before: list[float] | None, seen: int, rest: list[float]) -> list[float]:
        return rest


class TokenScorer(CausalReader[torch.Tensor]):
    """Logits of a token classifier that is a causal decoder: ``(tokens, labels)`` a row, on the CPU."""

    def _pooled(self, hidden: torch.Tensor, lengths: Sequence[int]) -> list[torch.Tensor]:
        logits = self._head(hidden).float().cpu()
        return [row[:length] for row, length in zip(logits, lengths, strict=True)]

    def _joined(self, before: torch.Tensor | None, seen: int, rest: torch.Tensor) -> torch.Tensor:
        return rest if before is None else torch.cat([before[:seen], rest])


def is_causal_decoder(model: PreTrainedModel) -> bool:
    """Whether the reward is a linear ``score`` of the last token of a decoder that reads left to right."""
    config = model.config.get_text_config()
    both_ways = getattr(config, "use_bidirectional_attention", False) or not getattr(
        config, "is_causal", True
    )
    takes_cache = _cache_argument(model.base_model) is not None
    return hasattr(model, "score") and takes_cache and not both_ways and not config.is_encoder_decoder


def _cache_argument(decoder: Any) -> str | None:
    """The name under which a decoder takes its cache, if it takes one: transformers 5.24 changed it."""
    taken = inspect.signature(decoder.forward).parameters
    return next((name for name in ("cache", "past_key_values") if name in taken), None)


def padded(rows: Sequence[Ids], pad_id: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask, both ``(rows, longest)`` and padded on the right.

    Args:
        rows: token ids, at least one row.
        pad_id: token id to pad with.
        device: where the tensors are made.
    """
    width = max(map(len, rows))
    ids = [[*row, *[pad_id] * (width - len(row))] for row in rows]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _can_resume(model: PreTrainedModel) -> bool:
    """Whether keys and values of a prefix are those it would have in any longer text, and can be cropped."""
    layers = DynamicCache(config=model.config).layers
    croppable = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
    # These rotary embeddings change with the length of the text: cached keys would be of another length.
    rope = str(getattr(model.config.get_text_config(), "rope_parameters", None))
    return croppable and "'dynamic'" not in rope and "'longrope'" not in rope


def _shared_prefix(rows: Sequence[Ids]) -> Ids:
    """What all rows begin with, leaving at least one token of each row to be fed."""
    first = rows[0]
    length = min(common_length(first, row) for row in rows)
    return first[: min(length, min(map(len, rows)) - 1)]


def _resume(scored: _Scored[_Logits] | None, shared: Ids) -> tuple[DynamicCache, int, _Logits | None]:
    """A cache of one row that covers as much of ``shared`` as can be, how many tokens that is, its logits."""
    seen = [common_length(row, shared) for row in scored.rows] if scored else [0]
    if scored is None or max(seen) == 0:
        # Without a config all layers keep all tokens: sliding ones too, so that any prefix can be restored.
        return DynamicCache(), 0, None
    best = seen.index(max(seen))
    cache = scored.cache
    _select(cache, [best])
    cache.crop(seen[best] - scored.width)
    return cache, seen[best], scored.logits[best]


def _select(cache: DynamicCache, rows: list[int]) -> None:
    """Make the cache consist of these of its rows; a row may be taken several times."""
    cache.reorder_cache(cast(torch.LongTensor, torch.tensor(rows)))
