"""The eight endpoints: what they answer, what they cost, and that all of them say the same."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest
from guards import BAD, HARD, guard_of, last_text, scripted, user
from llama_index.core.llms import ChatMessage
from llama_index.core.llms.llm import LLM
from stars_guard import (
    Budget,
    GuardConfig,
    Last,
    NoAcceptableSegment,
    Prompt,
    PromptError,
    Raise,
    Refuse,
    ScoringError,
    Trace,
)
from stars_guard import StarsGuardedLLM as Guard
from stars_guard.models import Order, Proposal
from stars_guard.testing import FailingReward, KeywordReward, ScriptedModel

from llama_index.llms.stars_guard import StarsGuardedLLM

SCRIPT = [["Paris", f"{BAD}"], [f" {BAD}", " is"], [" the capital."]]
TEXT = "Paris is the capital."


async def completed(llm: LLM, prompt: str, **kwargs: Any) -> list[Any]:
    """The last response of each completion endpoint."""
    return [
        llm.complete(prompt, **kwargs),
        list(llm.stream_complete(prompt, **kwargs))[-1],
        await llm.acomplete(prompt, **kwargs),
        [chunk async for chunk in await llm.astream_complete(prompt, **kwargs)][-1],
    ]


async def chatted(llm: LLM, messages: Sequence[ChatMessage], **kwargs: Any) -> list[Any]:
    """The last response of each chat endpoint."""
    return [
        llm.chat(messages, **kwargs),
        list(llm.stream_chat(messages, **kwargs))[-1],
        await llm.achat(messages, **kwargs),
        [chunk async for chunk in await llm.astream_chat(messages, **kwargs)][-1],
    ]


async def test_every_endpoint_says_the_same() -> None:
    llm = scripted(SCRIPT, seed=1)
    assert [answer.text for answer in await completed(llm, "Where?")] == [TEXT] * 4
    assert [answer.message.content for answer in await chatted(llm, user("Where?"))] == [TEXT] * 4


async def test_stream_equals_chat_for_the_same_seed() -> None:
    llm = scripted(SCRIPT, seed=5, include_trace=True)
    first, *others = await chatted(llm, user("Where?"))
    for other in others:
        assert other.message == first.message
        assert other.additional_kwargs == first.additional_kwargs
        assert other.raw["stars"] == first.raw["stars"]
        assert other.raw["trace"]["segments"] == first.raw["trace"]["segments"]
        assert other.raw["trace"]["sampling"] == first.raw["trace"]["sampling"]


def test_chunks_are_cumulative_with_deltas() -> None:
    chunks = list(scripted(SCRIPT).stream_chat(user("Where?")))
    assert [chunk.delta for chunk in chunks] == ["Paris", " is", " the capital.", ""]
    assert [chunk.message.content for chunk in chunks] == ["Paris", "Paris is", TEXT, TEXT]
    assert [chunk.raw is None for chunk in chunks] == [True, True, True, False]
    texts = list(scripted(SCRIPT).stream_complete("Where?"))
    assert [(chunk.text, chunk.delta) for chunk in texts] == [
        ("Paris", "Paris"),
        ("Paris is", " is"),
        (TEXT, " the capital."),
        (TEXT, ""),
    ]


async def test_usage_is_under_the_customary_keys() -> None:
    for response in [
        *await completed(scripted(SCRIPT), "a b c"),
        *await chatted(scripted(SCRIPT), user("a b c")),
    ]:
        tokens = len(TEXT)
        usage = {"prompt_tokens": 3, "completion_tokens": tokens, "total_tokens": 3 + tokens}
        assert response.additional_kwargs == usage
        assert response.raw["usage"].items() >= usage.items()
        assert response.raw["usage"]["proposed_tokens"] > tokens


def test_raw_is_plain_data_with_a_compact_summary() -> None:
    raw = scripted(SCRIPT).chat(user("Where?")).raw
    assert json.loads(json.dumps(raw)) == raw
    assert (raw["model"], raw["stop_reason"]) == ("scripted", "eos")
    assert raw["stars"] == {
        "segments": 3,
        "attempts": 4,
        "forced": 0,
        "escalated": 0,
        "withdrawn": 0,
        "refused": False,
        "guarantee": "token_ids",
        "rewards": [1.0, 1.0, 1.0],
    }
    assert "trace" not in raw


def test_full_trace_on_request() -> None:
    raw = scripted(SCRIPT).chat(user("Where?"), include_trace=True).raw
    trace = Trace.model_validate(raw["trace"])
    assert (trace.run_id, trace.attempts) == (raw["run_id"], 4)
    assert json.loads(json.dumps(raw)) == raw


@pytest.mark.parametrize("stop", ["the", ["zzz", "the"]])
async def test_stop_strings_end_the_answer(stop: Any) -> None:
    llm = scripted(SCRIPT)
    for response in await chatted(llm, user("Where?"), stop=stop):
        assert response.message.content == "Paris is "
        assert response.raw["stop_reason"] == "stop"


async def test_a_refusal_is_an_answer_that_says_so() -> None:
    refusing = HARD.model_copy(update={"exhaustion": Refuse(), "refusal_text": "No."})
    llm = scripted([["Well."], [f" {BAD}"]], guard_config=refusing)
    for response in await chatted(llm, user("Where?")):
        assert response.message.content == "Well.\n\nNo."
        assert response.raw["stop_reason"] == "refused"
        assert response.raw["stars"]["refused"]
        assert response.raw["stars"]["rewards"] == [1.0]
    for completion in await completed(llm, "Where?"):
        assert completion.text == "Well.\n\nNo."


async def test_a_budget_ends_the_answer() -> None:
    llm = scripted(SCRIPT, budget=Budget(max_reward_calls=2))
    for response in await chatted(llm, user("Where?")):
        assert response.raw["stop_reason"] == "reward_budget"
    assert llm.complete("Where?", budget=Budget(max_reward_calls=99)).text == TEXT


async def _awaited(way: Callable[[], Any]) -> None:
    made = way()
    if asyncio.iscoroutine(made):
        await made


async def _each_way(llm: LLM) -> AsyncIterator[Callable[[], Any]]:
    async def drained(make: Any) -> None:
        async for _ in await make:
            pass

    messages = user("Where?")
    yield lambda: llm.chat(messages)
    yield lambda: llm.complete("Where?")
    yield lambda: list(llm.stream_chat(messages))
    yield lambda: list(llm.stream_complete("Where?"))
    yield lambda: llm.achat(messages)
    yield lambda: llm.acomplete("Where?")
    yield lambda: drained(llm.astream_chat(messages))
    yield lambda: drained(llm.astream_complete("Where?"))


@pytest.mark.parametrize(
    ("guard", "error"),
    [
        (guard_of(SCRIPT, FailingReward(OSError("gone"), after=1)), ScoringError),
        (guard_of([[BAD]], config=HARD.model_copy(update={"exhaustion": Raise()})), NoAcceptableSegment),
    ],
)
async def test_errors_come_out_of_every_endpoint(guard: Guard, error: type[Exception]) -> None:
    async for way in _each_way(StarsGuardedLLM(guard=guard)):
        with pytest.raises(error):
            await _awaited(way)


def test_an_empty_conversation_is_an_error() -> None:
    with pytest.raises(PromptError, match="empty"):
        scripted(SCRIPT).chat([])
    with pytest.raises(PromptError, match="empty"):
        scripted(SCRIPT).stream_complete(" ")


def _echo(prompt: Prompt) -> list[list[str]]:
    return [[f"raw:{prompt.text}" if prompt.text else f"chat:{last_text(prompt)}"]]


async def test_a_completion_is_one_user_message_unless_formatted() -> None:
    llm = scripted(_echo)
    assert [answer.text for answer in await completed(llm, "Hi")] == ["chat:Hi"] * 4
    assert [answer.text for answer in await completed(llm, "Hi", formatted=True)] == ["raw:Hi"] * 4


async def test_templates_of_the_users_own_make_raw_prompts() -> None:
    llm = scripted(
        _echo,
        completion_to_prompt=lambda completion: f"<{completion}>",
        messages_to_prompt=lambda messages: "|".join(str(message.content) for message in messages),
    )
    assert [answer.text for answer in await completed(llm, "Hi")] == ["raw:<Hi>"] * 4
    assert llm.complete("Hi", formatted=True).text == "raw:Hi"
    history = [*user("A"), ChatMessage(role="assistant", content="B")]
    assert [answer.message.content for answer in await chatted(llm, history)] == ["raw:A|B"] * 4


class Waiting(ScriptedModel):
    """Proposes only once the event loop has ticked ``ticks`` times since it was asked."""

    ticks = 50

    def __init__(self) -> None:
        super().__init__(SCRIPT)
        self.asked = threading.Event()
        self.ticked = threading.Event()

    def propose(self, orders: Sequence[Order]) -> list[Proposal]:
        self.asked.set()
        if not self.ticked.wait(timeout=20):
            raise TimeoutError("the event loop stood still while the model worked")
        return super().propose(orders)

    async def tick(self) -> int:
        count = 0
        while count < self.ticks:
            await asyncio.sleep(0.001)
            count += self.asked.is_set()
        self.ticked.set()
        return count


@pytest.mark.parametrize("endpoint", ["achat", "acomplete", "astream_chat", "astream_complete"])
async def test_the_event_loop_keeps_ticking(endpoint: str) -> None:
    model = Waiting()
    llm = StarsGuardedLLM(guard=Guard(model, KeywordReward([BAD]), HARD))
    ticker = asyncio.create_task(model.tick())
    made = await getattr(llm, endpoint)(user("Where?") if "chat" in endpoint else "Where?")
    if "stream" in endpoint:
        made = [chunk async for chunk in made][-1]
    assert await ticker == model.ticks
    assert str(made).removeprefix("assistant: ") == TEXT


def test_closing_a_stream_stops_the_model() -> None:
    model = ScriptedModel([["One."], ["Two."], ["Three."]])
    llm = StarsGuardedLLM(guard=Guard(model, KeywordReward([BAD]), HARD))
    stream = llm.stream_chat(user("Count."))
    assert next(stream).delta == "One."
    stream.close()
    assert model.sessions[0].closed
    assert model.sessions[0].text != "One.Two.Three."


def test_a_stream_is_not_begun_before_it_is_read() -> None:
    model = ScriptedModel(SCRIPT)
    llm = StarsGuardedLLM(guard=Guard(model, KeywordReward([BAD]), HARD))
    stream = llm.stream_chat(user("Where?"))
    assert model.sessions == []
    assert list(stream)[-1].message.content == TEXT


def test_reasoning_becomes_a_thinking_block() -> None:
    llm = scripted([["<think>Hm, where"], [" is it?</think>"], [TEXT]])
    response = llm.chat(user("Where?"))
    assert [block.block_type for block in response.message.blocks] == ["thinking", "text"]
    assert response.message.blocks[0].content == "Hm, where is it?"
    assert response.message.content == TEXT
    chunks = list(llm.stream_chat(user("Where?")))
    assert (
        "".join(chunk.additional_kwargs.get("thinking_delta", "") for chunk in chunks) == "Hm, where is it?"
    )
    assert "".join(chunk.delta for chunk in chunks) == TEXT
    assert chunks[-1].message == response.message
    assert [chunk.text for chunk in llm.stream_complete("Where?")][-1] == TEXT


def test_channels_have_rewards_of_their_own() -> None:
    class Strict(KeywordReward):
        def _value(self, text: str) -> float:
            return 0.0 if "maybe" in text else 1.0

    from stars_guard import ByChannel

    reward = ByChannel(KeywordReward([BAD]), reasoning=Strict([]))
    script = [["<think>maybe so", "<think>surely so"], ["</think>"], ["maybe."]]
    response = StarsGuardedLLM(guard=guard_of(script, reward)).chat(user("Is it?"))
    assert response.message.blocks[0].content == "surely so"
    assert response.message.content == "maybe."


def test_rate_limiter_and_config_of_a_call_are_honoured() -> None:
    class Counting:
        count = 0

        def acquire(self) -> None:
            self.count += 1

    limiter = Counting()
    llm = scripted(SCRIPT, rate_limiter=limiter)
    assert llm.complete("Where?", guard_config=GuardConfig(threshold=HARD.threshold)).text
    assert limiter.count == 1


FORCING = HARD.model_copy(update={"exhaustion": Last(), "floor": -9.0, "max_attempts": 2})


async def test_forced_text_is_marked_in_chunks_and_in_whole_answers() -> None:
    llm = StarsGuardedLLM(guard=guard_of([["Paris "], [BAD]], config=FORCING))
    marks = [("Paris ", False), (BAD, True)]
    chatted_chunks = [
        list(llm.stream_chat(user("Where?"))),
        [chunk async for chunk in await llm.astream_chat(user("Where?"))],
    ]
    completed_chunks = [
        list(llm.stream_complete("Where?")),
        [chunk async for chunk in await llm.astream_complete("Where?")],
    ]
    for *chunks, last in [*chatted_chunks, *completed_chunks]:
        assert [(chunk.delta, "forced" in chunk.additional_kwargs) for chunk in chunks] == marks
        assert last.additional_kwargs["forced"] is True
        assert last.raw["stars"]["forced_text"] == {"answer": [[6, 6 + len(BAD)]]}
    for whole in [*await completed(llm, "Where?"), *await chatted(llm, user("Where?"))]:
        assert whole.additional_kwargs["forced"] is True


async def test_advice_on_the_settings_is_in_the_metadata() -> None:
    llm = StarsGuardedLLM(guard=guard_of([["Paris "], [BAD], [BAD]], config=FORCING))
    whole = [*await completed(llm, "Where?"), *await chatted(llm, user("Where?"))]
    last = [list(llm.stream_chat(user("Where?")))[-1], list(llm.stream_complete("Where?"))[-1]]
    for answer in [*whole, *last]:
        assert json.loads(json.dumps(answer.raw)) == answer.raw
        advice = answer.raw["stars"]["advice"]
        assert (advice["exhausted"], advice["decided"]) == (2, 3)
        assert "stars-guard calibrate" in advice["message"]


async def test_forced_reasoning_is_marked_in_chats_only() -> None:
    llm = StarsGuardedLLM(guard=guard_of([[f"<think>{BAD}</think>"]], config=FORCING))
    first, _ = list(llm.stream_chat(user("Where?")))
    assert first.additional_kwargs == {"thinking_delta": BAD, "forced": True}
    assert "forced" not in llm.complete("Where?").additional_kwargs
