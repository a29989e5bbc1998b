"""The record of decisions, and its file format."""

from __future__ import annotations

import json
import math

import pytest
from pydantic import ValidationError

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.replay import replay
from stars_guard.algorithm.rules import Constant, Hard, Last
from stars_guard.algorithm.run import Run
from stars_guard.algorithm.trace import Trace, Verdict, read_jsonl, write_jsonl
from stars_guard.errors import TraceError
from stars_guard.types import Candidate, Channel, Finish, Reward
from tests.support.traces import trace_of

GOOD, BAD = Reward(1.0, 3, {"harm": 0.25}), Reward(-1.0)


def answered(*, keep_rejected_text=False, script=((BAD, GOOD), (BAD, BAD), (GOOD,))):
    """The trace of an answer of three segments: accepted at the second attempt, forced, accepted at once."""
    config = GuardConfig(
        threshold=Constant(target=0.5),
        acceptance=Hard(),
        max_attempts=2,
        exhaustion=Last(),
        floor=-1.0,
        keep_rejected_text=keep_rejected_text,
    )
    run = Run(config, SamplingParams(seed=5))
    for number, segment in enumerate(script):
        for reward in segment:
            finish = Finish.EOS if number == len(script) - 1 else None
            run.offer(
                Candidate((number, 1), f"unseen-{number}" if reward is BAD else "zürich\u2028", finish),
                reward,
            )
    return trace_of(run)


def test_the_summary_counts_what_happened():
    trace = answered()
    assert [segment.verdict for segment in trace.segments] == [
        Verdict.ACCEPTED,
        Verdict.FORCED,
        Verdict.ACCEPTED,
    ]
    assert trace.forced == 1
    assert trace.attempts == 5
    assert trace.acceptance_rate == pytest.approx(2 / 5)
    assert answered(script=()).acceptance_rate == 1.0


def test_traces_survive_a_file_and_are_appended(tmp_path):
    path = tmp_path / "traces.jsonl"
    first, second = answered(), answered(keep_rejected_text=True)
    write_jsonl(path, [first])
    write_jsonl(path, [second])
    assert len(path.read_text(encoding="utf-8").splitlines()) >= 2
    assert list(read_jsonl(path)) == [first, second]
    assert [replay(trace) for trace in read_jsonl(path)] == [[], []]


def test_rejected_text_is_absent_unless_asked_for():
    assert "unseen" not in answered().model_dump_json()
    assert all(attempt.text is None for segment in answered().segments for attempt in segment.attempts)
    kept = answered(keep_rejected_text=True)
    assert kept.segments[0].attempts[0].text == "unseen-0"
    assert kept.segments[0].attempts[0].text_length == len("unseen-0")


def changed(**values):
    return json.dumps({**json.loads(answered().model_dump_json()), **values})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "not a trace"),
        ("{", "not a trace"),
        ("[]", "not a trace"),
        (changed(version=5), "version=5"),
        (changed(extra=1), "unknown setting 'extra'"),
        (changed(run_id=None), "run_id=None"),
        (changed(config={"threshold": {"kind": "constant"}}), "target: Field required"),
        (changed(stop_reason="bored"), "stop_reason=a text of 5 characters: Input should be 'eos'"),
    ],
    ids=["empty", "cut off", "no object", "version", "extra", "null", "config", "stop reason"],
)
def test_a_line_that_is_no_trace_is_named(tmp_path, line, message):
    path = tmp_path / "traces.jsonl"
    write_jsonl(path, [answered()])
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    traces = read_jsonl(path)
    assert next(traces) == answered()
    with pytest.raises(TraceError, match=message) as caught:
        next(traces)
    assert str(caught.value).startswith(f"{path}:2: not a trace")
    assert "\n" not in str(caught.value)


def test_a_line_that_is_not_even_text_is_named(tmp_path):
    path = tmp_path / "traces.jsonl"
    path.write_bytes(b"\xff\xfe\n")
    with pytest.raises(TraceError, match=r"traces\.jsonl:1"):
        list(read_jsonl(path))


def test_numbers_that_are_not_finite_are_refused():
    with pytest.raises(ValidationError, match="finite"):
        Trace.model_validate({**answered().model_dump(), "base_rewards": {"answer": float("nan")}})


def version_1(**rules):
    """A trace of the time before there was a floor, accepted under what would now be the default floor."""
    config = {
        "threshold": {"kind": "linear_in_tokens", "target": 0.5},
        "acceptance": {"kind": "soft", "beta": 0.1},
    }
    data = json.loads(answered(script=((GOOD,),)).model_dump_json())
    return data | {"version": 1, "config": config | rules}


def test_version_1_means_the_rule_of_its_time():
    channel = {"threshold": {"kind": "linear_in_tokens", "target": 1.0}, "floor": 0.25}
    config = Trace.model_validate(version_1(tools=channel)).config
    assert (config.lowest, config.threshold.horizon, config.final_at_target) == (-math.inf, "request", False)
    assert config.forced_from(Channel.ANSWER) == pytest.approx(0.0)  # five beta under the target
    assert (config.tools.lowest, config.tools.threshold.horizon) == (-math.inf, "request")
    constant = version_1(tools={"threshold": {"kind": "constant", "target": 1.0}, "floor": 0.25})
    assert Trace.model_validate(constant).config.tools.lowest == -math.inf
    refused = version_1(tools=channel, reasoning=None) | {"stop_reason": "refused"}
    assert Trace.model_validate(refused).config.tools.lowest == 0.25
    over = version_1(exhaustion={"kind": "best", "floor": 9.0}, threshold={"kind": "constant", "target": 1.0})
    assert Trace.model_validate(over).config.forced_from(Channel.ANSWER) == 9.0


def test_version_3_says_itself_how_many_candidates_its_rounds_had():
    old = answered()
    segments = [segment.model_copy(update={"candidates": 7}) for segment in old.segments]
    recorded = old.model_copy(update={"segments": segments})
    assert "candidates: recorded 7" in " ".join(replay(recorded))
    loaded = Trace.model_validate(recorded.model_dump() | {"version": 3})
    assert replay(loaded) == []
    assert {segment.candidates for segment in loaded.segments} == {7}


def version_2(*, temperature=0.1, step=0.2):
    """A trace of the time when attempts did not say their temperature, with one rung of a ladder."""
    ladder = {"kind": "temperature_ladder", "after": 1, "step": step}
    config = GuardConfig(
        threshold=Constant(target=0.5), acceptance=Hard(), exhaustion=Last(), floor=-1.0, escalation=(ladder,)
    )
    run = Run(config, SamplingParams(seed=5, temperature=temperature))
    for reward in (BAD, GOOD):
        run.offer(Candidate((1,), "x", Finish.EOS), reward)
    trace = trace_of(run)
    data = json.loads(trace.model_dump_json())
    for attempt in data["segments"][0]["attempts"]:
        del attempt["temperature"]
    del data["config"]["retry_temperature"]
    return data | {"version": 2}


def test_version_2_had_no_retries_and_its_temperatures_follow_from_its_settings():
    trace = Trace.model_validate(version_2())
    assert (trace.version, trace.config.retry_temperature) == (3, None)
    assert [one.temperature for one in trace.segments[0].attempts] == [0.1, 0.1 + 0.2]
    assert replay(trace) == []
    greedy = version_2(temperature=0.0)
    assert [one.temperature for one in Trace.model_validate(greedy).segments[0].attempts] == [0.0, 0.2]


@pytest.mark.parametrize(
    "line",
    [
        {"version": 1},
        {"version": 1, "config": 5},
        version_1(tools=7),
        {"version": 2},
        version_2() | {"config": {}},
        version_2() | {"sampling": {"temperature": "hot"}},
        version_2() | {"segments": [7]},
        version_2() | {"segments": [{"attempts": [7]}]},
    ],
)
def test_a_broken_trace_of_an_earlier_version_is_named(line, tmp_path):
    path = tmp_path / "traces.jsonl"
    path.write_text(json.dumps(line) + "\n")
    with pytest.raises(TraceError, match=r"traces\.jsonl:1: not a trace"):
        list(read_jsonl(path))
