"""Joining prefix caches into a batch and taking rows back out is exact, for every kind of layer."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache
from transformers.cache_utils import DummyLayer, DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionLayer

from stars_guard.models.local import prefix_cache
from stars_guard.models.local.call import ways_to_call
from stars_guard.models.local.prefix_cache import RoomyLayer
from stars_guard.models.local.unshared import UnsharedRows
from tests.support.tiny import tiny_llama, tiny_mistral_sliding, tiny_qwen_hybrid


def filled(model, length: int, seed: int) -> DynamicCache:
    cache = prefix_cache.empty(model.config)
    ids = torch.randint(5, 380, (1, length), generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        model(**ways_to_call(model)[0].after(ids, cache, (), 0))
    return cache


def tensors(cache: DynamicCache) -> list[torch.Tensor]:
    found = []
    for layer in cache.layers:
        found += [
            one for one in (getattr(layer, "keys", None), getattr(layer, "values", None)) if one is not None
        ]
        if isinstance(layer, LinearAttentionLayer):
            found += [*layer.conv_states.values(), *layer.recurrent_states.values()]
    return found


@pytest.mark.parametrize("build", [tiny_llama, tiny_mistral_sliding, tiny_qwen_hybrid])
def test_what_was_joined_can_be_taken_back(build) -> None:
    model = build()
    lengths = [3, 40, 12, 12]
    prefixes = [filled(model, length, seed) for seed, length in enumerate(lengths)]
    before = [[one.clone() for one in tensors(prefix)] for prefix in prefixes]
    batch = prefix_cache.join_rows(prefixes, lengths, room=4)
    assert batch.get_seq_length() == 40
    for row, length in enumerate(lengths):
        taken = prefix_cache.take(batch, row, length)
        assert all(torch.equal(a, b) for a, b in zip(tensors(taken), before[row], strict=True))
        assert taken.get_seq_length() == length


@pytest.mark.parametrize("build", [tiny_llama, tiny_mistral_sliding, tiny_qwen_hybrid])
def test_decoding_a_batch_does_not_touch_the_prefixes(build) -> None:
    model = build()
    prefix = filled(model, 20, 1)
    before = [one.clone() for one in tensors(prefix)]
    batch = prefix_cache.join_rows([prefix] * 3, [20] * 3, room=2)
    with torch.inference_mode():
        for token in range(6):
            model(**ways_to_call(model)[0].after(torch.full((3, 1), 10 + token), batch, (), 20 + token))
    assert all(torch.equal(a, b) for a, b in zip(tensors(prefix), before, strict=True))


def test_a_roomy_layer_grows_past_its_room() -> None:
    states = torch.randn(2, 3, 5, 4)
    layer, stock = RoomyLayer(states, states + 1, room=2), DynamicLayer()
    stock.update(states, states + 1)
    for step in range(7):
        new = torch.full((2, 3, 1, 4), float(step))
        ours, theirs = layer.update(new, new - 1), stock.update(new, new - 1)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert layer.get_seq_length() == 12


def test_a_roomy_layer_keeps_the_rows_it_is_told_to() -> None:
    states = torch.randn(3, 1, 2, 4)
    layer = RoomyLayer(states, states, room=1)
    layer.reorder_cache(torch.tensor([2, 0]))
    assert torch.equal(layer.keys, states[[2, 0]])


def test_layers_without_a_cache_pass_through() -> None:
    cache = DynamicCache()
    cache.layers = [DummyLayer()]
    joined = prefix_cache.join_rows([cache, cache], [3, 4], room=1)
    assert prefix_cache.take(joined, 1, 4).layers == cache.layers


def test_sliding_windows_hold_only_their_window() -> None:
    prefix = filled(tiny_mistral_sliding(), 40, 1)
    layer = prefix_cache.join_rows([prefix], [40], room=1).layers[0]
    assert isinstance(layer, DynamicSlidingWindowLayer)
    assert layer.keys.shape[-2] == 15


def test_rows_that_share_nothing_are_joined_and_taken_like_others():
    rows = [UnsharedRows([[1, 2]]), UnsharedRows([[3]])]
    batch = prefix_cache.join_rows(rows, [2, 1], room=1)
    batch.extend(torch.tensor([[4], [5]]))
    assert prefix_cache.take(batch, 1, 2).rows == [[3, 5]]
    assert [row.rows for row in rows] == [[[1, 2]], [[3]]]


def test_rows_that_share_nothing_are_kept_in_the_order_told() -> None:
    batch = UnsharedRows([[1], [2, 3], [4]])
    batch.reorder_cache(torch.tensor([2, 1]))
    batch.extend(torch.tensor([[8], [9]]))
    assert batch.rows == [[4, 8], [2, 3, 9]]
