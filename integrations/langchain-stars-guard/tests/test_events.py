"""Custom events reach callback handlers on every path, under the run of the model call."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from langchain_stars_guard import DECISION_EVENT, TRACE_EVENT, ChatStarsGuardedLLM, StarsGuardedLLM

from .handlers import AsyncRecorder, Recorder
from .scripted import guard

SCRIPT = (("bad one", "good one"), (" and two",))


def _check(recorder: Recorder | AsyncRecorder) -> None:
    names = [name for name, _, _ in recorder.events]
    assert names == [DECISION_EVENT] * 3 + [TRACE_EVENT]
    decisions = [data for _, data, _ in recorder.events[:3]]
    assert [
        (decision["segment"], decision["attempt"]["accepted"], decision["verdict"]) for decision in decisions
    ] == [
        (0, False, "open"),
        (0, True, "accepted"),
        (1, True, "accepted"),
    ]
    assert all("text" not in decision["attempt"] for decision in decisions)
    trace = recorder.events[3][1]["trace"]
    assert [segment["chosen"] for segment in trace["segments"]] == [1, 0]
    assert {run_id for _, _, run_id in recorder.events} == set(recorder.runs)
    json.dumps([data for _, data, _ in recorder.events])


def _models() -> list[Any]:
    return [
        ChatStarsGuardedLLM(guard=guard(SCRIPT, "bad")),
        ChatStarsGuardedLLM(guard=guard(SCRIPT, "bad"), streaming=True),
        StarsGuardedLLM(guard=guard(SCRIPT, "bad")),
    ]


models = pytest.mark.parametrize("model", _models(), ids=["chat", "streaming", "text"])


@models
def test_invoke(model):
    recorder = Recorder()
    model.invoke("hi", config={"callbacks": [recorder]})
    _check(recorder)


@models
def test_stream(model):
    recorder = Recorder()
    list(model.stream("hi", config={"callbacks": [recorder]}))
    _check(recorder)


@models
async def test_ainvoke(model):
    recorder = AsyncRecorder()
    await model.ainvoke("hi", config={"callbacks": [recorder]})
    _check(recorder)


@models
async def test_astream(model):
    recorder = AsyncRecorder()
    async for _ in model.astream("hi", config={"callbacks": [recorder]}):
        pass
    _check(recorder)


def test_stream_events():
    recorder = Recorder()
    model = ChatStarsGuardedLLM(guard=guard(SCRIPT, "bad"))
    stream = model.stream_events("hi", config={"callbacks": [recorder]}, version="v3")
    assert stream.output.text == "good one and two"
    _check(recorder)


async def test_astream_events_list_them_between_the_chunks():
    model = ChatStarsGuardedLLM(guard=guard(SCRIPT, "bad"))
    events = [event async for event in model.astream_events("hi", version="v2")]
    shown = [
        event["name"] if event["event"] == "on_custom_event" else event["data"]["chunk"].text
        for event in events
        if event["event"] in ("on_custom_event", "on_chat_model_stream")
    ]
    # The scripted model ends each segment where the guard may show all of it but a trailing space.
    assert "".join(event for event in shown if not event.startswith("stars_guard.")) == "good one and two"
    assert shown.count(DECISION_EVENT) == 3
    assert shown.index(TRACE_EVENT) > max(i for i, event in enumerate(shown) if event == DECISION_EVENT)


@models
def test_callbacks_of_the_model_itself(model):
    recorder = Recorder()
    listening = model.model_copy(update={"callbacks": [recorder]})
    list(listening.stream("hi"))
    listening.invoke("hi")
    assert len(recorder.named(TRACE_EVENT)) == 2
    assert {run_id for _, _, run_id in recorder.events} == set(recorder.runs)


def test_inside_a_chain_the_events_belong_to_the_model_call():
    recorder = Recorder()
    chain = RunnableLambda(lambda text: [("human", text)]) | ChatStarsGuardedLLM(guard=guard(SCRIPT, "bad"))
    list(chain.stream("hi", config={"callbacks": [recorder]}))
    _check(recorder)


def test_without_handlers_there_is_nothing_to_say():
    assert ChatStarsGuardedLLM(guard=guard(SCRIPT, "bad")).invoke("hi").text == "good one and two"


def test_a_stream_leaves_the_context_of_its_reader_alone():
    from langchain_core.runnables.config import var_child_runnable_config

    model = ChatStarsGuardedLLM(guard=guard(SCRIPT, "bad"))
    for _ in model.stream("hi", config={"callbacks": [Recorder()]}):
        assert var_child_runnable_config.get() is None


async def test_an_async_stream_leaves_the_context_of_its_reader_alone():
    from langchain_core.runnables.config import var_child_runnable_config

    model = ChatStarsGuardedLLM(guard=guard(SCRIPT, "bad"))
    async for _ in model.astream("hi", config={"callbacks": [Recorder()]}):
        assert var_child_runnable_config.get() is None
    await model.ainvoke("hi", config={"callbacks": [Recorder()]})
    assert var_child_runnable_config.get() is None


def test_a_batch_of_texts_says_which_prompt_each_event_is_about():
    recorder = Recorder()
    StarsGuardedLLM(guard=guard(SCRIPT, "bad")).generate(["a", "b"], callbacks=[recorder])
    assert [data["prompt"] for data in recorder.named(TRACE_EVENT)] == [0, 1]
    assert [data["prompt"] for data in recorder.named(DECISION_EVENT)] == [0] * 3 + [1] * 3
