"""One answer: text, usage, metadata, stop, reasoning, refusal; whole and in chunks, in threads and tasks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk
from stars_guard import (
    Best,
    GenerationError,
    Last,
    NoAcceptableSegment,
    Raise,
    Refuse,
    SamplingParams,
    ScoringError,
    StarsGuardedLLM,
)
from stars_guard.rewards import FunctionReward
from stars_guard.testing import FailingReward, KeywordReward, ScriptedModel, TabularModel

from langchain_stars_guard import ChatStarsGuardedLLM

from .scripted import STRICT, call, guard, obedient

FORCING = STRICT.model_copy(update={"exhaustion": Last(), "floor": -9.0})
THINKING = (("<think>Let me ", "<think>bad"), ("see.</think>",), ("It is four.",))


def dice(config=STRICT) -> StarsGuardedLLM:
    """Random answers: each token is one of four words, or the end."""
    model = TabularModel(lambda _: [0.3, 0.3, 0.2, 0.1, 0.1], ["red ", "green ", "blue ", "bad ", ""], eos=4)
    return StarsGuardedLLM(
        model,
        KeywordReward(["bad"]),
        config.adjusted(segment_tokens=3),
        sampling=SamplingParams(max_tokens=40),
    )


def forced_then_refused() -> StarsGuardedLLM:
    """Forces text of which a stop string holds back the end, then refuses to go on."""
    reward = FunctionReward(lambda _, text: -9.0 if "evil" in text else -1.0)
    return StarsGuardedLLM(
        ScriptedModel([["Well, EN"], ["evil"]]),
        reward,
        STRICT.model_copy(update={"exhaustion": Best(), "floor": -2.0}),
        sampling=SamplingParams(stop=("END",)),
    )


def added(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return whole


def facts(message: AIMessage) -> dict[str, Any]:
    """What must be the same, whichever way an answer came. Ids of runs and calls are random."""
    return {
        "content": message.content or "",
        "blocks": [{**block, "id": None, "index": None} for block in message.content_blocks],
        "calls": [(call["name"], call["args"]) for call in message.tool_calls],
        "invalid": [(call["name"], call["args"]) for call in message.invalid_tool_calls],
        "additional": message.additional_kwargs,
        "usage": message.usage_metadata,
        "metadata": without_ids(message.response_metadata),
    }


def without_ids(metadata: dict[str, Any]) -> dict[str, Any]:
    """The metadata, with the number of forced calls instead of their ids."""
    stars = metadata["stars"]
    if "calls" not in stars.get("forced_text", {}):
        return metadata
    numbers = {**stars["forced_text"], "calls": len(stars["forced_text"]["calls"])}
    return {**metadata, "stars": {**stars, "forced_text": numbers}}


CASES = {
    "text": guard((("bad", "Hello "), ("there.",)), "bad"),
    "random": dice(),
    "reasoning": guard(THINKING, "bad"),
    "calls": guard([["Wait. " + call("add", a=1)[:20]], [call("add", a=1)[20:] + call("sub", b="é")]]),
    "refused at once": guard([["bad"]], "bad", config=STRICT.model_copy(update={"exhaustion": Refuse()})),
    "refused later": guard(
        [["Well, "], ["bad"]], "bad", config=STRICT.model_copy(update={"exhaustion": Refuse()})
    ),
    "forced": guard([["Hi "], ["bad"]], "bad", config=FORCING),
    "mostly forced": guard([["Well, "], ["bad, "], ["bad."]], "bad", config=FORCING),
    "forced thought": guard([["<think>bad</think>"], ["Hi."]], "bad", config=FORCING),
    "forced call": guard([[call("add", a="bad")], ["Hi."]], "bad", config=FORCING),
    "forced, then refused": forced_then_refused(),
    "cut off call": guard([[call("add", a=1)[:40]]]),
    "obedient": guard(obedient),
}
cases = pytest.mark.parametrize("name", CASES)


@cases
async def test_every_way_to_ask_gives_the_same_answer(name):
    tools = [{"name": tool, "description": "", "parameters": {"type": "object"}} for tool in ("add", "sub")]
    model = ChatStarsGuardedLLM(guard=CASES[name], seed=11).bind_tools(tools)
    expected = facts(model.invoke("hi"))
    assert facts(added(list(model.stream("hi")))) == expected
    assert facts(await model.ainvoke("hi")) == expected
    assert facts(added([chunk async for chunk in model.astream("hi")])) == expected
    assert [facts(answer) for answer in model.batch(["hi", "hi"])] == [expected] * 2
    assert [facts(answer) for answer in await model.abatch(["hi", "hi"])] == [expected] * 2


def test_chunks_with_forced_text_say_so_and_no_others():
    chunks = list(ChatStarsGuardedLLM(guard=CASES["forced"]).stream("hi"))
    assert [(chunk.text, chunk.response_metadata.get("forced")) for chunk in chunks] == [
        ("Hi ", None),
        ("bad", True),
        ("", None),
    ]
    assert added(chunks).response_metadata["forced"] is True
    assert "forced" not in ChatStarsGuardedLLM(guard=CASES["text"]).invoke("hi").response_metadata


def test_advice_on_the_settings_is_in_the_metadata():
    stars = ChatStarsGuardedLLM(guard=CASES["mostly forced"]).invoke("hi").response_metadata["stars"]
    assert (stars["advice"]["exhausted"], stars["advice"]["decided"]) == (2, 3)
    assert "stars-guard calibrate" in stars["advice"]["message"]


def test_a_refusal_after_forced_text_is_not_forced():
    chunks = list(ChatStarsGuardedLLM(guard=CASES["forced, then refused"]).stream("hi"))
    marked = [(chunk.text, chunk.response_metadata.get("forced")) for chunk in chunks]
    assert marked[:2] == [("Well, ", True), ("EN", True)]
    assert not any(forced for _, forced in marked[2:])


def test_pieces_come_as_they_are_accepted_and_only_the_last_chunk_has_metadata():
    chunks = list(ChatStarsGuardedLLM(guard=guard((("bad", "Hello,"), (" you.",)), "bad")).stream("hi"))
    assert [chunk.text for chunk in chunks] == ["Hello,", " you.", ""]
    assert [bool(chunk.response_metadata) for chunk in chunks] == [False, False, True]
    assert [chunk.usage_metadata is None for chunk in chunks] == [True, True, False]
    assert chunks[-1].chunk_position == "last"


def test_metadata_and_usage():
    answer = ChatStarsGuardedLLM(guard=guard((("bad", "ok"), ("!",)), "bad")).invoke("one two three")
    assert answer.usage_metadata == {"input_tokens": 3, "output_tokens": 3, "total_tokens": 6}
    stars = answer.response_metadata.pop("stars")
    assert stars.pop("proposed_tokens") >= 6
    counts = {"segments": 2, "attempts": 3, "forced": 0, "escalated": 0, "withdrawn": 0}
    assert stars == {**counts, "refused": False, "guarantee": "token_ids", "rewards": [1.0, 1.0]}
    assert answer.response_metadata == {
        "model_name": "scripted",
        "model_provider": "stars_guard",
        "stop_reason": "eos",
        "finish_reason": "stop",
    }


def test_the_trace_comes_on_request():
    model = ChatStarsGuardedLLM(guard=guard((("bad", "ok"),), "bad"))
    assert "trace" not in model.invoke("hi").response_metadata["stars"]
    trace = model.invoke("hi", include_trace=True).response_metadata["stars"]["trace"]
    assert [attempt["accepted"] for attempt in trace["segments"][0]["attempts"]] == [False, True]
    always = model.model_copy(update={"include_trace": True})
    assert "trace" in added(list(always.stream("hi"))).response_metadata["stars"]
    assert "trace" not in always.invoke("hi", include_trace=False).response_metadata["stars"]


@pytest.mark.parametrize(
    ("script", "options", "text", "stop_reason", "finish_reason"),
    [
        ([["one two"]], {"stop": ["two"]}, "one ", "stop", "stop"),
        ([["one two"]], {}, "one two", "eos", "stop"),
        ([["bad"]], {}, "I'm sorry, but I can't help with that.", "refused", "content_filter"),
    ],
)
def test_why_it_ended(script, options, text, stop_reason, finish_reason):
    config = STRICT.model_copy(update={"exhaustion": Refuse()})
    answer = ChatStarsGuardedLLM(guard=guard(script, "bad", config=config)).invoke("hi", **options)
    shown = answer.content if isinstance(answer.content, str) else answer.content[-1]["refusal"]
    assert shown == text
    assert answer.response_metadata["stop_reason"] == stop_reason
    assert answer.response_metadata["finish_reason"] == finish_reason


def test_max_tokens_and_temperature_and_seed_are_taken_per_call():
    model = ChatStarsGuardedLLM(guard=dice())
    short = model.invoke("hi", max_tokens=2, seed=4)
    assert short.usage_metadata["output_tokens"] == 2
    assert short.response_metadata["finish_reason"] == "length"
    texts = {model.invoke("hi", seed=seed).text for seed in range(8)}
    assert len(texts) > 1
    assert model.invoke("hi", seed=3).text == model.invoke("hi", seed=3).text
    trace = model.invoke("hi", temperature=0.25, include_trace=True).response_metadata["stars"]["trace"]
    assert trace["sampling"]["temperature"] == 0.25


def test_reasoning_is_kept_apart():
    answer = ChatStarsGuardedLLM(guard=guard(THINKING, "bad")).invoke("2 + 2?")
    assert answer.text == "It is four."
    assert answer.additional_kwargs == {"reasoning_content": "Let me see."}
    assert [block["type"] for block in answer.content_blocks] == ["reasoning", "text"]


def test_reasoning_streams_as_blocks_of_its_own():
    model = ChatStarsGuardedLLM(guard=guard(THINKING, "bad"), output_version="v1")
    whole = added(list(model.stream("2 + 2?")))
    assert [block["type"] for block in whole.content_blocks] == ["reasoning", "text"]
    assert whole.content_blocks[0]["reasoning"] == "Let me see."


def test_a_deadline_keeps_what_was_accepted():
    class Slow(ScriptedModel):
        def propose(self, orders):
            import time

            until = time.monotonic() + 30
            while orders[0].segment and orders[0].alive() and time.monotonic() < until:
                time.sleep(0.005)
            return super().propose(orders)

    core = StarsGuardedLLM(Slow([["One."], [" Two."]]), KeywordReward([]), STRICT)
    # Time enough for the first segment, on a busy machine too.
    answer = ChatStarsGuardedLLM(guard=core, timeout=2).invoke("hi")
    assert answer.text == "One."
    assert answer.response_metadata["stop_reason"] == "deadline"
    assert answer.response_metadata["finish_reason"] == "length"


class Broken(ScriptedModel):
    def propose(self, orders):
        raise RuntimeError("out of memory")


@pytest.mark.parametrize(
    ("core", "error"),
    [
        (StarsGuardedLLM(Broken([["x"]]), KeywordReward([]), STRICT), GenerationError),
        (StarsGuardedLLM(ScriptedModel([["x"]]), FailingReward(OSError("down")), STRICT), ScoringError),
        (
            guard([["bad"]], "bad", config=STRICT.model_copy(update={"exhaustion": Raise()})),
            NoAcceptableSegment,
        ),
    ],
    ids=["generation", "scoring", "exhausted"],
)
async def test_failures_are_errors_of_their_boundary_on_every_path(core, error):
    model = ChatStarsGuardedLLM(guard=core)
    with pytest.raises(error):
        model.invoke("hi")
    with pytest.raises(error):
        list(model.stream("hi"))
    with pytest.raises(error):
        await model.ainvoke("hi")
    with pytest.raises(error):
        async for _ in model.astream("hi"):
            pass


def test_an_outage_may_end_the_answer_instead():
    core = StarsGuardedLLM(
        ScriptedModel([["One."], [" Two."]]),
        FailingReward(OSError("down"), after=1),
        STRICT.model_copy(update={"on_error": "stop"}),
    )
    answer = ChatStarsGuardedLLM(guard=core).invoke("hi")
    assert answer.response_metadata["stop_reason"] == "scoring_error"
    assert answer.response_metadata["finish_reason"] == "error"


def test_a_stream_that_is_left_stops_the_model():
    core = guard([["One."], [" Two."], [" Three."]])
    stream = ChatStarsGuardedLLM(guard=core).stream("hi")
    assert next(stream).text == "One."
    stream.close()
    assert core.model.sessions[0].closed
    assert core.model.sessions[0].text == "One."


async def test_the_event_loop_goes_on_while_the_model_works():
    import threading

    started, go_on = threading.Event(), threading.Event()

    class Waiting(ScriptedModel):
        def propose(self, orders):
            started.set()
            assert go_on.wait(30)
            return super().propose(orders)

    core = StarsGuardedLLM(Waiting([["Done."]]), KeywordReward([]), STRICT)
    answer = asyncio.create_task(ChatStarsGuardedLLM(guard=core).ainvoke("hi"))
    ticks = 0
    while not started.is_set() or ticks < 20:
        await asyncio.sleep(0.001)
        ticks += 1
    assert not answer.done()
    go_on.set()
    assert (await answer).text == "Done."
