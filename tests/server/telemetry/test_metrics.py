"""Metrics of real traffic through the guard: what is counted, under which labels, and that no text is."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request as HttpRequest

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import Budget, SamplingParams
from stars_guard.algorithm.escalation import Backtrack, TemperatureLadder
from stars_guard.algorithm.rules import Last, Raise
from stars_guard.errors import ConfigurationError
from stars_guard.loop.events import Judged
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.server.telemetry.exchange import Outcome
from stars_guard.server.telemetry.instruments import position
from stars_guard.server.telemetry.metrics import Metrics, TimedReward
from stars_guard.server.telemetry.observers import ObservabilitySettings, Observers
from stars_guard.server.telemetry.telemetry import rejudged
from stars_guard.shadow import ShadowReward
from stars_guard.testing import FailingReward, KeywordReward, SelfBatchingModel
from tests.support.observed import (
    CONFIG,
    MARKER,
    SCRIPT,
    BrokenModel,
    Waiting,
    asked,
    end,
    exchange,
    guard,
    serve,
    turned_away,
)

CHAT = {"endpoint": "chat.completions"}


@pytest.fixture
def metrics():
    return Metrics()


def value(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, labels)


async def test_an_answer_is_counted_with_its_decisions_and_tokens(metrics):
    llm = guard(config=CONFIG.changed(drawing=Fixed(candidates=2)))
    ended = await serve(llm, [metrics])
    (result,) = ended.results
    assert value(metrics, "stars_guard_requests_total", outcome="answered", **CHAT) == 1
    assert (
        value(metrics, "stars_guard_candidates_total", position="0", channel="answer", decision="rejected")
        == 1
    )
    assert (
        value(metrics, "stars_guard_candidates_total", position="0", channel="answer", decision="accepted")
        == 1
    )
    assert value(metrics, "stars_guard_segments_total", verdict="accepted") == 2
    assert value(metrics, "stars_guard_segment_attempts_bucket", position="0", le="1.0") == 0
    assert value(metrics, "stars_guard_segment_attempts_bucket", position="0", le="2.0") == 1
    assert value(metrics, "stars_guard_reward_bucket", position="0", le="-1.0") == 1
    assert value(metrics, "stars_guard_reward_bucket", position="0", le="1.0") == 2
    assert value(metrics, "stars_guard_proposed_tokens_total") == result.usage.proposed_tokens
    assert value(metrics, "stars_guard_kept_tokens_total") == result.usage.kept_tokens
    wasted = result.usage.proposed_tokens - result.usage.kept_tokens
    assert value(metrics, "stars_guard_wasted_tokens_total") == wasted > 0
    assert value(metrics, "stars_guard_prompt_tokens_total") == result.usage.prompt_tokens > 0


async def test_times_to_first_token_are_apart(metrics):
    await serve(guard(), [metrics], stream=True)
    assert value(metrics, "stars_guard_delivered_first_token_seconds_count", stream="true") == 1
    assert value(metrics, "stars_guard_delivered_first_token_seconds_count", stream="false") is None
    assert value(metrics, "stars_guard_upstream_first_token_seconds_count") == 1
    assert value(metrics, "stars_guard_queue_wait_seconds_count") == 1
    for phase in ("queued", "prefill", "propose", "score", "guard"):
        assert value(metrics, "stars_guard_answer_phase_seconds_count", phase=phase) == 1


ENDS = {
    "refused": (lambda: guard([["bad"]]), Outcome.REFUSED),
    "exhausted": (lambda: guard([["bad"]], config=CONFIG.changed(exhaustion=Raise())), Outcome.EXHAUSTED),
    "scoring": (lambda: guard(reward=FailingReward(OSError(MARKER))), Outcome.SCORING_ERROR),
    "generation": (
        lambda: rejudged_model(BrokenModel(SCRIPT)),
        Outcome.GENERATION_ERROR,
    ),
}


def rejudged_model(model):
    llm = guard()
    return type(llm)(model, llm.reward, llm.config)


@pytest.mark.parametrize("name", ENDS)
async def test_refusal_exhaustion_and_outages_are_told_apart(metrics, name):
    make, outcome = ENDS[name]
    await serve(make(), [metrics])
    for other in Outcome:
        expected = float(other is outcome)
        assert value(metrics, "stars_guard_requests_total", outcome=other.value, **CHAT) == expected


async def test_a_request_that_is_turned_away_is_counted_and_costs_nothing(metrics):
    turned_away([metrics], endpoint="completions")
    assert value(metrics, "stars_guard_requests_total", endpoint="completions", outcome="rejected") == 1
    assert value(metrics, "stars_guard_proposed_tokens_total") == 0


@pytest.mark.parametrize("outcome", [None, Outcome.CANCELLED, Outcome.TIMED_OUT])
def test_an_end_without_an_outcome_is_an_internal_error(metrics, outcome):
    metrics.ended(exchange(outcome=outcome, endpoint="/secret"))
    named = (outcome or Outcome.INTERNAL_ERROR).value
    assert value(metrics, "stars_guard_requests_total", endpoint="other", outcome=named) == 1


async def test_tokens_of_answers_that_did_not_end_are_counted_as_far_as_they_were_judged(metrics):
    ended = await serve(guard(reward=FailingReward(OSError(), after=1)), [metrics])
    assert ended.results == []
    drawn = len(SCRIPT[0][0])
    assert value(metrics, "stars_guard_proposed_tokens_total") == drawn
    assert value(metrics, "stars_guard_kept_tokens_total") == drawn
    assert value(metrics, "stars_guard_wasted_tokens_total") == 0


async def test_a_choice_that_ended_and_one_that_did_not(metrics):
    llm = guard(reward=FailingReward(OSError(), after=2))
    done = await serve(llm, [])
    failed = exchange(requests=[asked(), asked(seed=8)], results=done.results)
    await serve(guard(reward=FailingReward(OSError(), after=1)), [ForTwo(metrics, failed, done)])
    usage = done.results[0].usage
    assert value(metrics, "stars_guard_proposed_tokens_total") == usage.proposed_tokens + len(SCRIPT[0][0])


class ForTwo:
    """Tells of one request's decisions as those of a second choice of another."""

    def __init__(self, metrics, failed, done):
        self.metrics, self.failed, self.done = metrics, failed, done

    def began(self, _):
        self.metrics.began(self.failed)
        for segment in self.done.results[0].trace.segments:
            for attempt in segment.attempts:
                judged = Judged(segment.index, attempt, segment.verdict, segment.chosen)
                self.metrics.decided(self.failed, 0, judged)

    def admitted(self, _):
        self.metrics.admitted(self.failed)

    def decided(self, _, choice, judged):
        self.metrics.decided(self.failed, 1, judged)

    def ended(self, _):
        self.metrics.ended(self.failed)


async def test_forced_escalated_and_withdrawn_segments(metrics):
    soft = CONFIG.changed(exhaustion=Last(), floor=-1.0)
    await serve(guard([["bad"]], config=soft), [metrics])
    assert value(metrics, "stars_guard_segments_total", verdict="forced") == 1
    ladder = CONFIG.changed(escalation=(TemperatureLadder(after=1),))
    await serve(guard([["bad", "good"]], config=ladder), [metrics])
    assert value(metrics, "stars_guard_escalated_segments_total") == 1
    back = CONFIG.changed(escalation=(Backtrack(segments=1, most=1),), max_attempts=1)
    await serve(guard([["good "], ["bad"], ["better "], ["end"]], config=back), [metrics])
    assert value(metrics, "stars_guard_segments_total", verdict="backtracked") == 1
    assert value(metrics, "stars_guard_withdrawn_segments_total") == 1


async def test_answers_with_advice_are_counted(metrics):
    soft = CONFIG.changed(exhaustion=Last(), floor=-1.0)
    await serve(guard([["good "], ["bad "], ["bad"]], config=soft), [metrics])
    assert value(metrics, "stars_guard_advised_answers_total") == 1
    await serve(guard([["good "], ["good "], ["bad"]], config=soft), [metrics])
    assert value(metrics, "stars_guard_advised_answers_total") == 1


async def test_tokens_drawn_ahead_are_counted(metrics):
    llm = rejudged_model(SelfBatchingModel(guard().model))
    (result,) = (await serve(llm, [metrics])).results
    assert value(metrics, "stars_guard_ahead_tokens_total") == result.usage.ahead_tokens > 0
    assert value(metrics, "stars_guard_ahead_wasted_tokens_total") == result.usage.ahead_wasted_tokens > 0


async def test_what_passed_unjudged_is_in_no_statistic_of_rewards(metrics):
    llm = guard(reward=ShadowReward(FailingReward(OSError())))
    await serve(llm, [metrics], shadow=True)
    assert value(metrics, "stars_guard_unjudged_candidates_total") == 2
    assert value(metrics, "stars_guard_reward_count", position="0") is None


async def test_a_shadow_forces_nothing(metrics):
    await serve(guard(), [metrics], shadow=True)
    assert value(metrics, "stars_guard_segments_total", verdict="forced") == 0
    assert (
        value(metrics, "stars_guard_candidates_total", position="0", channel="answer", decision="rejected")
        == 1
    )


def test_calls_of_the_reward_model_are_measured(metrics):
    timed = TimedReward(KeywordReward(["bad"]), metrics.scored)
    requests = [ScoreRequest(Prompt.of("Hi"), text, finished=True) for text in ("a", "b", "c")]
    assert len(timed.score(requests)) == 3
    timed.release("run")
    assert timed.reward.released == ["run"]
    with pytest.raises(OSError, match="down"):
        TimedReward(FailingReward(OSError("down")), metrics.scored).score(requests[:1])
    assert value(metrics, "stars_guard_reward_call_seconds_count", result="scored") == 1
    assert value(metrics, "stars_guard_reward_call_seconds_count", result="failed") == 1
    assert value(metrics, "stars_guard_reward_call_texts_sum") == 4


async def test_a_guard_can_be_put_around_the_measured_reward(metrics):
    llm = guard(sampling=SamplingParams(seed=3), safer_model=guard().model)
    watched = rejudged(llm, TimedReward(llm.reward, metrics.scored))
    assert watched.loop.rounds.proposers.safer_model is llm.loop.rounds.proposers.safer_model
    assert watched.generate("Hi").text == llm.generate("Hi").text
    assert value(metrics, "stars_guard_reward_call_seconds_count", result="scored") == 3


def test_gauges_show_the_load_and_what_is_served(metrics):
    metrics.watch(Waiting(), guard(), running=32, queued=128, shadow=False)
    assert value(metrics, "stars_guard_queue_depth") == 2
    assert value(metrics, "stars_guard_running_choices") == 3
    assert value(metrics, "stars_guard_queue_limit") == 128
    assert value(metrics, "stars_guard_running_choices_limit") == 32
    (build,) = samples(metrics, "stars_guard_build_info")
    assert build.labels["model"] == "scripted"
    assert build.labels["reward"] == "keywords"
    assert build.labels["guarantee"] == "token_ids"
    assert build.labels["mode"] == "guard"


def test_readiness_is_unknown_until_it_was_asked(metrics):
    assert str(value(metrics, "stars_guard_ready")) == "nan"
    metrics.readiness("the reward model does not score")
    assert value(metrics, "stars_guard_ready") == 0
    metrics.readiness(None)
    assert value(metrics, "stars_guard_ready") == 1


def samples(metrics, name):
    text = metrics.exposition("")[0].decode()
    return [
        sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    ]


async def test_two_servers_in_one_process_count_apart(metrics):
    await serve(guard(), [metrics])
    assert value(Metrics(), "stars_guard_requests_total", outcome="answered", **CHAT) == 0


async def test_the_response_is_in_the_form_that_was_asked_for(metrics):
    def request(accept):
        return HttpRequest({"type": "http", "headers": [(b"accept", accept)]})

    plain = await metrics.response(request(b"*/*"))
    assert plain.headers["content-type"].startswith("text/plain")
    open_metrics = await metrics.response(request(b"application/openmetrics-text; version=1.0.0"))
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
    assert open_metrics.body.endswith(b"# EOF\n")


async def test_nothing_that_users_wrote_is_in_the_metrics(metrics):
    for make, _ in ENDS.values():
        await serve(make(), [metrics], headers={"traceparent": MARKER})
    text = metrics.exposition("")[0].decode()
    assert MARKER not in text
    assert "seed" not in text


async def test_the_number_of_series_does_not_grow_with_traffic(metrics):
    def series():
        return len(metrics.exposition("")[0].splitlines())

    await serve(guard(), [metrics])
    first = series()
    for seed in range(5):
        await serve(guard(), [metrics], [asked(seed=seed)])
    assert series() == first


async def test_a_request_leaves_nothing_behind(metrics):
    await asyncio.gather(*(serve(guard(), [metrics]) for _ in range(3)))
    turned_away([metrics])
    assert metrics._live == {}


@pytest.mark.parametrize(
    ("segment", "name"), [(0, "0"), (3, "3"), (4, "4-7"), (7, "4-7"), (8, "8-15"), (15, "8-15"), (16, "16+")]
)
def test_positions_are_few(segment, name):
    assert position(segment) == name


@pytest.mark.parametrize("buckets", [(), (1.0, 1.0), (2.0, 1.0)])
def test_buckets_of_rewards_must_rise(buckets):
    with pytest.raises(ConfigurationError, match="reward_buckets must rise strictly"):
        ObservabilitySettings(reward_buckets=buckets)


async def test_buckets_of_rewards_are_the_operators():
    metrics = Metrics(ObservabilitySettings(reward_buckets=(0.0,)))
    await serve(guard(), [metrics])
    assert value(metrics, "stars_guard_reward_bucket", position="0", le="0.0") == 1


class Failing:
    """Fails whatever it is told."""

    def _fail(self, *_):
        raise ValueError(MARKER)

    began = admitted = decided = ended = _fail


async def test_an_observer_that_fails_fails_no_request(metrics, caplog):
    ended = await serve(guard(), [Observers([Failing(), metrics])])
    assert ended.outcome is Outcome.ANSWERED
    assert value(metrics, "stars_guard_requests_total", outcome="answered", **CHAT) == 1
    assert "Failing failed: ValueError" in caplog.text
    assert MARKER not in caplog.text


async def test_a_request_that_ended_before_anything_happened(metrics):
    llm = guard(sampling=SamplingParams(seed=1))
    result = llm.generate("Hi", budget=Budget(max_proposed_tokens=1))
    assert result.usage.seconds.first_candidates is None
    ended = exchange(outcome=Outcome.TIMED_OUT, results=[result])
    metrics.admitted(ended)
    end(ended, [metrics])
    assert value(metrics, "stars_guard_upstream_first_token_seconds_count") == 0
    assert value(metrics, "stars_guard_queue_wait_seconds_count") == 0
    assert value(metrics, "stars_guard_requests_total", outcome="timed_out", **CHAT) == 1
