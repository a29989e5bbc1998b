"""What the guard relies on in a real vLLM server: a release that changes one of these breaks a guarantee."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.vllm.guarding import wait_for
from tests.vllm.server import BLOCK, VLLMServer

PROMPT = "Name three colours, and say where in nature each of them is found."


@pytest.fixture(scope="module")
def prompt(server: VLLMServer) -> list[int]:
    return server.ids(PROMPT)


def draw(server: VLLMServer, prompt: list[int], **body: Any) -> list[dict[str, Any]]:
    settings = {"max_tokens": 12, "temperature": 1.0, "return_token_ids": True}
    answer = server.post("/v1/completions", prompt=prompt, **{**settings, **body})
    choices: list[dict[str, Any]] = sorted(answer["choices"], key=lambda choice: choice["index"])
    return choices


def ids(choices: list[dict[str, Any]]) -> list[list[int]]:
    return [choice["token_ids"] for choice in choices]


def test_ids_go_in_and_come_out(server: VLLMServer, prompt: list[int]) -> None:
    (choice,) = draw(server, prompt, seed=3)
    assert choice["prompt_token_ids"] == prompt
    assert len(choice["token_ids"]) == 12
    assert (choice["finish_reason"], choice["stop_reason"]) == ("length", None)


def test_a_call_of_n_is_n_calls_with_successive_seeds(server: VLLMServer, prompt: list[int]) -> None:
    together = ids(draw(server, prompt, seed=100, n=4))
    alone = [ids(draw(server, prompt, seed=100 + index))[0] for index in range(4)]
    assert together == alone
    assert len({tuple(one) for one in together}) == 4


def test_a_seed_repeats(server: VLLMServer, prompt: list[int]) -> None:
    assert ids(draw(server, prompt, seed=7, n=3)) == ids(draw(server, prompt, seed=7, n=3))


def test_seeds_count_by_their_low_bits_on_the_cpu(server: VLLMServer, prompt: list[int]) -> None:
    low, high, other = (ids(draw(server, prompt, seed=seed, max_tokens=4)) for seed in (5, 5 + 2**32, 6))
    assert low == high != other


def test_a_stop_id_is_among_the_ids(server: VLLMServer, prompt: list[int]) -> None:
    (free,) = ids(draw(server, prompt, seed=7))
    stop = free[5]
    (choice,) = draw(server, prompt, seed=7, stop_token_ids=[stop])
    assert choice["token_ids"] == free[: free.index(stop) + 1]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)


def test_a_stop_string_shortens_the_text_but_not_the_ids(server: VLLMServer, prompt: list[int]) -> None:
    (free,) = draw(server, prompt, seed=7)
    stop = free["text"].split()[2]
    (choice,) = draw(server, prompt, seed=7, stop=[stop])
    assert choice["text"] == free["text"][: free["text"].index(stop)]
    assert choice["stop_reason"] == stop
    drawn = choice["token_ids"]
    assert drawn == free["token_ids"][: len(drawn)]
    assert stop in server.post("/detokenize", tokens=drawn)["prompt"]


def test_the_prefix_is_computed_once_for_all_candidates(server: VLLMServer, prompt: list[int]) -> None:
    long = (prompt * 8)[:160]
    draw(server, long, seed=1, cache_salt="once")
    before = counters(server)
    draw(server, long, seed=2, n=4, cache_salt="once")
    queries, hits = (after - start for after, start in zip(counters(server), before, strict=True))
    assert queries == 4 * len(long)
    # Whole blocks only, and never the last token, whose logits are needed.
    assert hits == 4 * ((len(long) - 1) // BLOCK) * BLOCK


def test_another_salt_shares_nothing(server: VLLMServer, prompt: list[int]) -> None:
    long = (prompt * 8)[:160]
    draw(server, long, seed=1, cache_salt="one")
    _, before = counters(server)
    draw(server, long, seed=1, cache_salt="two")
    assert counters(server)[1] == before


def counters(server: VLLMServer) -> tuple[float, float]:
    kinds = ("queries", "hits")
    queries, hits = (server.metric(f"vllm:prefix_cache_{kind}_total") for kind in kinds)
    return queries, hits


def test_a_client_that_leaves_ends_the_work(server: VLLMServer, prompt: list[int]) -> None:
    drawn = server.metric("vllm:generation_tokens_total")
    body = {"model": server.model, "prompt": prompt, "max_tokens": 1500, "ignore_eos": True}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(server.url + "/v1/completions", json=body, timeout=httpx.Timeout(60, read=1.5))
    wait_for(lambda: server.metric("vllm:num_requests_running") == 0)
    assert 0 < server.metric("vllm:generation_tokens_total") - drawn < 1000
