"""Fields of other servers: what would change the answer is refused by name, the rest is ignored."""

from __future__ import annotations

import json

import pytest

from stars_guard.server.openai.unserved import NEUTRAL
from stars_guard.server.openai.wire import ChatRequest, CompletionRequest
from tests.support.server_client import CHAT, asking, guard, served

SOMETHING = ({"a": 1}, ["x"], "x", 7, True, False)
"""Values of all kinds."""
DOORS = {
    CHAT: asking(),
    "/v1/completions": {"prompt": "Hi"},
    "/v1/responses": {"input": "Hi"},
    "/v1/messages": asking(max_tokens=9),
}
DECLARED = {
    "/v1/responses": {"reasoning", "max_output_tokens"},
    "/v1/messages": {"system", "thinking", "stop_sequences", "output_config"},
}
"""Fields that are served at that door, or refused as its own."""


@pytest.fixture(scope="module", params=DOORS)
def path(request):
    return request.param


async def test_every_such_field_is_refused_by_name_and_its_neutral_values_are_not(path):
    names = NEUTRAL.keys() - DECLARED.get(path, set())
    async with served(guard(lambda prompt: [["x"]])) as client:
        for name in sorted(names):
            for value in SOMETHING:
                response = await client.post(path, json={**DOORS[path], name: value})
                if value in NEUTRAL[name]:
                    assert response.status_code == 200, (name, value)
                else:
                    assert response.status_code == 400, (name, value)
                    error = response.json()["error"]
                    assert error["param"] == name
                    assert name in error["message"]
            for value in NEUTRAL[name]:
                response = await client.post(path, json={**DOORS[path], name: value})
                assert response.status_code == 200, (name, value)


def test_the_words_of_other_servers_for_a_constraint_are_known():
    text_generation_webui = {
        "grammar_string",
        "custom_token_bans",
        "ban_eos_token",
        "custom_stopping_strings",
    }
    tabby = {"regex_pattern", "banned_strings", "cfg_scale", "response_prefix"}
    koboldcpp = {"rep_pen", "stop_sequence", "banned_tokens", "memory"}
    anthropic = {"output_format", "output_config", "mcp_servers", "container"}
    others = {"guided_decoding", "sampling_params", "parameters", "generation_config", "chat_template_args"}
    assert NEUTRAL.keys() >= text_generation_webui | tabby | koboldcpp | anthropic | others


def test_no_field_that_is_served_is_among_them():
    assert not NEUTRAL.keys() & {*ChatRequest.model_fields, *CompletionRequest.model_fields}


@pytest.mark.parametrize(
    "name", ["user", "metadata", "store", "service_tier", "prompt_cache_key", "priority", "keep_alive", "x"]
)
async def test_what_cannot_change_the_answer_is_ignored(name, path):
    if (path, name) in (("/v1/responses", "store"), ("/v1/responses", "metadata")):
        return
    async with served() as client:
        assert (await client.post(path, json={**DOORS[path], name: "x"})).status_code == 200


KINDS = ["grammar", "regex", "structural_tag", "ebnf", "choice", "json_schema"]


@pytest.mark.parametrize("kind", KINDS)
async def test_kinds_of_response_format_that_are_not_served_are_refused(kind):
    async with served() as client:
        response = await client.post(CHAT, json=asking(response_format={"type": kind}))
    assert (response.status_code, response.json()["error"]["param"]) == (400, "response_format")


async def test_a_schema_beside_json_object_holds():
    llm = guard(lambda prompt: [["{}"]])
    start, seen = llm.model.start, []
    llm.model.start = lambda prompt, sampling: (seen.append(sampling), start(prompt, sampling))[1]
    schema = {"type": "object", "required": ["a"]}
    async with served(llm) as client:
        for fields in ({}, {"schema": schema}):
            body = asking(response_format={"type": "json_object", **fields})
            assert (await client.post(CHAT, json=body)).status_code == 200
        wrong = asking(response_format={"type": "json_object", "schema": "x"})
        assert (await client.post(CHAT, json=wrong)).status_code == 400
    assert [json.loads(sampling.response_schema) for sampling in seen] == [{"type": "object"}, schema]
