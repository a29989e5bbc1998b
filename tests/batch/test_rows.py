"""Rows of a batch: what is read, what is refused, and which seed each has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard import ConfigurationError, SamplingParams
from stars_guard.batch.rows import Row, read_rows, row_seed


def rows(tmp_path: Path, *lines: Any) -> list[Row]:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in lines))
    return list(read_rows(file))


def refusal(tmp_path: Path, *lines: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        rows(tmp_path, *lines)
    return str(caught.value)


def test_rows_of_both_kinds(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    found = rows(tmp_path, {"prompt": "One"}, "", {"id": "two", "messages": turns, "seed": 7})
    assert [row.id for row in found] == ["row-1", "two"]
    assert [list(row.as_prompt.messages) for row in found] == [[{"role": "user", "content": "One"}], turns]


def test_requests_of_the_openai_batch_format(tmp_path: Path) -> None:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}],
        "max_completion_tokens": 9,
        "top_p": 1,
    }
    request = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {**body, "seed": 3}}
    (row,) = rows(tmp_path, request)
    assert (row.id, row.seed, row.sampling) == ("a", 3, {"max_tokens": 9, "top_p": 1})
    assert row.proposing(SamplingParams(temperature=0.5, seed=1)) == SamplingParams(
        max_tokens=9, top_p=1, temperature=0.5, seed=3
    )


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "prompts.jsonl:2: not JSON"),
        ("[1]", "prompts.jsonl:2: a row is a JSON object, not list"),
        ({}, "either 'prompt' or 'messages'"),
        ({"prompt": "a", "messages": []}, "either 'prompt' or 'messages'"),
        ({"prompt": "a", "temprature": 1}, "unknown setting 'temprature'"),
        ({"prompt": "a", "sampling": {"top_p": 2}}, "top_p=2"),
        ({"prompt": "a", "sampling": {"seed": 2}}, "beside 'sampling'"),
        ({"prompt": "a", "seed": -1}, "seed=-1"),
        ({"prompt": "a", "id": ""}, "id="),
        ({"prompt": "a", "id": "\ud800"}, "id"),
        ({"prompt": "a", "id": "row-1"}, "'row-1' is there twice"),
        ({"custom_id": "a", "body": 1}, "'body' is a JSON object"),
        ({"custom_id": "a", "body": {"prompt": "a", "logit_bias": {}}}, "takes no logit_bias"),
        ({"custom_id": "a", "body": {"prompt": "a", "n": 2}}, "one answer"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, line: Any, reason: str) -> None:
    message = refusal(tmp_path, {"prompt": "fine"}, line)
    assert reason in message
    assert "prompts.jsonl:2" in message


@given(st.integers(0, 2**63 - 1), st.text("ab1", max_size=4), st.text("ab1", max_size=4))
def test_a_seed_follows_from_the_batch_and_the_id(seed: int, one: str, other: str) -> None:
    assert 0 <= row_seed(seed, one) < 2**63
    assert (row_seed(seed, one) == row_seed(seed, other)) == (one == other)
    assert row_seed(seed, one) != row_seed(seed ^ 1, one)


def test_an_own_seed_wins() -> None:
    base = SamplingParams(seed=5)
    assert Row(id="a", prompt="p", seed=9).proposing(base).seed == 9
    assert Row(id="a", prompt="p").proposing(base).seed == row_seed(5, "a")
    assert Row(id="a", prompt="p").proposing(SamplingParams()).seed == row_seed(0, "a")
