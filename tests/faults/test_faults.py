"""A minute of what ``make test-faults`` does for longer, and proof that it would see what is wrong."""

from __future__ import annotations

import pytest

from stars_guard.algorithm.run import Run
from stars_guard.algorithm.trace import Verdict
from stars_guard.errors import ScoringError
from stars_guard.loop.sources import Sessions
from stars_guard.rewards.base import score_checked
from stars_guard.types import Channel, Reward
from tests.faults import streams
from tests.faults.ledger import REFUSAL, Ledger, Shown
from tests.faults.marks import new_mark
from tests.faults.parts import FaultyReward
from tests.faults.plan import wave
from tests.faults.requests import request_wave
from tests.faults.run import Part
from tests.faults.streams import Streams
from tests.faults.tally import Tally

SEED = 13


@pytest.mark.slow
@pytest.mark.no_cover  # many streams, many times slower when watched; what they run is covered elsewhere
@pytest.mark.parametrize("quarter", range(4))
def test_streams_with_faults(quarter):
    tally = Part("streams", SEED, quarter * 16, (quarter + 1) * 16).run()
    assert tally.complaints == []
    assert tally.counts["streams in shared rounds"] == tally.counts["streams on lanes"] == 512
    assert len(tally.faults) > 15  # kinds that struck


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.parametrize("half", range(2))
def test_requests_with_faults(half):
    tally = Part("requests", SEED, half * 8, (half + 1) * 8).run()
    assert tally.complaints == []
    assert (tally.counts["requests"], tally.counts["requests over sockets"]) == (1024, 128)
    assert {"status: 200", "status: 400", "status: 503", "status: none"} <= set(tally.counts)


def test_the_same_seed_plans_the_same():
    assert wave(1, 7) == wave(1, 7) != wave(2, 7)
    assert request_wave(1, 7) == request_wave(1, 7) != request_wave(2, 7)


def complaints(waves=range(8)):
    running, tally = Streams(), Tally()
    for number in waves:
        running.wave(SEED, number, tally)
    running.close()
    return "\n".join(tally.complaints)


def passes_what_cannot_be_judged(reward, requests):
    try:
        return score_checked(reward, requests)
    except ScoringError:
        return [Reward(1.0)] * len(requests)


def test_a_guard_that_takes_an_outage_for_a_pass_is_found_out(monkeypatch):
    monkeypatch.setattr("stars_guard.loop.rounds.score_checked", passes_what_cannot_be_judged)
    assert "in answer" in complaints(range(20))


def test_a_guard_that_accepts_everything_is_found_out(monkeypatch):
    monkeypatch.setattr(Run, "_probability", lambda *_: 1.0)
    assert "~b" in complaints()


def test_a_guard_that_mixes_up_rewards_is_found_out(monkeypatch):
    score = FaultyReward.score
    monkeypatch.setattr(FaultyReward, "score", lambda self, requests: list(score(self, requests))[::-1])
    assert "~b" in complaints()


def test_a_guard_that_hides_what_it_forced_is_found_out(monkeypatch):
    take = Run._take

    def hides(self, verdict, *rest):
        return take(self, Verdict.ACCEPTED, *rest)

    monkeypatch.setattr(Run, "_take", hides)
    assert "without a word that it was forced" in complaints(range(20))


def test_sessions_that_stay_open_are_found(monkeypatch):
    monkeypatch.setattr(streams, "PATIENCE", 0.01)
    monkeypatch.setattr(Sessions, "close", lambda self: iter(()))
    assert "sessions that are not closed" in complaints(range(2))


def test_runs_that_a_reward_is_not_told_to_forget_are_found(monkeypatch):
    monkeypatch.setattr(streams, "PATIENCE", 0.01)
    monkeypatch.setattr(FaultyReward, "release", lambda *_: None)
    assert "runs that the reward still knows" in complaints(range(2))


def shown(text, number=1):
    seen = Shown(number)
    seen.texts[Channel.ANSWER] = text
    return seen


def test_the_ledger_knows_stream_channel_and_every_character():
    ledger, good, other = Ledger(poor_may_be_accepted=False), new_mark("g"), new_mark("g")
    ledger.passed(1, Channel.ANSWER, good)
    ledger.passed(1, Channel.REASONING, other)
    assert ledger.complaints(shown(f"{good}{good[:-1]}")) == []
    assert ledger.complaints(shown(f"{good}\n\n{REFUSAL}")) == []
    assert ledger.complaints(shown(good, number=2))
    assert ledger.complaints(shown(other))
    assert ledger.complaints(shown(f"{good}x"))
    assert ledger.complaints(Shown(1, other=f"...{new_mark('b')}"))
    assert ledger.complaints(Shown(1, error=ValueError(good)))
