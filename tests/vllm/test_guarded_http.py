"""Guarded answers from a real vLLM server: the law, the calls and the cache are those that were promised."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.pipelining import NoRoom
from stars_guard.algorithm import replay
from stars_guard.algorithm.rules import Constant
from stars_guard.algorithm.segments import Boundary
from stars_guard.algorithm.trace import Verdict
from stars_guard.loading.engine_servers import load_engine_server
from stars_guard.models.engines.local_tokenizer import LocalTokenizer
from stars_guard.models.engines.openai import OpenAICompatibleModel
from stars_guard.prompts import Prompt
from stars_guard.types import Guarantee, StopReason
from tests.vllm.conftest import FOLDER
from tests.vllm.guarding import (
    CANDIDATES,
    LONG,
    QUESTION,
    SAMPLING,
    decisions,
    drawn,
    guarded,
    read_again,
    wait_for,
)
from tests.vllm.server import BLOCK, VLLMServer


@pytest.fixture(scope="module")
def model(server: VLLMServer) -> Iterator[OpenAICompatibleModel]:
    """With the tokenizer here; what the server serves is asked."""
    with load_engine_server(f"vllm@{server.url}", tokenizer=FOLDER) as model:
        yield model


def test_the_engine_says_what_it_serves(model: OpenAICompatibleModel) -> None:
    assert (model.name, model.context_window) == ("served", 2048)
    assert model.guarantee is Guarantee.TOKEN_IDS


def test_a_guarded_answer_replays_and_repeats(model: OpenAICompatibleModel) -> None:
    llm = guarded(model)
    first, again = (llm.generate(QUESTION, sampling=SAMPLING) for _ in range(2))
    replay.verify(first.trace)
    assert first.trace.guarantee is Guarantee.TOKEN_IDS
    assert (again.token_ids, decisions(again)) == (first.token_ids, decisions(first))
    assert first.text == model.tokenizer.decode(first.token_ids, skip_special_tokens=True)
    assert {one for segment in decisions(first) for _, one in segment} == {True, False}
    assert all(segment.verdict in (Verdict.ACCEPTED, Verdict.FORCED) for segment in first.trace.segments)


def test_the_engines_own_tokenizer_gives_the_same_answer(
    server: VLLMServer, model: OpenAICompatibleModel
) -> None:
    with OpenAICompatibleModel(server.url, "vllm", model="served") as bare:
        own, local = (guarded(one).generate(QUESTION, sampling=SAMPLING) for one in (bare, model))
    replay.verify(own.trace)
    assert own.trace.guarantee is Guarantee.TOKEN_IDS
    assert (own.text, own.token_ids) == (local.text, local.token_ids)


def test_segments_end_at_sentences_and_answers_at_stop_strings(model: OpenAICompatibleModel) -> None:
    boundary = Boundary(min_tokens=2, max_tokens=12)
    sampling = SAMPLING.changed(stop=" the", max_tokens=48)
    result = guarded(model, segments=boundary).generate(QUESTION, sampling=sampling)
    replay.verify(result.trace)
    assert result.stop_reason is StopReason.STOP
    assert " the" not in result.text


def test_a_round_is_one_call_of_several_candidates(server: VLLMServer, model: OpenAICompatibleModel) -> None:
    counters = ("http_requests_total", "vllm:request_success_total")

    def counted() -> list[float]:
        return [
            server.metric(counters[0], handler="/v1/completions"),
            server.metric(counters[1], finished_reason="length"),
        ]

    before = counted()
    nothing_will_do = {"threshold": Constant(target=9.0)}
    result = guarded(NoRoom(model), **nothing_will_do).generate(QUESTION, sampling=SAMPLING)
    assert [segment.drawn for segment in result.trace.segments] == [2 * CANDIDATES] * 3
    rounds, candidates = 2 * 3, 2 * 3 * CANDIDATES
    wait_for(lambda: counted() == [before[0] + rounds, before[1] + candidates])


def test_rejected_candidates_cost_no_second_prefill(model: OpenAICompatibleModel) -> None:
    plain = model.start(Prompt.of(LONG), SAMPLING)
    assert plain.prompt_tokens > 128
    drawn(model, plain, tokens=1)
    wait_for(lambda: model.cached_prompt_tokens()[1] >= plain.prompt_tokens)
    hits, asked = model.cached_prompt_tokens()
    result = guarded(NoRoom(model)).generate(LONG, sampling=SAMPLING)
    rejected = sum(not one for segment in decisions(result) for _, one in segment)
    assert rejected > 3
    lengths = read_again(result)
    wait_for(lambda: model.cached_prompt_tokens()[1] == asked + sum(lengths))
    read = sum(lengths) - (model.cached_prompt_tokens()[0] - hits)
    # All that fills a block is found again; the last token is not, since its logits are needed.
    assert read == sum((length - 1) % BLOCK + 1 for length in lengths)
    assert read < plain.prompt_tokens + CANDIDATES * BLOCK * len(lengths)


def test_answers_drawn_ahead_are_the_same(model: OpenAICompatibleModel) -> None:
    most = {"threshold": Constant(target=0.5)}  # accepts two of three
    for seed in (11, 12):
        sampling = SAMPLING.changed(seed=seed)
        ahead = guarded(model, **most).generate(QUESTION, sampling=sampling)
        waiting = guarded(NoRoom(model), **most).generate(QUESTION, sampling=sampling)
        replay.verify(ahead.trace)
        assert (ahead.token_ids, decisions(ahead)) == (waiting.token_ids, decisions(waiting))
        assert ahead.usage.ahead_tokens - ahead.usage.ahead_wasted_tokens > 0
        assert waiting.usage.ahead_tokens == 0


@pytest.mark.parametrize("level", ["text", "prefill", "whole"])
def test_weaker_guarantees_answer_too_and_say_so(server: VLLMServer, level: str) -> None:
    options = {"tokenizer": FOLDER} if level == "text" else {}
    with load_engine_server(f"vllm@{server.url}", guarantee=level, **options) as model:
        result = guarded(model, min_guarantee=None).generate(QUESTION, sampling=SAMPLING)
    replay.verify(result.trace)
    assert result.trace.guarantee == level
    assert result.text


def test_the_tokenizer_here_says_what_the_engines_does(
    model: OpenAICompatibleModel, server: VLLMServer
) -> None:
    assert model.start(Prompt.of(QUESTION), SAMPLING).opening == server.ids(QUESTION)
    assert isinstance(model._way.tokenizer, LocalTokenizer)
