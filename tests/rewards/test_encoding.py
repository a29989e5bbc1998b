"""Encoding: which tokens stay when a text is too long, and how far two sequences agree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.errors import ConfigurationError
from stars_guard.rewards.encoding import PROMPT, RESPONSE, SPECIAL, common_length, kept

PARTS = st.lists(st.sampled_from([PROMPT, RESPONSE, SPECIAL]), max_size=40)


@given(PARTS, st.integers(1, 45))
def test_what_is_kept(parts, max_length):
    specials = parts.count(SPECIAL)
    if len(parts) > max_length and specials >= max_length:
        with pytest.raises(ConfigurationError, match=f"max_length={max_length} leaves no room"):
            kept(parts, max_length)
        return
    indices = kept(parts, max_length)
    dropped = [index for index in range(len(parts)) if index not in indices]
    assert indices == sorted(set(indices))
    assert len(indices) == min(len(parts), max_length)
    assert all(parts[index] != SPECIAL for index in dropped)
    for part in (PROMPT, RESPONSE):
        stays = [index for index in indices if parts[index] == part]
        goes = [index for index in dropped if parts[index] == part]
        assert not stays or not goes or max(goes) < min(stays)
    if any(parts[index] == RESPONSE for index in dropped):
        assert all(parts[index] != PROMPT for index in indices)


@given(st.lists(st.integers(0, 1)), st.lists(st.integers(0, 1)))
def test_common_length(first, second):
    length = common_length(first, second)
    assert first[:length] == second[:length]
    assert length == min(len(first), len(second)) or first[length] != second[length]
