"""KV caches at segment borders: one per answer, joined into a batch of candidates, and taken back out.

A *prefix cache* is a transformers cache of batch size 1 that holds exactly the accepted ids. For a round it
is repeated once per candidate and joined with those of other answers, shorter ones padded on the left. The
prefix caches themselves are never written by a round, so a rejected candidate leaves nothing to undo; the
accepted one is cut out of the batch. This works alike for full attention, sliding windows, and recurrent
(linear attention, convolution) states, which cannot be cropped.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import (
    DummyLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
    LinearAttentionLayer,
)

from stars_guard.errors import ConfigurationError
from stars_guard.models.local.unshared import UnsharedRows

Rows = DynamicCache | UnsharedRows
"""What is kept of the texts of one answer or of a batch."""

_SUPPORTED = (
    DummyLayer,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    LinearAttentionLayer,
    LinearAttentionAndFullAttentionLayer,
    LinearAttentionAndSlidingWindowAttentionLayer,
)


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Full attention with room to grow in place, where the stock layer copies itself at every token.

    Args:
        keys: ``[rows, heads, tokens, dim]``.
        values: of the same shape.
        room: further tokens for which memory is taken at once.
    """

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtype, self.device = keys.dtype, keys.device
        self._room = room
        self.is_initialized = True
        self._hold(keys, values)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append ``[rows, heads, new, dim]`` states; returns all of them."""
        start = self._length
        end = start + key_states.shape[-2]
        if end > self._key_buffer.shape[-2]:
            self._hold(self._key_buffer[:, :, :start], self._value_buffer[:, :, :start])
        self._key_buffer[:, :, start:end] = key_states
        self._value_buffer[:, :, start:end] = value_states
        return self._show(end)

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Keep the rows of ``beam_idx``, in that order."""
        keys, values = self._show(self._length)
        self._hold(keys.index_select(0, beam_idx), values.index_select(0, beam_idx))

    def _hold(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self._key_buffer, self._value_buffer = self._with_room(keys), self._with_room(values)
        self._show(keys.shape[-2])

    def _show(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        self._length = length
        keys, values = self._key_buffer[:, :, :length], self._value_buffer[:, :, :length]
        self.keys, self.values = keys, values
        return keys, values

    def _with_room(self, states: torch.Tensor) -> torch.Tensor:
        rows, heads, length, dim = states.shape
        buffer = states.new_empty(rows, heads, length + self._room, dim)
        buffer[:, :, :length] = states
        return buffer


def empty(config: PreTrainedConfig) -> DynamicCache:
    """A fresh prefix cache for a model.

    Raises:
        ConfigurationError: the model keeps a kind of cache that cannot be forked.
    """
    cache = DynamicCache(config=config)
    for layer in cache.layers:
        if type(layer) not in _SUPPORTED:
            raise ConfigurationError(
                f"{config.model_type} models keep a {type(layer).__name__}, which cannot be forked"
            )
    return cache


def holds(cache: Rows) -> bool:
    """Whether anything is in it."""
    return isinstance(cache, DynamicCache) and not all(map(_is_empty, cache.layers))


def is_plain(cache: Rows) -> bool:
    """Whether it holds keys and values alone, and no recurrent state."""
    return isinstance(cache, DynamicCache) and all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers
    )


def join_rows(prefixes: Sequence[Rows], lengths: Sequence[int], room: int) -> Rows:
    """One batch cache with a row per prefix cache.

    Rows are right-aligned: row i has ``max(lengths) - lengths[i]`` columns of padding on its left.

    Args:
        prefixes: prefix caches of one model; one may come several times.
        lengths: their token counts.
        room: tokens that the batch is expected to grow by.
    """
    unshared = [prefix for prefix in prefixes if isinstance(prefix, UnsharedRows)]
    if unshared:
        return UnsharedRows.joined(unshared)
    caches = [prefix for prefix in prefixes if isinstance(prefix, DynamicCache)]
    batch = copy.copy(caches[0])
    longest = max(lengths)
    batch.layers = [
        _join_layer(layers, longest, room) for layers in zip(*(cache.layers for cache in caches), strict=True)
    ]
    return batch


def take(batch: Rows, row: int, length: int) -> Rows:
    """The prefix cache of one row of a batch cache.

    Args:
        batch: the batch cache.
        row: number of the row.
        length: tokens of the row: its last columns.
    """
    if isinstance(batch, UnsharedRows):
        return batch.row(row)
    prefix = copy.copy(batch)
    prefix.layers = [_take_layer(layer, row, length) for layer in batch.layers]
    return prefix


def _is_empty(layer: Any) -> bool:
    """Whether a layer holds nothing: it has no cache, or uses that of another layer."""
    if isinstance(layer, DummyLayer):
        return True
    recurrent = isinstance(layer, LinearAttentionLayer) and any(layer.has_previous_state.values())
    return not (recurrent or getattr(layer, "is_initialized", False))


def _join_layer(layers: Sequence[Any], longest: int, room: int) -> Any:
    if _is_empty(layers[0]):
        return layers[0]
    joined: Any = copy.copy(layers[0])
    plain = type(layers[0]) is DynamicLayer
    if isinstance(joined, LinearAttentionLayer):
        _map_recurrent(
            joined, lambda name, index: torch.cat([getattr(layer, name)[index] for layer in layers])
        )
    if isinstance(joined, DynamicLayer):
        joined.keys = _right_aligned([layer.keys for layer in layers])
        joined.values = _right_aligned([layer.values for layer in layers])
    if isinstance(joined, DynamicSlidingWindowLayer):
        joined.cumulative_length = longest
    return RoomyLayer(joined.keys, joined.values, room) if plain else joined


def _take_layer(layer: Any, row: int, length: int) -> Any:
    if _is_empty(layer):
        return layer
    taken: Any = DynamicLayer() if isinstance(layer, RoomyLayer) else copy.copy(layer)  # type: ignore[no-untyped-call]
    if isinstance(taken, LinearAttentionLayer):
        _map_recurrent(taken, lambda name, index: getattr(layer, name)[index][row : row + 1].clone())
    if isinstance(taken, DynamicLayer):
        taken.keys, taken.values = (_tail(states, row, length) for states in (layer.keys, layer.values))
        taken.dtype, taken.device, taken.is_initialized = taken.keys.dtype, taken.keys.device, True
    if isinstance(taken, DynamicSlidingWindowLayer):
        taken.cumulative_length = length
    return taken


def _tail(states: torch.Tensor, row: int, length: int) -> torch.Tensor:
    # A sliding layer may hold fewer columns than the row has tokens; slicing then keeps what there is.
    return states[row : row + 1, :, -length:].clone()


def _right_aligned(states: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stack ``[1, heads, length, dim]`` states into ``[rows, heads, longest, dim]``, zeros on the left."""
    longest = max(state.shape[-2] for state in states)
    _, heads, _, dim = states[0].shape
    stacked = states[0].new_zeros(len(states), heads, longest, dim)
    for row, state in enumerate(states):
        stacked[row, :, longest - state.shape[-2] :] = state[0]
    return stacked


def _map_recurrent(layer: Any, value: Any) -> None:
    # The stock layer updates its states in place and shares its dicts between copies; give it its own.
    for name in ("conv_states", "recurrent_states"):
        states = getattr(layer, name)
        setattr(layer, name, {i: None if state is None else value(name, i) for i, state in states.items()})
    for name in ("has_previous_state", "is_conv_states_initialized", "is_recurrent_states_initialized"):
        setattr(layer, name, dict(getattr(layer, name)))
