"""Reasoning, answer and tool calls guarded alike, each by its own rules; through the whole core."""

from __future__ import annotations

import pytest

from stars_guard import (
    Best,
    Budget,
    ByChannel,
    Called,
    Channel,
    ChannelRules,
    ConfigurationError,
    Constant,
    FunctionReward,
    GuardConfig,
    Hard,
    InvalidToolCall,
    Judged,
    LinearInTokens,
    Piece,
    Prompt,
    Refuse,
    SamplingParams,
    Soft,
    StarsGuardedLLM,
    StopReason,
    ToolCall,
    Tools,
    replay,
)
from stars_guard.algorithm.candidates import Adaptive, Fixed
from stars_guard.algorithm.run import Run
from stars_guard.testing import KeywordReward, ScriptedModel
from stars_guard.types import Candidate, Reward
from tests.support import guards
from tests.support.guards import hard

MAIL = {
    "type": "function",
    "function": {
        "name": "mail",
        "parameters": {"type": "object", "properties": {"body": {"type": "string"}}},
    },
}
ASKED = Prompt.of("Write to Ann.", Tools((MAIL,)))
HARD = hard(drawing=Fixed(candidates=2), max_attempts=4)


def call(body):
    return '<tool_call>\n{"name": "mail", "arguments": {"body": "' + body + '"}}\n</tool_call>'


def guarded(script, reward=None, config=HARD):
    return guards.guarded(script, reward or KeywordReward(["bomb"]), config)


def test_a_rejected_call_is_drawn_again_and_only_the_accepted_one_is_made():
    llm = guarded([[call("A bomb."), call("Dear Ann.")]])
    result = llm.generate(ASKED, sampling=SamplingParams(seed=1))
    assert [(one.name, one.arguments) for one in result.tool_calls] == [("mail", {"body": "Dear Ann."})]
    (segment,) = result.trace.segments
    assert [(one.channel, one.accepted) for one in segment.attempts] == [("tool", False), ("tool", True)]
    assert replay(result.trace) == []


def test_escapes_do_not_hide_what_a_call_says():
    result = guarded([[call("A b\\u006fmb."), call("Dear Ann.")]]).generate(ASKED)
    assert [one.arguments["body"] for one in result.tool_calls] == ["Dear Ann."]


def test_reasoning_is_guarded_and_given_apart():
    llm = guarded([["<think>A bomb", "<think>Be kind."], ["</think>\n\nHello."]])
    result = llm.generate("Hi")
    assert (result.reasoning, result.text) == ("Be kind.", "Hello.")
    assert [one.channel for one in result.trace.segments[0].attempts] == ["reasoning", "reasoning"]


def test_events_come_in_order_and_calls_only_when_accepted():
    llm = guarded([["<think>Hm."], ["</think>I will "], ["write." + call("Dear")]])
    with llm.stream(ASKED) as stream:
        events = list(stream.events())
    kinds = [
        (type(event).__name__, getattr(event, "channel", None) or getattr(event, "segment", None))
        for event in events
    ]
    assert [kind for kind, _ in kinds] == ["Judged", "Piece", "Judged", "Piece", "Judged", "Piece", "Called"]
    assert [event.text for event in events if isinstance(event, Piece)] == ["Hm.", "I will ", "write."]
    assert [event.call.arguments for event in events if isinstance(event, Called)] == [{"body": "Dear"}]
    assert isinstance(events[0], Judged)
    assert stream.result.text == "I will write."


async def test_the_same_for_tasks():
    llm = guarded([["<think>Hm."], ["</think>Yes." + call("Dear")]])
    async with llm.astream(ASKED) as stream:
        events = [event async for event in stream.events()]
    assert [event.text for event in events if isinstance(event, Piece)] == ["Hm.", "Yes."]
    assert isinstance(events[-1], Called)
    assert [piece async for piece in llm.astream(ASKED)] == ["Yes."]


def test_a_call_that_is_refused_on_the_way_is_not_made():
    halves = call("Dear Ann, a bomb")
    cut = halves.index(", a bomb")
    config = HARD.adjusted(max_attempts=2).model_copy(update={"exhaustion": Refuse()})
    result = guarded([[halves[:cut]], [halves[cut:]], ["never"]], config=config).generate(ASKED)
    assert result.refused
    assert result.tool_calls == ()
    (invalid,) = result.invalid_tool_calls
    assert invalid.error == "the answer ended first (refused)"
    assert "bomb" not in invalid.text


def test_each_channel_has_its_own_rules():
    config = GuardConfig(
        threshold=Constant(target=1.0),
        acceptance=Hard(),
        reasoning=ChannelRules(threshold=Constant(target=-5.0), acceptance=Hard()),
        tools=ChannelRules(threshold=Constant(target=10.0), acceptance=Soft(beta=1.0), floor=3.0),
        segments=HARD.segments,
    )
    reward = ByChannel(
        KeywordReward(["bad"]),
        reasoning=KeywordReward(["bad"], bad=-4.0),
        tool=KeywordReward(["cruel"], good=10.0, bad=2.0),
    )
    script = [["<think>bad idea</think>bad", "<think>bad idea</think>Fine."], [call("cruel"), call("Dear")]]
    result = guarded(script, reward, config).generate(ASKED, sampling=SamplingParams(seed=3))
    assert (result.reasoning, result.text) == ("bad idea", "Fine.")
    assert [one.arguments["body"] for one in result.tool_calls] == ["Dear"]
    first, second = result.trace.segments
    assert [(one.channel, one.threshold) for one in first.attempts] == [("answer", 1.0)] * 2
    assert first.attempts[0].components == {"reasoning": -4.0, "answer": -1.0}
    # The last completes the answer, so that its text is judged once more beside the call.
    assert [one.components.keys() for one in second.attempts] == [{"answer", "tool"}] * 2
    assert (second.attempts[0].channel, second.attempts[0].threshold) == ("tool", 10.0)
    assert replay(result.trace) == []


def test_a_ramp_starts_at_each_channels_own_bare_reward():
    ramp = LinearInTokens(target=4.0)
    seen = []

    class Bare(KeywordReward):
        def score(self, requests):
            seen.extend((request.channel, request.response) for request in requests)
            values = {Channel.ANSWER: 0.0, Channel.REASONING: 1.0, Channel.TOOL: 2.0}
            return [
                Reward(values[request.channel]) if not request.response else Reward(9.0)
                for request in requests
            ]

    config = HARD.model_copy(update={"threshold": ramp, "floor": -9.0})
    result = guarded([["<think>a</think>"], ["b" + call("c")]], Bare([]), config).generate(ASKED)
    assert seen[:3] == [("reasoning", ""), ("answer", ""), ("tool", "")]
    assert result.trace.base_rewards == {"answer": 0.0, "reasoning": 1.0, "tool": 2.0}
    assert replay(result.trace) == []
    incomplete = result.trace.model_copy(update={"base_rewards": {Channel.ANSWER: 0.0}})
    assert "missing (channel" in replay(incomplete)[0]


def run_with(config, **sampling):
    return Run(config, SamplingParams(seed=1, **sampling))


def test_the_least_acceptable_part_decides():
    tools = ChannelRules(threshold=Constant(target=100.0), acceptance=Soft())
    config = HARD.model_copy(update={"acceptance": Soft(beta=1.0), "tools": tools})
    run = run_with(config)
    rewards = [(Channel.ANSWER, Reward(0.5)), (Channel.TOOL, Reward(99.9, components={"x": 1.0}))]
    channel, reward = run.hardest(Candidate((1,), "a"), rewards)
    assert (channel, reward.value) == (Channel.ANSWER, 0.5)
    assert reward.components == {"tool": 99.9, "answer": 0.5}
    channel, reward = run.hardest(
        Candidate((1,), "a"), [rewards[1], (Channel.ANSWER, Reward(2.0, components={"y": 0.0}))]
    )
    assert channel is Channel.TOOL
    assert reward.components == {"x": 1.0, "answer": 2.0, "tool": 99.9}


def test_among_hopeless_parts_the_one_furthest_under_its_target_decides():
    rules = ChannelRules(threshold=Constant(target=50.0), acceptance=Hard())
    run = run_with(HARD.model_copy(update={"tools": rules}))
    rewards = [(Channel.ANSWER, Reward(-1.0)), (Channel.TOOL, Reward(10.0))]
    assert run.hardest(Candidate((1,), "a"), rewards)[0] is Channel.TOOL


def test_the_best_of_several_channels_is_the_least_under_its_target_and_keeps_to_its_floor():
    config = HARD.model_copy(
        update={
            "max_attempts": 2,
            "exhaustion": Best(floor=-9.0),
            "tools": ChannelRules(threshold=Constant(target=50.0), acceptance=Hard(), floor=48.0),
        }
    )
    near, far = Candidate((1,), "near"), Candidate((2,), "far")
    run = run_with(config)
    run.offer(far, Reward(-5.0))
    assert run.offer(near, Reward(49.0), Channel.TOOL).chosen is near
    run = run_with(config)
    run.offer(far, Reward(47.0), Channel.TOOL)
    assert run.offer(near, Reward(-5.0)).chosen is near
    run = run_with(config)
    run.offer(far, Reward(47.0), Channel.TOOL)
    run.offer(near, Reward(-9.5))
    assert run.stop_reason is StopReason.REFUSED


def test_slack_is_for_the_answers_scale_only():
    drawing = Adaptive(slack=2.0, target_rate=0.9)
    config = HARD.model_copy(
        update={"drawing": drawing, "tools": ChannelRules(threshold=Constant(target=1.0))}
    )
    run = run_with(config)
    answer = run.offer(Candidate((1,), "a"), Reward(-9.0)).attempt
    tool = run.offer(Candidate((1,), "a"), Reward(-9.0), Channel.TOOL).attempt
    assert answer.threshold < 1.0
    assert tool.threshold == 1.0


def test_the_reward_budget_counts_every_part():
    script = [["<think>a</think>b"], ["c" + call("d")], ["e"]]
    llm = guarded(script, KeywordReward(["bomb"]), HARD.model_copy(update={"drawing": Fixed(candidates=1)}))
    result = llm.generate(ASKED, budget=Budget(max_reward_calls=3))
    assert result.stop_reason is StopReason.REWARD_BUDGET
    assert result.usage.reward_calls == 2
    assert (result.reasoning, result.text, result.tool_calls) == ("a", "b", ())


def test_a_round_is_judged_as_far_as_the_reward_budget_reaches():
    llm = guarded([["<think>bomb</think>b", "<think>a</think>b"]])
    result = llm.generate(ASKED, budget=Budget(max_reward_calls=3))
    assert result.usage.reward_calls == 2
    assert result.stop_reason is StopReason.REWARD_BUDGET
    (segment,) = result.trace.segments
    assert (len(segment.attempts), segment.drawn) == (1, 2)


def test_invalid_calls_are_in_the_result():
    result = guarded([['<tool_call>{"name": nonsense}</tool_call>']]).generate(ASKED)
    (invalid,) = result.invalid_tool_calls
    assert isinstance(invalid, InvalidToolCall)
    assert result.tool_calls == ()
    assert result.text == '<tool_call>{"name": nonsense}</tool_call>'


def test_what_cannot_be_a_call_is_text_alone():
    result = guarded([["<tool_call>nonsense</tool_call>"]]).generate(ASKED)
    assert (result.text, result.invalid_tool_calls) == ("<tool_call>nonsense</tool_call>", ())


def test_by_channel_scores_each_text_with_its_own_model_in_one_call_each():
    answer, tool = KeywordReward(["a"]), KeywordReward(["t"], good=5.0)
    reward = ByChannel(answer, tool=tool)
    assert reward.name == "answer=keywords, tool=keywords"
    guarded([["x" + call("y")]], reward, HARD).generate(ASKED)
    assert {one.channel for one in answer.seen} == {"answer"}
    assert {one.channel for one in tool.seen} == {"tool"}
    assert len(answer.released) == len(tool.released) == 1
    with pytest.raises(ConfigurationError, match="tool=str: pass a reward model"):
        ByChannel(answer, tool="nope")


def test_a_function_sees_what_a_call_says():
    seen = []
    guarded([[call("Dear")]], FunctionReward(lambda prompt, text: seen.append(text) or 1.0)).generate(ASKED)
    assert seen == ["I will use mail with body: Dear"] * 2


def test_a_script_may_depend_on_the_prompt():
    model = ScriptedModel(lambda prompt: [[f"You said: {prompt.as_text()}"]])
    llm = StarsGuardedLLM(model, KeywordReward([]), HARD)
    assert [one.text for one in llm.batch(["a", "b"])] == ["You said: a", "You said: b"]


def test_calls_have_ids_of_nine_letters_or_digits():
    result = guarded([[call("a") + call("b")]]).generate(ASKED)
    ids = [one.id for one in result.tool_calls]
    assert len(set(ids)) == 2
    assert all(len(one) == 9 and one.isalnum() for one in ids)
    assert isinstance(result.tool_calls[0], ToolCall)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"target": 3.0}, {"threshold": Constant(target=3.0)}),
        ({"beta": 0.25}, {"acceptance": Soft(beta=0.25)}),
        ({"beta": 0}, {"acceptance": Hard()}),
        ({"segment_tokens": 7}, {"segments": HARD.segments.model_copy(update={"max_tokens": 7})}),
        ({"max_attempts": 9}, {"max_attempts": 9}),
        ({}, {}),
    ],
)
def test_adjusted_changes_what_is_given_and_nothing_else(changes, expected):
    assert HARD.adjusted(**changes) == HARD.model_copy(update=expected)


def test_adjusted_checks_what_it_is_given():
    with pytest.raises(ConfigurationError, match="max_attempts=0"):
        HARD.adjusted(max_attempts=0)


@pytest.mark.parametrize("schema", ["[]", "nonsense"])
def test_a_response_schema_must_be_a_json_object(schema):
    with pytest.raises(ConfigurationError, match="response_schema"):
        SamplingParams(response_schema=schema)


def test_a_response_schema_keeps_its_order():
    schema = {"type": "object", "properties": {"b": {}, "a": {}}}
    assert SamplingParams(response_schema=schema).response_schema == str(schema).replace("'", '"')
