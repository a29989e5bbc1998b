"""A thousand malformed requests and more, made from the server's own OpenAPI document or next to right ones:
each has an outcome that is documented, no text is sent that was not accepted, and the server lives on."""

from __future__ import annotations

import asyncio
import copy
import json
from collections import Counter
from contextlib import contextmanager

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi import checks

from stars_guard.server.app import create_app
from stars_guard.server.entry.gate import LITELLM
from stars_guard.server.entry.keys import hash_key
from tests.support.server_client import BAD, CHAT, Watcher, asking, guard, quiet

pytestmark = pytest.mark.slow

KEY = "sk-0123456789abcdef"
HEADERS = {"Authorization": f"Bearer {KEY}"}
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.negative_data_rejection,
]
CHOOSABLE = {"segment_tokens": {"least": 1}, "repetition_penalty": {"least": 1.0, "most": 1.3}}
RICH = asking(
    model="stars-guard",
    stream=True,
    stream_options={"include_usage": True},
    n=2,
    max_tokens=9,
    max_completion_tokens=9,
    temperature=0.5,
    top_p=0.9,
    top_k=5,
    min_p=0.1,
    repetition_penalty=1.1,
    seed=3,
    stop=["zzz"],
    stop_token_ids=[7],
    tool_choice={"type": "function", "function": {"name": "weather"}},
    tools=[
        {
            "type": "function",
            "function": {
                "name": "weather",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
            },
        }
    ],
    parallel_tool_calls=False,
    response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    stars={"segment_tokens": 5, "max_attempts": 3, "max_seconds": 9.5, "trace": True},
)
RICH["messages"] += [
    {"role": "user", "content": [{"type": "text", "text": "More"}]},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "1", "content": "Sunny"},
]
ITEMS = {
    "model": "stars-guard",
    "stream": True,
    "instructions": "Be kind.",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "function_call", "call_id": "1", "name": "weather", "arguments": '{"city": "Rome"}'},
        {"type": "function_call_output", "call_id": "1", "output": "Sunny"},
    ],
    "max_output_tokens": 9,
    "temperature": 0.5,
    "seed": 3,
    "tools": [{"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}],
    "tool_choice": {"type": "function", "name": "weather"},
    "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}},
    "reasoning": {"effort": None, "summary": "auto"},
    "include": ["reasoning.encrypted_content"],
    "metadata": {"a": "b"},
    "stars": {"max_attempts": 3, "trace": True},
}
BLOCKS = {
    "model": "stars-guard",
    "stream": True,
    "system": [{"type": "text", "text": "Be kind."}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": ""},
                {"type": "tool_use", "id": "1", "name": "weather", "input": {"city": "Rome"}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "Sunny"}]},
    ],
    "max_tokens": 9,
    "temperature": 0.5,
    "stop_sequences": ["zzz"],
    "tools": [{"name": "weather", "input_schema": {"type": "object", "properties": {}}}],
    "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
    "thinking": {"type": "disabled"},
    "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
    "stars": {"max_attempts": 3, "trace": True},
}
PASSED_ON = {
    "texts": ["Hi"],
    "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": "{}"}}],
    "structured_messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    "input_type": "response",
    "additional_provider_specific_params": {"target": 2.0},
}
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**63, 10**40, 1e308, -0.0, "", "\0", "auto", "none", "any", {}, []]),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.lists(
        st.one_of(st.none(), st.text(max_size=3), st.dictionaries(st.text(max_size=3), st.none())), max_size=2
    ),
    st.dictionaries(
        st.sampled_from(["type", "function", "name", "text", "schema", "x"]), st.text(max_size=3)
    ),
)
"""What may stand where something else should."""


class Service:
    """The application under test, and what became of the requests to it."""

    def __init__(self):
        self.watcher = Watcher()
        config = quiet(
            limits={"max_body_bytes": 2_000_000, "max_prompt_characters": 2000, "requests": CHOOSABLE},
            traces={"enabled": True, "keep": 5},
            keys=[{"name": "tests", "sha256": hash_key(KEY)}],
        )
        self.app = create_app(guard(), config, [self.watcher])
        self.statuses = Counter()
        self.loop = asyncio.new_event_loop()
        transport = httpx.ASGITransport(self.app)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://server")
        schema = schemathesis.openapi.from_dict(self.app.openapi())
        operations = [operation.ok() for operation in schema.get_all_operations()]
        self.operations = {operation.label: operation for operation in operations}

    def send(self, method, path, body=b"", **headers):
        """One request; whatever it is, the answer is one of ours."""
        kind = {"Content-Type": "application/json"} if body else {}
        request = self.client.request(method, path, content=body, headers={**HEADERS, **kind, **headers})
        response = self.loop.run_until_complete(request)
        self.statuses[response.status_code] += 1
        assert BAD not in response.text
        if response.status_code >= 400:
            assert response.status_code < 500, response.text
            error = response.json()["error"]
            assert error["message"]
            assert error.keys() == {"message", "type", "param", "code"}
        return response

    @contextmanager
    def refusing(self, least):
        """Requests of which at least so many are refused as malformed."""
        before = self.statuses[400]
        yield
        assert self.statuses[400] - before >= least

    def assert_lives(self):
        """The next request is answered, and nothing is left of those before, each of which ended once."""
        answer = self.send("POST", CHAT, encoded(asking())).json()
        assert answer["choices"][0]["message"]["content"] == "one two three"
        inside = self.app.state.service
        assert (inside.admission.running, inside.admission.queued, len(inside._active)) == (0, 0, 0)
        ended = [exchange.id for exchange in self.watcher.ended_]
        assert len(ended) == len(set(ended)) == len(self.watcher.began_)


@pytest.fixture(scope="module")
def application():
    service = Service()
    yield service
    service.loop.run_until_complete(service.client.aclose())
    service.loop.close()


@pytest.fixture
def service(application):
    """The application, which lives on after whatever a test sends it."""
    yield application
    application.assert_lives()


PATHS = create_app(guard(), quiet()).openapi()["paths"]
OPERATIONS = [f"{method.upper()} {path}" for path, methods in PATHS.items() for method in methods]
FORBIDDEN = {
    f"POST {CHAT}": (25, 90),
    "POST /v1/completions": (80, 300),
    "POST /v1/guard/score": (80, 300),
    "POST /v1/responses": (8, 20),
    "POST /v1/messages": (8, 20),
    "POST /v1/moderations": (15, 40),
    f"POST {LITELLM}": (15, 30),
}
"""Examples made for each, which take long for a chat, and how many requests must be refused for them."""
CHANGED = {
    CHAT: (RICH, 500, 330),
    "/v1/responses": (ITEMS, 150, 70),
    "/v1/messages": (BLOCKS, 150, 70),
    "/v1/moderations": ({"input": [{"type": "text", "text": "Hi"}], "stars": {"target": 2.0}}, 40, 15),
    LITELLM: (PASSED_ON, 60, 15),
}
"""Requests of which one thing is made wrong, how often, and how many must be refused for it."""


def examples(count):
    return settings(
        max_examples=count,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        deadline=None,
        database=None,
    )


def encoded(body):
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def hold(service, case):
    """Send a case, hold the answer against the document, and give what was sent."""
    sent = case.as_transport_kwargs()
    body = encoded(sent["json"]) if "json" in sent else sent.get("data") or b""
    case.validate_response(service.send(sent["method"], sent["url"], body), checks=CHECKS, headers=HEADERS)
    return body


@pytest.mark.parametrize("name", OPERATIONS)
def test_what_the_document_allows(name, service):
    operation = service.operations[name]

    @seed(5)
    @examples(15)
    @given(operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
    def sent(case):
        hold(service, case)

    sent()


def test_a_thousand_malformed_requests_are_made():
    assert sum(counts[-1] for counts in [*FORBIDDEN.values(), *CHANGED.values()]) > 1000


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_the_document_forbids_and_what_is_cut_off_or_of_another_kind(name, service):
    operation = service.operations[name]
    count, refused = FORBIDDEN[name]

    @seed(7)
    @examples(count)
    @given(operation.as_strategy(generation_mode=GenerationMode.NEGATIVE), st.randoms(use_true_random=False))
    def sent(case, random):
        body = hold(service, case) or b"{}"
        place = random.randrange(len(body))
        broken = bytearray(body)
        broken[place] ^= 1 << random.randrange(8)
        service.send("POST", operation.path, body[:place])
        service.send("POST", operation.path, bytes(broken))
        service.send("POST", operation.path, body, **{"Content-Type": "text/plain"})

    with service.refusing(refused):
        sent()


def places(value, at=()):
    """Every place in a body, from its root."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield from places(part, (*at, key))


@pytest.mark.parametrize("path", CHANGED)
def test_one_wrong_thing_in_a_request_that_is_right_otherwise(path, service):
    right, count, refused = CHANGED[path]

    @seed(11)
    @examples(count)
    @given(st.sampled_from([at for at in places(right) if at]), JUNK, st.booleans())
    def changed(at, junk, stream):
        body = copy.deepcopy({**right, "stream": stream})
        inner = body
        for key in at[:-1]:
            inner = inner[key]
        inner[at[-1]] = junk
        assert service.send("POST", path, encoded(body)).status_code in (200, 400, 404)

    assert service.send("POST", path, encoded(right)).status_code == 200
    with service.refusing(refused):
        changed()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
        b'{"messages": [{"role": "user", "content": "x"}], "seed": ' + b"9" * 5000 + b"}",
        b'{"messages": ' + b"[" * 20_000,
        b"\xff\xfe{}",
    ],
    ids=lambda body: body[:60].decode("latin-1"),
)
def test_bodies_that_parsers_stumble_over(body, service):
    assert service.send("POST", CHAT, body).status_code == 400


def test_paths_and_methods_that_are_not_served(service):
    assert service.send("GET", CHAT).status_code == 405
    assert service.send("GET", CHAT).headers["allow"] == "POST"
    assert service.send("DELETE", "/v1/models").status_code == 405
    assert service.send("GET", "/v1/%00").status_code == 404
    assert service.send("POST", "/v1/" + "x" * 5000).status_code == 404
