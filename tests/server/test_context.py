"""How much fits the model: what is said of it, answers that are shortened, prompts that are too long."""

from __future__ import annotations

import pytest

from stars_guard.server.context import ModelContext
from stars_guard.server.models import model_card
from stars_guard.testing import KeywordReward, ScriptedModel
from stars_guard.types import Channel
from tests.support.guards import guarded, hard
from tests.support.server_client import CHAT, asking, guard, quiet, served

WINDOW = 500


class Counts(ScriptedModel):
    """A scripted model that counts: a token is a character of the conversation."""

    context_window = WINDOW

    def __init__(self, script):
        super().__init__(script)
        self.counted = 0

    def prompt_tokens(self, prompt):
        self.counted += 1
        return len(prompt.as_text())


class CountsNot(Counts):
    def prompt_tokens(self, prompt):
        return None


def narrow(kind=Counts, **changes):
    model = kind([["one"]])
    for name, value in changes.items():
        setattr(model, name, value)
    return guarded(model, KeywordReward([]), hard())


DOORS = {
    CHAT: lambda text, **fields: asking(text, **fields),
    "/v1/completions": lambda text, **fields: {"prompt": text, **fields},
    "/v1/responses": lambda text, max_tokens=None, **fields: {
        "input": text,
        "max_output_tokens": max_tokens,
        **fields,
    },
    "/v1/messages": lambda text, max_tokens=256, **fields: asking(text, max_tokens=max_tokens, **fields),
}


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_is_as_long_as_fits_and_that_is_said(path, stream):
    llm = narrow()
    async with served(llm) as client:
        response = await client.post(path, json=DOORS[path]("a" * 400, stream=stream))
    assert response.status_code == 200
    assert response.headers["x-stars-max-tokens"] == "100"
    said = response.text.replace(" ", "")
    assert '"max_tokens":{"requested":256,"granted":100}' in said
    assert llm.model.sessions[0].sampling.max_tokens == 100


@pytest.mark.parametrize("path", DOORS)
async def test_more_than_the_server_gives_is_shortened_likewise(path):
    config = quiet(limits={"max_tokens": 64, "default_tokens": 200})
    async with served(config=config) as client:
        long = await client.post(path, json=DOORS[path]("Hi", max_tokens=32000))
        assert '"max_tokens":{"requested":32000,"granted":64}' in long.text
        short = await client.post(path, json=DOORS[path]("Hi", max_tokens=64))
        assert "x-stars-max-tokens" not in short.headers
        assert '"granted"' not in short.text


@pytest.mark.parametrize("path", DOORS)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_leaves_no_room_is_too_long_in_the_words_that_clients_look_for(path, stream):
    async with served(narrow()) as client:
        response = await client.post(path, json=DOORS[path]("a" * WINDOW, stream=stream))
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert error["param"] == ("input" if path == "/v1/responses" else "messages")
    expected = (
        "This model's maximum context length is 500 tokens. However, your messages resulted in 500 tokens."
    )
    assert expected in error["message"]
    assert error["message"].startswith("prompt is too long") == (path == "/v1/messages")


async def test_a_prompt_that_surely_fits_is_not_counted():
    llm = narrow(context_window=100_000)
    async with served(llm) as client:
        assert (await client.post(CHAT, json=asking("Hi"))).status_code == 200
        assert llm.model.counted == 0
        llm.model.context_window = 2000
        tools = [{"type": "function", "function": {"name": "weather"}}]
        assert (await client.post(CHAT, json=asking("Hi", tools=tools))).status_code == 200
    assert llm.model.counted == 1


@pytest.mark.parametrize("changes", [{"context_window": None}, {"kind": CountsNot}])
async def test_nothing_is_shortened_to_what_is_not_known(changes):
    async with served(narrow(**changes)) as client:
        response = await client.post(CHAT, json=asking("a" * WINDOW))
    assert response.status_code == 200
    assert "x-stars-max-tokens" not in response.headers


async def test_the_model_says_how_much_it_reads_and_writes():
    async with served(narrow(), quiet(limits={"max_tokens": 300})) as client:
        listed = (await client.get("/v1/models")).json()
        (card,) = listed["data"]
        assert (await client.get("/v1/models/stars-guard")).json() == card
    for name in (
        "context_length",
        "context_window",
        "max_model_len",
        "max_context_length",
        "max_input_tokens",
    ):
        assert card[name] == WINDOW
    for name in ("max_output_tokens", "max_completion_tokens", "max_tokens"):
        assert card[name] == 300
    assert card["top_provider"]["context_length"] == WINDOW
    assert (card["id"], card["object"], card["type"]) == ("stars-guard", "model", "model")
    assert (listed["object"], listed["has_more"], listed["first_id"]) == ("list", False, "stars-guard")
    assert card["stars"]["target"] == 1.0
    assert card["stars"]["requests"]["temperature"] == {"least": 0.0, "most": 1.0}
    assert card["stars"]["requests"]["target"] == "stricter"


async def test_a_context_that_is_not_known_is_not_made_up():
    async with served() as client:
        (card,) = (await client.get("/v1/models")).json()["data"]
        assert "context_length" not in card
        assert card["max_output_tokens"] == 2048
        assert card == model_card(client._transport.app.state.service)


def test_a_model_that_does_not_count_has_no_context():
    assert ModelContext(guard().model).window is None
    assert ModelContext(guard().model).tokens(None) is None
    assert guard().config.rules(Channel.ANSWER).threshold.target == 1.0
