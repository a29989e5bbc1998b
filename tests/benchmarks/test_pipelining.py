"""The benchmark of drawing ahead: what it counts, and that "off" is off."""

from __future__ import annotations

import json
from functools import partial

import pytest
import typer
from typer.testing import CliRunner

from benchmarks import pipelining
from benchmarks.pipelining import NoRoom, Turn, Waiting, answered, generated, guarded, row, turn
from stars_guard.models.base import BatchesItself, guarantee_of
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.types import Guarantee
from tests.models.engines.test_openai import model_at
from tests.support.http_engine import FakeEngine, HttpEngine, TableTokenizer

pytestmark = pytest.mark.slow

WORDS = TableTokenizer((*"abcdefgh", ""), 8)
ENGINE = FakeEngine(lambda drawn, seed, step: hash((drawn, seed, step)) % 8, WORDS)


def test_both_ways_give_the_same_answers_and_one_draws_ahead() -> None:
    with HttpEngine(ENGINE) as server, model_at(server) as model:
        guards = guarded(model, 0.01, 0.7), guarded(NoRoom(model), 0.01, 0.7)
        count = partial(generated, server.url)
        found = turn(guards, range(4), 64, count, first=1)
        _, waiting, drawn = answered(guards[1], range(4), 64, count)
    assert (found.kept, found.different) == (4 * 64, 0)
    assert 0 < found.ahead <= found.proposed[0]
    assert found.proposed[0] <= found.engine[0]  # what was aborted is counted there only
    assert found.proposed[1] == found.engine[1] == drawn
    assert found.engine[0] > drawn
    assert all(one.usage.ahead_tokens == 0 for one in waiting)


def test_off_is_the_same_model_without_room() -> None:
    with HttpEngine(ENGINE) as server, model_at(server) as model:
        off = NoRoom(model)
        assert isinstance(off, BatchesItself)
        assert guarantee_of(off) is Guarantee.TOKEN_IDS
        assert model.has_room
        assert not off.has_room


def test_the_reward_accepts_the_share_that_it_is_told() -> None:
    texts = [ScoreRequest(Prompt.of("x"), str(number), finished=False) for number in range(2000)]
    scores = [one.value for one in Waiting(0.0, 0.8).score(texts)]
    assert set(scores) == {0.0, 1.0}
    assert sum(scores) / len(scores) == pytest.approx(0.8, abs=0.05)


def test_rows_are_medians_over_turns() -> None:
    times = [(1.0, 2.0), (3.0, 3.0), (2.0, 8.0)]
    turns = [Turn(one, kept=10, proposed=(30, 20), ahead=15, engine=(40, 10), different=0) for one in times]
    found = row(0.1, turns)
    assert (found.on, found.off, found.ratio, found.ratios) == (2.0, 3.0, 0.5, [0.5, 1.0, 0.25])
    assert (found.tokens, found.engine) == ((3.0, 2.0), (4.0, 1.0))
    assert [len(column.header) > 0 for column in pipelining.table([found]).columns] == [True] * 9


def test_it_runs_on_any_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    load = pipelining.load_engine_server
    monkeypatch.setattr(pipelining, "load_engine_server", lambda place: load(place, tokenizer=WORDS))
    app = typer.Typer()
    app.command()(pipelining.main)
    with HttpEngine(ENGINE) as server:
        flags = ["--url", f"vllm@{server.url}", "--repeats", "2", "--tokens", "16", "--json"]
        result = CliRunner().invoke(app, [*flags, "--scoring", "0", "--scoring", "0.01"])
    assert result.exit_code == 0, result.output
    assert [one["scoring"] for one in json.loads(result.stdout)] == [0.0, 0.01]
    assert CliRunner().invoke(app, []).exit_code == 2
