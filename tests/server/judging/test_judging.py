"""Texts that others wrote, judged: OpenAI's moderation endpoint and LiteLLM's guardrail endpoint."""

from __future__ import annotations

import pytest

from stars_guard.server.entry.keys import hash_key
from stars_guard.testing import KeywordReward
from stars_guard.types import Channel
from tests.support.server_client import BAD, Watcher, guard, quiet, served

MODERATIONS, GUARDRAIL = "/v1/moderations", "/beta/litellm_basic_guardrail_api"
KEY = "sk-0123456789abcdef"


class Remembers(KeywordReward):
    """Keeps what it was asked."""

    def __init__(self):
        super().__init__([BAD])
        self.asked = []

    def score(self, requests):
        self.asked.append(list(requests))
        return super().score(requests)


async def posted(path, body, llm=None, config=None, **options):
    async with served(llm, config, **options) as client:
        return await client.post(path, json=body)


async def test_a_text_under_the_bar_is_flagged():
    watcher = Watcher()
    answer = (await posted(MODERATIONS, {"input": f"some {BAD}"}, observers=[watcher])).json()
    (result,) = answer["results"]
    assert (result["flagged"], result["categories"]) == (True, {"stars_guard": True})
    assert result["category_scores"] == {"stars_guard": 1.0}
    assert result["category_applied_input_types"] == {"stars_guard": ["text"]}
    assert (result["stars"]["reward"], result["stars"]["threshold"]) == (-1.0, 1.0)
    (exchange,) = watcher.ended_
    assert (exchange.endpoint, exchange.outcome) == ("moderations", "answered")
    assert (answer["id"], answer["model"]) == (f"modr-{exchange.id}", "stars-guard")


@pytest.mark.parametrize("model", ["omni-moderation-latest", "text-moderation-007", "stars-guard"])
async def test_each_text_of_a_list_has_a_result(model):
    answer = (await posted(MODERATIONS, {"input": ["bread", BAD, ""], "model": model})).json()
    assert [result["flagged"] for result in answer["results"]] == [False, True, False]


async def test_parts_are_one_text():
    parts = [{"type": "text", "text": BAD[:3]}, {"type": "text", "text": BAD[3:]}]
    answer = (await posted(MODERATIONS, {"input": parts})).json()
    assert [result["flagged"] for result in answer["results"]] == [True]


async def test_a_text_is_judged_as_a_whole_answer_to_what_it_answers():
    reward = Remembers()
    async with served(guard(None, reward)) as client:
        await client.post(MODERATIONS, json={"input": "bread", "prompt": "What do bakers bake?"})
        await client.post(MODERATIONS, json={"input": "bread", "prompt": " "})
    (about,), (alone,) = reward.asked
    assert (about.prompt.as_text(), about.response, about.finished) == ("What do bakers bake?", "bread", True)
    assert alone.prompt.as_text() == ""


async def test_many_texts_are_judged_some_at_a_time():
    reward = Remembers()
    answer = (await posted(MODERATIONS, {"input": ["bread"] * 70}, guard(None, reward))).json()
    assert len(answer["results"]) == 70
    assert [len(asked) for asked in reward.asked] == [32, 32, 6]


WRONG = [
    (MODERATIONS, {"input": []}, "input"),
    (MODERATIONS, {"input": ["a", {"type": "text", "text": "b"}]}, "input"),
    (MODERATIONS, {"input": [{"type": "image_url", "image_url": {"url": "x"}}]}, "input"),
    (MODERATIONS, {"input": [{"type": "text"}]}, "input"),
    (MODERATIONS, {"input": "x" * 90}, "input"),
    (MODERATIONS, {"input": "x", "prompt": "x" * 90}, "input"),
    (MODERATIONS, {"input": "x", "stars": {"target": 0.5}}, "stars.target"),
    (MODERATIONS, {"input": "x", "stars": {"floor": -9}}, "stars.floor"),
    (MODERATIONS, {"input": ["x"] * 9}, "input"),
    (GUARDRAIL, {"texts": ["x" * 90]}, "texts"),
    (GUARDRAIL, {"texts": ["x"] * 9}, "texts"),
    (GUARDRAIL, {"additional_provider_specific_params": {"target": 0.5}}, "stars.target"),
    (
        GUARDRAIL,
        {"additional_provider_specific_params": {"threshold": 0.1}},
        "additional_provider_specific_params.threshold",
    ),
    (GUARDRAIL, {"input_type": "during"}, "input_type"),
]


@pytest.mark.parametrize(("path", "body", "param"), WRONG)
async def test_what_cannot_be_judged_is_refused_by_name(path, body, param):
    config = quiet(limits={"max_prompt_characters": 80, "max_messages": 8})
    response = await posted(path, body, config=config)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_another_model_judges_nothing_here():
    response = await posted(MODERATIONS, {"input": "x", "model": "llama-guard"})
    assert response.json()["error"]["code"] == "model_not_found"


async def test_a_request_may_raise_the_bar():
    async with served() as client:
        body = {"input": "bread", "stars": {"target": 1.5}}
        (result,) = (await client.post(MODERATIONS, json=body)).json()["results"]
        assert (result["flagged"], result["stars"]["threshold"]) == (True, 1.5)
        body = {"texts": ["bread"], "additional_provider_specific_params": {"target": 1.5}}
        assert (await client.post(GUARDRAIL, json=body)).json()["action"] == "BLOCKED"


def passed_on(**fields):
    """What LiteLLM sends, with nulls for what there is not."""
    return {
        "texts": ["Hi", "bread"],
        "images": None,
        "tools": None,
        "tool_calls": None,
        "structured_messages": None,
        "request_data": {"user_api_key_alias": "me"},
        "request_headers": None,
        "litellm_version": "1.109.1",
        "litellm_call_id": "c",
        "litellm_trace_id": "t",
        "additional_provider_specific_params": {},
        "input_type": "request",
        "model": "gpt-5",
        **fields,
    }


BLOCKED = [
    {"texts": ["bread", f"some {BAD}"]},
    {"images": ["data:image/png;base64,AA=="]},
    {
        "texts": [],
        "tool_calls": [{"type": "function", "function": {"name": "order", "arguments": f'{{"what": "{BAD}'}}],
    },
    {"texts": None, "tool_calls": [{"type": "custom", "custom": {"input": BAD}}]},
]


@pytest.mark.parametrize("fields", BLOCKED)
@pytest.mark.parametrize("kind", ["request", "response"])
async def test_what_is_under_the_bar_is_blocked(fields, kind):
    answer = (await posted(GUARDRAIL, passed_on(input_type=kind, **fields))).json()
    assert answer["action"] == "BLOCKED"
    assert answer["blocked_reason"]
    assert BAD not in answer["blocked_reason"]


@pytest.mark.parametrize("fields", [{}, {"texts": []}, {"texts": None}, {"texts": [" "]}])
async def test_all_else_passes(fields):
    watcher = Watcher()
    answer = (await posted(GUARDRAIL, passed_on(**fields), observers=[watcher])).json()
    assert answer == {"action": "NONE"}
    assert [exchange.endpoint for exchange in watcher.ended_] == ["guardrail"]


CONVERSATION = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": [{"type": "text", "text": "What do bakers bake?"}, {"type": "image_url"}]},
    {"content": "nobody's"},
    {"role": "assistant", "content": "bread"},
]


async def test_an_answer_is_judged_as_one_to_its_conversation():
    reward = Remembers()
    async with served(guard(None, reward)) as client:
        for kind, messages in (
            ("response", CONVERSATION),
            ("request", CONVERSATION),
            ("response", CONVERSATION[-1:]),
            ("response", [{"role": "user", "content": None}]),
        ):
            calls = [{"type": "function", "function": {"name": "bake", "arguments": "{}"}}]
            body = passed_on(texts=["bread"], input_type=kind, structured_messages=messages, tool_calls=calls)
            assert (await client.post(GUARDRAIL, json=body)).json()["action"] == "NONE"
    prompts = [asked[0].prompt.as_text() for asked in reward.asked]
    assert prompts == ["Be kind.\nWhat do bakers bake?", "", "", ""]
    assert [text.channel for text in reward.asked[0]] == [Channel.ANSWER, Channel.TOOL]
    assert reward.asked[0][1].response == "bake {}"


async def test_an_outage_is_no_verdict():
    class Away(KeywordReward):
        def score(self, requests):
            raise OSError("away")

    async with served(guard(None, Away([]))) as client:
        for path, body in ((MODERATIONS, {"input": "x"}), (GUARDRAIL, passed_on())):
            response = await client.post(path, json=body)
            assert (response.status_code, response.json()["error"]["code"]) == (503, "scoring_error")


async def test_the_guardrail_endpoint_asks_for_a_key_in_litellms_header():
    config = quiet(keys=[{"name": "litellm", "sha256": hash_key(KEY)}])
    async with served(config=config) as client:
        assert (await client.post(GUARDRAIL, json=passed_on())).status_code == 401
        answer = await client.post(GUARDRAIL, json=passed_on(), headers={"x-api-key": KEY})
        assert answer.json() == {"action": "NONE"}
