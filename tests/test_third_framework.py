"""An adapter for a framework that does not exist needs the top level and the kit, and nothing else."""

from __future__ import annotations

import copy
import inspect
import pickle
import threading

import pytest

import stars_guard
from stars_guard import ConfigurationError, Constant, GuardConfig, Hard, Refuse, StarsGuardedLLM
from stars_guard.testing import KeywordReward, ScriptedModel
from tests.support import third_framework
from tests.support.third_framework import ThirdModel
from tests.test_border import imports

STRICT = GuardConfig(threshold=Constant(target=1.0), acceptance=Hard(), max_attempts=2, exhaustion=Refuse())
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
ADD = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}


def guard(script):
    return StarsGuardedLLM(ScriptedModel(script), KeywordReward(["poison"]), STRICT)


def model(script, **settings):
    return ThirdModel(guard=guard(script), **settings)


def test_the_adapter_is_short_and_imports_the_top_level_and_the_kit():
    source = inspect.getsource(third_framework)
    assert len(source.splitlines()) <= 60
    assert {module for module, _ in imports(source)} == {"stars_guard"}
    assert {name for _, name in imports(source)} <= {"adapters", *stars_guard.__all__}


def test_an_answer_says_how_it_ended_and_what_it_cost():
    answer = model([["Sure, poison.", "Try tea."]]).ask([("human", "Help"), ("human", "me.")])
    assert (answer["text"], answer["finish"]) == ("Try tea.", "stop")
    assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 8, "total_tokens": 10}
    assert (answer["guard"]["attempts"], answer["guard"]["refused"]) == (2, False)
    assert "trace" not in answer["guard"]


def test_a_stream_shows_accepted_pieces_and_every_decision():
    *events, (_, last) = model([["Well, "], ["take poison.", "try tea."]]).stream([("human", "Help me.")])
    assert [data for kind, data in events if kind == "text"] == ["Well, ", "try tea."]
    decisions = [data for kind, data in events if kind == "decision"]
    assert [decision["verdict"] for decision in decisions] == ["accepted", "open", "accepted"]
    assert decisions[1]["attempt"]["reward"] == -1.0
    assert not any("poison" in str(decision) for decision in decisions)
    assert last["text"] == "Well, try tea."


def test_a_refusal_has_its_own_word():
    assert model([["poison"]]).ask([("human", "Help me.")])["finish"] == "content_filter"


def test_tools_are_offered_called_and_remembered():
    third = model([[CALL]])
    answer = third.ask([("human", "1 + 1?")], tools=[ADD], tool_choice={"name": "add"})
    assert answer["finish"] == "tool_calls"
    (call,) = answer["calls"]
    assert call["function"] == {"name": "add", "arguments": '{"a": 1}'}
    third.ask([("human", "1 + 1?"), ("bot", "", [call]), ("human", "Again.")], tools=[ADD])
    first, second = third.settings.loaded().model.sessions
    assert first.prompt.tools.choice == "add"
    assert second.prompt.messages[1]["tool_calls"][0]["function"]["arguments"] == {"a": 1}
    with pytest.raises(ConfigurationError, match="tool_choice, of type int, is not understood"):
        third.ask([("human", "1 + 1?")], tools=[ADD], tool_choice=3)


def test_a_setting_may_hold_for_one_call():
    third = model([["One two three."]], stop="three", seed=1)
    assert third.ask([("human", "Count.")])["text"] == "One two "
    changed = third.ask([("human", "Count.")], stop="two", target=0.5, include_trace=True)
    assert changed["text"] == "One "
    assert changed["guard"]["trace"]["config"]["threshold"]["target"] == 0.5
    assert changed["guard"]["trace"]["sampling"]["seed"] == 1
    with pytest.raises(
        ConfigurationError, match=r"unknown call option sead; this model takes: .*seed.*tools"
    ):
        third.ask([("human", "Count.")], sead=2)
    with pytest.raises(ConfigurationError, match="max_tokens=0"):
        third.ask([("human", "Count.")], max_tokens=0)


async def test_weights_load_late_once_and_beside_the_event_loop(monkeypatch):
    threads = []

    def shared(*_, **__):
        threads.append(threading.current_thread())
        return guard([["Loaded."]])

    monkeypatch.setattr(StarsGuardedLLM, "shared", shared)
    third = ThirdModel(model="a/model", reward="a/reward", guard_config=STRICT)
    again = pickle.loads(pickle.dumps(third))
    assert threads == []
    assert (await third.aask([("human", "Hi")]))["text"] == "Loaded."
    assert copy.deepcopy(third).ask([("human", "Hi")])["text"] == "Loaded."
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()
    again.ask([("human", "Hi")])
    assert len(threads) == 2
