"""Callbacks, token counters and instrumentation events; and that none of them ever sees rejected text."""

from __future__ import annotations

import io
import logging
from typing import Any

import pytest
from guards import BAD, HARD, recorded, scripted, tools, user
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler, TokenCountingHandler
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.instrumentation.events.llm import (
    LLMChatEndEvent,
    LLMChatInProgressEvent,
    LLMChatStartEvent,
    LLMCompletionEndEvent,
    LLMCompletionStartEvent,
)
from stars_guard import Last, Trace

from llama_index.llms.stars_guard import GuardedAnswerEvent, SegmentJudgedEvent

SCRIPT = [[f"Say {BAD}", "Say"], [f" {BAD}.", " no."]]


async def _every_endpoint(llm: Any, **kwargs: Any) -> list[Any]:
    """Every response of every endpoint, chunks included."""
    messages = user("Say it.")
    seen: list[Any] = [llm.chat(messages, **kwargs), await llm.achat(messages, **kwargs)]
    seen += [llm.complete("Say it."), await llm.acomplete("Say it.")]
    seen += [*llm.stream_chat(messages, **kwargs), *llm.stream_complete("Say it.")]
    seen += [chunk async for chunk in await llm.astream_chat(messages, **kwargs)]
    seen += [chunk async for chunk in await llm.astream_complete("Say it.")]
    return seen


def test_one_event_per_decision_and_one_per_answer() -> None:
    with recorded() as seen:
        response = scripted(SCRIPT, seed=1).chat(user("Say it."))
    decisions = seen.of(SegmentJudgedEvent)
    assert [
        (decision.segment, decision.attempt, decision.accepted, decision.verdict) for decision in decisions
    ] == [
        (0, 0, False, "open"),
        (0, 1, True, "accepted"),
        (1, 0, False, "open"),
        (1, 1, True, "accepted"),
    ]
    assert [(decision.reward, decision.threshold, decision.probability) for decision in decisions[:2]] == [
        (-1.0, 1.0, 0.0),
        (1.0, 1.0, 1.0),
    ]
    assert [decision.chosen for decision in decisions] == [None, 1, None, 1]
    assert {decision.channel for decision in decisions} == {"answer"}
    assert decisions[1].tokens == len("Say")
    (answer,) = seen.of(GuardedAnswerEvent)
    trace = Trace.model_validate(answer.trace)
    assert (answer.stop_reason, trace.run_id) == ("eos", response.raw["run_id"])
    assert decisions[0].model_dump()["class_name"] == "StarsGuardSegmentJudgedEvent"
    assert answer.model_dump()["class_name"] == "StarsGuardGuardedAnswerEvent"


async def test_every_endpoint_tells_of_its_decisions_within_its_span() -> None:
    with recorded() as seen:
        await _every_endpoint(scripted(SCRIPT))
    assert len(seen.of(SegmentJudgedEvent)) == 8 * 4
    assert len(seen.of(GuardedAnswerEvent)) == 8
    starts = [*seen.of(LLMChatStartEvent), *seen.of(LLMCompletionStartEvent)]
    spans = {event.span_id for event in starts}
    assert len(spans) == 8
    assert {decision.span_id for decision in seen.of(SegmentJudgedEvent)} == spans
    assert {event.span_id for event in seen.of(GuardedAnswerEvent)} == spans


async def test_events_of_the_framework_are_there() -> None:
    with recorded() as seen:
        await _every_endpoint(scripted(SCRIPT))
    assert len(seen.of(LLMChatEndEvent)) == 4
    assert len(seen.of(LLMCompletionEndEvent)) == 4
    assert [event.response.delta for event in seen.of(LLMChatInProgressEvent)] == ["Say", " no.", ""] * 2
    ended = seen.of(LLMChatEndEvent)
    assert all(event.response.raw["stars"]["segments"] == 2 for event in ended)


async def test_token_counters_see_the_usage() -> None:
    counter = TokenCountingHandler(tokenizer=str.split)
    llm = scripted(SCRIPT, callback_manager=CallbackManager([counter]))
    responses = [response for response in await _every_endpoint(llm) if response.raw]
    assert len(responses) == 8
    assert counter.prompt_llm_token_count == sum(
        response.additional_kwargs["prompt_tokens"] for response in responses
    )
    assert counter.completion_llm_token_count == sum(
        response.additional_kwargs["completion_tokens"] for response in responses
    )
    assert counter.completion_llm_token_count == 8 * len("Say no.")


async def test_callback_handlers_get_a_pair_of_events_per_call() -> None:
    handler = LlamaDebugHandler(print_trace_on_end=False)
    await _every_endpoint(scripted(SCRIPT, callback_manager=CallbackManager([handler])))
    pairs = handler.get_llm_inputs_outputs()
    assert len(pairs) == 8
    for start, end in pairs:
        assert EventPayload.SERIALIZED in start.payload
        assert end.payload.keys() & {EventPayload.RESPONSE, EventPayload.COMPLETION}


def test_a_failure_reaches_the_callbacks() -> None:
    handler = LlamaDebugHandler(print_trace_on_end=False)
    llm = scripted(SCRIPT, callback_manager=CallbackManager([handler]))
    with pytest.raises(ValueError, match="empty"):
        llm.chat([])
    (pair,) = handler.get_event_pairs(CBEventType.LLM)
    assert "empty" in str(pair[-1].payload[EventPayload.EXCEPTION])


class _Spy(LlamaDebugHandler):
    """Writes down all that callbacks are told."""

    def __init__(self) -> None:
        super().__init__(print_trace_on_end=False)
        self.told = io.StringIO()

    def on_event_start(self, event_type: CBEventType, payload: Any = None, **kwargs: Any) -> str:
        self.told.write(repr((event_type, payload, kwargs)))
        return str(super().on_event_start(event_type, payload, **kwargs))

    def on_event_end(self, event_type: CBEventType, payload: Any = None, **kwargs: Any) -> None:
        self.told.write(repr((event_type, payload, kwargs)))
        super().on_event_end(event_type, payload, **kwargs)


REJECTED_IN = {
    "answer": [[f"Say {BAD}", "Say"], [f" {BAD}.", " no."]],
    "reasoning": [[f"<think>{BAD}", "<think>hm"], ["</think>"], ["Say no."]],
    "tool arguments": [
        ["Say no."],
        [
            f'<tool_call>\n{{"name": "add", "arguments": {{"a": "{BAD}',
            '<tool_call>\n{"name": "add", "arguments": {"a": "1',
        ],
        ['"}}\n</tool_call>'],
    ],
}


@pytest.mark.parametrize("script", REJECTED_IN.values(), ids=REJECTED_IN.keys())
async def test_rejected_text_is_nowhere(script: Any, caplog: pytest.LogCaptureFixture) -> None:
    spy = _Spy()
    llm = scripted(script, callback_manager=CallbackManager([spy]), include_trace=True)
    with caplog.at_level(logging.DEBUG), recorded() as seen:
        schemas = [tools()[0].metadata.to_openai_tool()]
        responses = await _every_endpoint(llm, tools=schemas)
    decisions = seen.of(SegmentJudgedEvent)
    assert any(not decision.accepted for decision in decisions), "something must have been rejected"
    places = {
        "responses": "".join(response.model_dump_json() for response in responses),
        "events": "".join(repr(event) for event in seen.events),
        "exported events": "".join(str(event.model_dump()) for event in seen.events),
        "callbacks": spy.told.getvalue(),
        "log": caplog.text,
    }
    assert "Say no." in places["responses"]
    assert "Say no." in places["events"]
    assert "Say no." in places["callbacks"]
    for place, text in places.items():
        assert BAD not in text, f"rejected text in {place}"


def test_rejected_text_is_in_the_trace_only_when_kept_on_purpose() -> None:
    kept = scripted(SCRIPT, guard_config=HARD.model_copy(update={"keep_rejected_text": True}))
    response = kept.chat(user("Say it."), include_trace=True)
    assert BAD in str(response.raw["trace"])
    assert BAD not in str(response.raw["stars"])
    assert BAD not in str(response.message)


def test_forced_text_is_counted_as_forced() -> None:
    forcing = HARD.model_copy(update={"exhaustion": Last(), "floor": -1.0, "max_attempts": 2})
    with recorded() as seen:
        response = scripted([[BAD]], guard_config=forcing).chat(user("Say it."))
    assert response.raw["stars"]["forced"] == 1
    assert seen.of(SegmentJudgedEvent)[-1].verdict == "forced"
