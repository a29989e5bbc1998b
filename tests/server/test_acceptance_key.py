"""A client that chooses the seed does not choose the acceptance draws."""

from __future__ import annotations

import pytest

from stars_guard import AcceptanceKey, ConfigurationError, Constant, GuardConfig, Refuse, Soft, replay
from stars_guard.algorithm.random_numbers import ACCEPTANCE, uniform
from stars_guard.algorithm.trace import Trace
from stars_guard.server.app import create_app
from stars_guard.testing import KeywordReward, ScriptedModel
from tests.support.guards import guarded
from tests.support.server_client import BAD, CHAT, asking, guard, quiet, served

# Without a floor that would refuse it anyway.
CONFIG = GuardConfig(
    threshold=Constant(target=1.0), acceptance=Soft(beta=1.0), floor=-9, max_attempts=1, exhaustion=Refuse()
)
SEED = min(range(3000), key=lambda seed: uniform(seed, 0, 0, ACCEPTANCE))
ENV = "STARS_GUARD_ACCEPTANCE_KEY"
SECRET = "what only the operator knows"


def llm(**parts):
    return guarded(ScriptedModel([[BAD]]), KeywordReward([BAD], bad=-4.0), CONFIG, **parts)


async def test_a_chosen_seed_is_shown_as_often_as_any_other(monkeypatch):
    monkeypatch.delenv(ENV, raising=False)
    assert uniform(SEED, 0, 0, ACCEPTANCE) < 0.0067  # what would show it: exp(-5)
    async with served(llm(), quiet()) as client:
        replies = [await client.post(CHAT, json=asking(f"p{n}", seed=SEED)) for n in range(300)]
    # 2 on average; all 300 if the seed told the draws.
    assert sum(BAD in reply.json()["choices"][0]["message"]["content"] for reply in replies) < 12


@pytest.mark.parametrize("held", ["environment", "guard"])
async def test_the_same_key_and_seed_repeat_the_draws_on_every_replica(monkeypatch, held):
    async def draws(secret):
        parts = {"acceptance_key": AcceptanceKey(secret)} if held == "guard" else {}
        if held == "environment":
            monkeypatch.setenv(ENV, secret)
        async with served(llm(**parts), quiet(traces={"enabled": True})) as client:
            reply = (await client.post(CHAT, json=asking(seed=3))).json()
            kept = (await client.get(f"/v1/traces/{reply['id']}")).json()["traces"]
        (trace,) = (Trace.model_validate(one) for one in kept)
        assert trace.keyed
        assert replay(trace) == []
        return trace.segments[0].attempts[0].uniform

    monkeypatch.delenv(ENV, raising=False)
    assert await draws(SECRET) == await draws(SECRET) != await draws("another secret of the operator")


def test_a_named_variable_without_a_key_stops_the_start(monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="MY_KEY holds no acceptance key"):
        create_app(guard(), quiet(acceptance_key_env="MY_KEY"))
