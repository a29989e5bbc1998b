"""The text-in, text-out model."""

from __future__ import annotations

import pytest
from langchain_core.messages import HumanMessage
from stars_guard import ConfigurationError, Last

from langchain_stars_guard import StarsGuardedLLM

from .handlers import Recorder
from .scripted import STRICT, guard

SCRIPT = (("bad", "Hello, "), ("you",), (" there.",))


async def test_every_way_to_ask_gives_the_same_text():
    model = StarsGuardedLLM(guard=guard(SCRIPT, "bad"))
    assert model.invoke("hi") == "Hello, you there."
    assert "".join(model.stream("hi")) == "Hello, you there."
    assert await model.ainvoke("hi") == "Hello, you there."
    assert "".join([text async for text in model.astream("hi")]) == "Hello, you there."
    assert model.batch(["a", "b"]) == ["Hello, you there."] * 2
    assert await model.abatch(["a", "b"]) == ["Hello, you there."] * 2
    assert model.batch([]) == []


def test_pieces_stream_and_reach_the_handlers():
    recorder = Recorder()
    model = StarsGuardedLLM(guard=guard(SCRIPT, "bad"))
    pieces = list(model.stream("hi", {"callbacks": [recorder]}))
    assert pieces[-1] == ""
    assert len(pieces) > 2
    assert recorder.tokens == pieces[:-1]


def test_a_batch_is_decoded_together_and_equals_one_at_a_time():
    core = guard(lambda prompt: [[f"You said {prompt.messages[0]['content']}."]])
    assert StarsGuardedLLM(guard=core).batch(["a", "b"]) == ["You said a.", "You said b."]
    assert len(core.model.sessions) == 2


def test_metadata_is_generation_info():
    result = StarsGuardedLLM(guard=guard(SCRIPT, "bad"), include_trace=True).generate(["one two", "three"])
    info = result.generations[0][0].generation_info
    assert info["usage"] == {"input_tokens": 2, "output_tokens": 17, "total_tokens": 19}
    assert info["finish_reason"] == "stop"
    assert info["stars"]["attempts"] == 4
    assert len(info["stars"]["trace"]["segments"]) == 3
    assert result.llm_output == {
        "token_usage": {"prompt_tokens": 3, "completion_tokens": 34, "total_tokens": 37},
        "model_name": "scripted",
    }


def test_the_prompt_is_a_user_message_unless_it_is_to_be_continued():
    core = guard()
    StarsGuardedLLM(guard=core).invoke("Once")
    StarsGuardedLLM(guard=core, chat_template=False).invoke("Once")
    first, second = [session.prompt for session in core.model.sessions]
    assert first.messages == ({"role": "user", "content": "Once"},)
    assert (second.messages, second.text) == ((), "Once")


def test_messages_become_text():
    core = guard()
    StarsGuardedLLM(guard=core).invoke([HumanMessage("hi")])
    assert core.model.sessions[0].prompt.messages[0]["content"] == "Human: hi"


def test_stop_is_taken_per_call():
    assert StarsGuardedLLM(guard=guard(SCRIPT, "bad")).invoke("hi", stop=["you"]) == "Hello, "


def test_reasoning_is_left_out():
    core = guard([["<think>Hm.</think>"], ["Four."]])
    assert StarsGuardedLLM(guard=core).invoke("2 + 2?") == "Four."
    assert "".join(StarsGuardedLLM(guard=core).stream("2 + 2?")) == "Four."


def test_tools_are_none_of_its_business():
    with pytest.raises(ConfigurationError, match="unknown call option tools"):
        StarsGuardedLLM(guard=guard()).invoke("hi", tools=[])


async def test_without_callbacks_of_a_run_it_streams_just_the_same():
    model = StarsGuardedLLM(guard=guard([["<think>Hm.</think>"], ["Four."]]))
    assert [chunk.text for chunk in model._stream("2 + 2?")] == ["Four.", ""]
    assert [chunk.text async for chunk in model._astream("2 + 2?")] == ["Four.", ""]


async def test_forced_text_is_marked_in_chunks_and_in_whole_answers():
    forcing = STRICT.model_copy(update={"exhaustion": Last(), "floor": -9.0})
    model = StarsGuardedLLM(guard=guard([["<think>x</think>"], ["Hello "], ["bad"]], "bad", config=forcing))
    for tokens in [_tokens(model), [chunk async for chunk in _chunks(model)]]:
        assert [(chunk.text, (chunk.generation_info or {}).get("forced")) for chunk in tokens] == [
            ("Hello ", None),
            ("bad", True),
            ("", None),
        ]
        added = tokens[0] + tokens[1] + tokens[2]
        assert added.generation_info["forced"] is True
    (answer,) = model.generate(["hi"]).generations[0]
    assert answer.generation_info["forced"] is True
    thought = StarsGuardedLLM(guard=guard([["<think>bad</think>"]], "bad", config=forcing))
    assert "forced" not in thought.generate(["hi"]).generations[0][0].generation_info


def _tokens(model):
    return list(model._stream("hi"))


def _chunks(model):
    return model._astream("hi")
