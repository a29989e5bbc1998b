"""Answers, decisions and traces as plain data."""

from __future__ import annotations

import json

import pytest

from stars_guard import Budget, Constant, GuardConfig, Hard, Judged, Refuse, ScoringError, StarsGuardedLLM
from stars_guard.adapters import (
    decision_payload,
    finish_word,
    guard_summary,
    token_counts,
    trace_payload,
    unusable,
)
from stars_guard.testing import FailingReward, KeywordReward, ScriptedModel

STRICT = GuardConfig(threshold=Constant(target=1.0), acceptance=Hard(), max_attempts=2, exhaustion=Refuse())
STOPS_ON_ERROR = STRICT.model_copy(update={"on_error": "stop"})


def guard(script, reward=None):
    return StarsGuardedLLM(ScriptedModel(script), reward or KeywordReward(["poison"]), STRICT)


@pytest.mark.parametrize(
    ("script", "reward", "overrides", "word"),
    [
        ([["Hi."]], None, {}, "stop"),
        ([["poison"]], None, {}, "content_filter"),
        ([["One "], ["two."]], None, {"budget": Budget(max_reward_calls=1)}, "length"),
        ([["Hi."]], FailingReward(ValueError("no")), {"config": STOPS_ON_ERROR}, "error"),
    ],
)
def test_the_word_for_an_end(script, reward, overrides, word):
    assert finish_word(guard(script, reward).generate("Hi there", **overrides)) == word


def test_counts_and_summary():
    result = guard([["poison", "Tea."]]).generate("Hi there")
    assert token_counts(result) == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}
    summary = guard_summary(result)
    assert (summary["attempts"], summary["proposed_tokens"]) == (2, result.usage.proposed_tokens)
    assert guard_summary(result, include_trace=True) == {**summary, "trace": trace_payload(result)}
    assert json.loads(json.dumps(trace_payload(result))) == trace_payload(result)


def test_a_decision_is_plain_and_tells_no_text():
    judged: list[Judged] = []
    guard([["poison", "Tea."]]).generate("Hi", on_decision=judged.append)
    payloads = [decision_payload(event) for event in judged]
    assert json.loads(json.dumps(payloads)) == payloads
    assert [(payload["verdict"], payload["chosen"]) for payload in payloads] == [
        ("open", None),
        ("accepted", 1),
    ]
    assert payloads[1]["attempt"]["accepted"]
    assert "text" not in payloads[1]["attempt"]


def test_an_unusable_judgement_is_a_scoring_error_in_the_adapters_own_words():
    with pytest.raises(ScoringError, match=r"^the evaluation is invalid$"):
        unusable("the evaluation is invalid")
