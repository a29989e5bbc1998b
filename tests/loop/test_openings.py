"""Openings in the loop: where they stand, what they cost, and refusals that the model writes."""

from __future__ import annotations

import json
import re

import pytest

from stars_guard.algorithm.candidates import AttemptDraws, Fixed
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.escalation import Backtrack, SafetyHint
from stars_guard.algorithm.openings import LONGEST_OPENING, RefusalOpening, WriteRefusal
from stars_guard.algorithm.replay import replay
from stars_guard.algorithm.rules import Best, Refuse
from stars_guard.algorithm.segments import FixedLength
from stars_guard.algorithm.trace import Trace, Verdict
from stars_guard.errors import ConfigurationError, GenerationError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loop.loop import Loop
from stars_guard.loop.openings import is_open_answer
from stars_guard.prompts import Prompt, Tools
from stars_guard.testing import FakeSession, KeywordReward, ScriptedModel, SelfBatchingModel, TabularModel
from stars_guard.text.dialects import HARMONY, HERMES, PLAIN
from stars_guard.text.transcript import Piece
from stars_guard.types import StopReason
from tests.loop.test_rounds import Asked, drive, guard

NO = "No, since"
OPENING = RefusalOpening(after=1, openings=(NO, "Sorry,"))
WRITTEN = WriteRefusal(openings=(NO,), attempts=2)


def answered(script, reward=None, *, batching=False, sampling=None, prompt="hello", **changes):
    parts = {"segments": FixedLength(max_tokens=24), "drawing": Fixed(candidates=1), "max_attempts": 3}
    model = ScriptedModel(script)
    loop = Loop(SelfBatchingModel(model) if batching else model, reward or KeywordReward(["bad"]))
    asked = Asked(
        prompt, guard(**{**parts, "exhaustion": Refuse(), **changes}), **(sampling or {"max_tokens": 90})
    )
    if batching:
        loop.driver.submit(asked.request)
        assert asked.ended.wait(60)
    else:
        drive(loop, asked)
    asked.model = model
    assert all(session.closed for session in model.sessions)
    assert replay(asked.result.trace) == []
    return asked


def proposals(result):
    return [[attempt.proposal for attempt in segment.attempts] for segment in result.trace.segments]


# --- settings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opening", ["", " No", "No ", "x" * (LONGEST_OPENING + 1)])
def test_openings_are_short_and_have_no_blanks_around_them(opening):
    with pytest.raises(ConfigurationError, match="an opening has"):
        RefusalOpening(openings=(opening,))
    with pytest.raises(ConfigurationError, match="openings"):
        WriteRefusal(openings=())


def test_settings_are_read_back_from_json():
    config = guard(escalation=(OPENING,), exhaustion=WRITTEN)
    assert GuardConfig.model_validate_json(config.model_dump_json()) == config
    assert config.openings == (NO, "Sorry,")
    assert guard(exhaustion="write_refusal").exhaustion == WriteRefusal()
    assert guard().openings == ()


def test_attempts_take_the_openings_in_turn():
    draws = AttemptDraws((OPENING, SafetyHint(after=4)), 0.8, 6)
    assert [draws.of(attempt).opening for attempt in range(6)] == [None, NO, "Sorry,", NO, None, None]
    assert [draws.alike(first, 6) for first in range(6)] == [1, 1, 1, 1, 6, 6]
    alike = AttemptDraws((RefusalOpening(after=2, openings=(NO,)),), 0.8, 9)
    assert alike.alike(2, 9) == 9
    assert alike.alike(0, 9) == 2


def test_greedy_takes_each_opening_once():
    draws = AttemptDraws((OPENING,), 0.0, 8)
    assert [draws.of(attempt).opening for attempt in range(draws.count)] == [None, NO, "Sorry,"]
    assert AttemptDraws((OPENING,), 0.0, 2).count == 2
    refusal = WriteRefusal(openings=(NO, "Sorry,"), attempts=5)
    assert AttemptDraws.of_refusal(refusal, 0.0, None).count == 2
    assert AttemptDraws.of_refusal(refusal, 0.0, 0.7).count == 5


class WithoutOpenings:
    name = "plain"

    def start(self, prompt, sampling):
        return FakeSession(prompt, sampling)

    def propose(self, orders):
        raise AssertionError


@pytest.mark.parametrize("changes", [{"escalation": (OPENING,)}, {"exhaustion": WRITTEN}])
def test_a_model_that_takes_no_openings_is_refused(changes):
    with pytest.raises(ConfigurationError, match="plain cannot be made to go on with a text"):
        StarsGuardedLLM(WithoutOpenings(), KeywordReward(["bad"]), guard(**changes))


class PlainScript:
    name = "plain"

    def __init__(self, script):
        model = ScriptedModel(script)
        self.start, self.propose = model.start, model.propose


def test_an_optional_opening_lets_such_a_model_draw_as_usual():
    policy = RefusalOpening(after=1, optional=True)
    model = PlainScript([["bad one", "bad two", "good"]])
    config = guard(escalation=(policy,), max_attempts=3, segments=FixedLength(max_tokens=9))
    result = StarsGuardedLLM(model, KeywordReward(["bad"]), config).generate("hello", max_tokens=9)
    assert result.text == "good"
    assert proposals(result) == [["model", "model", "model"]]
    assert not result.trace.segments[0].takes_openings
    assert replay(result.trace) == []


# --- openings as a retry ------------------------------------------------------------------------------------


def test_an_opening_is_part_of_the_candidate_and_not_of_what_was_drawn():
    asked = answered([["bad bad ", " it hurts."], ["end"]], escalation=(OPENING,))
    result = asked.result
    assert result.text == asked.shown == "No, since it hurts.end"
    assert proposals(result) == [["model", "refusal opening"], ["model"]]
    assert result.usage.proposed_tokens == len("bad bad " + " it hurts." + "end")
    assert result.usage.kept_tokens == len(result.text)
    assert bytes(result.token_ids).decode() == result.text
    assert result.trace.escalated == 1
    put = [attempt.opening_tokens for segment in result.trace.segments for attempt in segment.attempts]
    assert put == [0, len("No, since"), 0]
    assert replay(result.trace) == []
    assert not result.refused
    assert len(asked.model.sessions) == 1  # no prompt is read again


def test_after_text_an_opening_begins_a_paragraph_and_takes_its_turn():
    asked = answered([["one "], ["bad", "bad", " they asked."], ["end"]], escalation=(OPENING,))
    assert asked.result.text == "one \n\nSorry, they asked.end"
    after_a_line = answered([["one\n"], ["bad", " it is."], ["end"]], escalation=(OPENING,))
    assert after_a_line.result.text == "one\nNo, since it is.end"


def test_an_opening_is_judged_like_anything_else():
    reward = KeywordReward(["bad", "no, since"])
    asked = answered([["bad", " a.", " b."], ["end"]], reward, escalation=(OPENING,))
    assert asked.result.text == "Sorry, b.end"
    assert [text.response for text in reward.seen][:3] == ["bad", "No, since a.", "Sorry, b."]


def test_an_opening_leaves_room_for_one_token_at_least():
    room = FixedLength(max_tokens=4)
    asked = answered([["bad", "!"], ["end"]], escalation=(OPENING,), segments=room)
    assert asked.result.text == "No,!end"
    last = answered(
        [["one "], ["#", "x"]],
        KeywordReward(["#"]),
        escalation=(OPENING,),
        segments=room,
        sampling={"max_tokens": 5},
    )
    assert last.result.text == "one x"


def test_the_best_rejected_candidate_may_be_one_with_an_opening():
    reward, parts = KeywordReward(["bad"], good=0.5), {"threshold": 1.0, "floor": 0.0, "exhaustion": Best()}
    asked = answered([["bad", " why."], ["end"]], reward, escalation=(OPENING,), **parts)
    assert asked.result.trace.segments[0].verdict is Verdict.FORCED
    assert asked.result.text.startswith("No, since why.")


def test_the_same_where_the_engine_batches_itself():
    script = [["one "], ["bad", " they asked."], ["end"]]
    alone, lane = (answered(script, batching=batching, escalation=(OPENING,)) for batching in (False, True))
    assert alone.result.text == lane.result.text == "one \n\nNo, since they asked.end"
    assert alone.result.token_ids == lane.result.token_ids


def test_going_back_and_openings_go_together():
    script = [["one "], ["bad"], ["two "], ["bad", " so."], ["end"]]
    policies = (Backtrack(most=1), RefusalOpening(after=1, openings=(NO,)))
    asked = answered(script, escalation=policies, max_attempts=2)
    assert [segment.verdict for segment in asked.result.trace.segments][:3] == [
        "withdrawn",
        "backtracked",
        "accepted",
    ]
    assert asked.result.text == asked.shown


class Stuck(FakeSession):
    def close(self):
        raise RuntimeError("stuck")


def test_an_opened_session_that_cannot_be_closed_keeps_no_answer(caplog):
    class Sticky(ScriptedModel):
        def opened(self, session, text, most):
            branch, opening = super().opened(session, text, most)
            stuck = Stuck(branch.prompt, branch.sampling)
            stuck.__dict__.update(branch.__dict__)
            return stuck, opening

    loop = Loop(Sticky([["bad", " so."], ["end"]]), KeywordReward(["bad"]))
    config = guard(escalation=(OPENING,), segments=FixedLength(max_tokens=24), drawing=Fixed(candidates=1))
    asked = drive(loop, Asked("hello", config, max_tokens=90))
    assert asked.result.text == "No, since so.end"
    assert "a session could not be closed" in caplog.text


def test_an_outage_while_an_opening_is_put_is_an_outage():
    class Broken(ScriptedModel):
        def opened(self, session, text, most):
            raise RuntimeError("no power")

    config = guard(escalation=(OPENING,), drawing=Fixed(candidates=1))
    asked = drive(
        Loop(Broken([["bad"], ["x"]]), KeywordReward(["bad"])), Asked("hello", config, max_tokens=90)
    )
    assert isinstance(asked.error, GenerationError)


# --- where no opening fits ----------------------------------------------------------------------------------

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize(
    ("text", "dialect", "tools", "fits"),
    [
        ("", PLAIN, None, True),
        ("<think>hm", HERMES, None, False),
        ("<think>hm</think>so", HERMES, None, True),
        ('<tool_call>{"na', HERMES, Tools((TOOL,)), False),
        ("", HERMES, Tools((TOOL,), choice="any"), False),
        ("", HARMONY, None, False),
        ("<|channel|>final<|message|>so", HARMONY, None, True),
    ],
)
def test_openings_stand_in_the_answer_only(text, dialect, tools, fits):
    assert is_open_answer(text, dialect, tools) == fits


def test_within_reasoning_the_model_draws_as_usual():
    script = [["<think>hm "], ["bad", "fine</think>"], ["bad", " so."], ["end"]]
    result = answered(script, escalation=(OPENING,)).result
    assert proposals(result)[1:3] == [["model", "model"], ["model", "refusal opening"]]
    assert [segment.takes_openings for segment in result.trace.segments] == [True, False, True, True]
    assert result.text == "No, since so.end"


@pytest.mark.parametrize("stop", ["since", "\n\nNo", "\n"])
def test_no_opening_makes_a_stop_string(stop):
    script = [["one "], ["bad", "two "], ["end"]]
    result = answered(script, escalation=(OPENING,), sampling={"max_tokens": 90, "stop": (stop,)}).result
    assert result.text == "one two end"
    assert not result.trace.segments[1].takes_openings


def test_a_stop_string_may_begin_in_an_opening():
    sampling = {"max_tokens": 90, "stop": ("since then",)}
    result = answered([["bad", " then"], ["x"]], escalation=(OPENING,), sampling=sampling).result
    assert (result.text, result.stop_reason) == ("No, ", StopReason.STOP)


def test_under_a_schema_no_opening_fits():
    sampling = {"max_tokens": 90, "response_schema": "{}"}
    result = answered([["bad", "1"], ["2"]], escalation=(OPENING,), sampling=sampling).result
    assert proposals(result)[0] == ["model", "model"]


def test_a_forged_proposal_does_not_replay():
    trace = answered([["bad", " so."], ["end"]], escalation=(OPENING,)).result.trace
    data = json.loads(trace.model_dump_json())
    data["segments"][0]["attempts"][1]["proposal"] = "model"
    assert replay(Trace.model_validate(data))


# --- refusals that the model writes -------------------------------------------------------------------------

FAILS = [["one "], ["bad"]]


def test_the_model_writes_the_refusal():
    asked = answered(
        [*FAILS, ["bad", " it hurts."], [" Ask me"], [" more."]], exhaustion=WRITTEN, max_attempts=2
    )
    result = asked.result
    assert result.text == asked.shown == "one \n\nNo, since it hurts. Ask me more."
    assert result.refused
    assert result.stop_reason is StopReason.REFUSED
    assert result.refusal == "No, since it hurts. Ask me more."
    assert result.text[: result.refusal_from] == "one "
    verdicts = [segment.verdict.value for segment in result.trace.segments]
    assert verdicts == ["accepted", "declined", "accepted", "accepted", "accepted"]
    assert proposals(result)[1:4] == [["model"] * 2, ["write refusal"] * 2, ["model"]]
    assert result.usage.kept_tokens == len(result.token_ids) == len(result.text)
    drawn = "one " + "bad" * 3 + " it hurts. Ask me more."
    assert result.usage.proposed_tokens == len(drawn)
    pieces = [event for event in asked.events if isinstance(event, Piece)]
    assert "".join(piece.text for piece in pieces if piece.refusal).lstrip() == result.refusal
    assert "".join(piece.text for piece in pieces if not piece.refusal) == "one "
    assert result.summary["refused"] is True


def test_where_that_fails_the_refusal_text_is_shown():
    asked = answered([*FAILS, ["bad"]], exhaustion=WRITTEN, max_attempts=2)
    result = asked.result
    assert result.text == asked.shown == f"one \n\n{result.trace.config.refusal_text}"
    assert [len(segment.attempts) for segment in result.trace.segments] == [1, 2, 2]
    assert result.refusal == result.trace.config.refusal_text
    assert result.trace.segments[-1].verdict is Verdict.REFUSED


def test_a_written_refusal_that_fails_later_ends_with_the_refusal_text():
    result = answered([*FAILS, [" why."], ["bad"]], exhaustion=WRITTEN, max_attempts=2).result
    assert result.refusal == f"No, since why.\n\n{result.trace.config.refusal_text}"
    assert result.refused


def test_a_refusal_may_be_all_that_is_said_and_may_be_cut_off():
    script = [["bad"], [" it hurts so."]]
    result = answered(script, exhaustion=WRITTEN, max_attempts=1).result
    assert (result.text, result.refusal_from) == ("No, since it hurts so.", 0)
    assert re.fullmatch(r"No, since .*", result.refusal)


def test_nothing_of_a_refusal_is_withdrawn():
    script = [["bad"], [" why."], ["bad"]]
    asked = answered(script, exhaustion=WRITTEN, max_attempts=2, escalation=(Backtrack(most=2),))
    verdicts = [segment.verdict.value for segment in asked.result.trace.segments]
    assert verdicts == ["declined", "accepted", "refused"]
    assert asked.result.text == asked.shown


def test_where_no_opening_fits_the_refusal_text_is_shown():
    result = answered([["<think>hm "], ["bad"]], exhaustion=WRITTEN, max_attempts=2).result
    assert result.text == result.trace.config.refusal_text
    assert [segment.verdict.value for segment in result.trace.segments] == ["accepted", "refused"]


def test_an_answer_that_ends_outside_the_rule_is_no_refusal():
    asked = Asked(
        "hello", guard(exhaustion=WRITTEN, max_attempts=1, segments=FixedLength(max_tokens=24)), max_tokens=90
    )
    loop = Loop(ScriptedModel([["bad"], [" why."], ["x"]]), KeywordReward(["bad"]))
    for _ in range(2):
        loop.rounds.step([asked.request])
    asked.request.cancel()
    loop.rounds.step([asked.request])
    assert asked.result.stop_reason is StopReason.CANCELLED
    assert (asked.result.refused, asked.result.refusal, asked.result.refusal_from) == (False, "", None)


def test_all_ways_of_asking_give_the_same():
    def script(prompt: Prompt):
        return [["one "], ["bad"], [" it hurts."], ["end"]]

    config = guard(exhaustion=WRITTEN, max_attempts=2, segments=FixedLength(max_tokens=24))
    llm = StarsGuardedLLM(ScriptedModel(script), KeywordReward(["bad"]), config)
    sampling = SamplingParams(max_tokens=90, seed=3)
    whole = llm.generate("hello", sampling=sampling)
    stream = llm.stream("hello", sampling=sampling)
    assert "".join(stream) == whole.text == stream.result.text == "one \n\nNo, since it hurts.end"
    assert [each.text for each in llm.batch(["hello"] * 2, sampling=[sampling] * 2)] == [whole.text] * 2


def test_a_table_of_laws_goes_on_with_what_it_has_words_for():
    # After "n", which the opening puts there, only "o" can follow.
    model = TabularModel(lambda ids: [0.0, 1.0, 0.0] if ids else [0.0, 0.0, 1.0], ["n", "o", "x"])
    config = guard(max_attempts=2, escalation=(RefusalOpening(after=1, openings=("n",)),))
    llm = StarsGuardedLLM(model, KeywordReward(["x"]), config, sampling=SamplingParams(max_tokens=2, seed=1))
    result = llm.generate("Hi")
    assert (result.text, list(result.token_ids)) == ("no", [0, 1])
    assert [attempt.opening_tokens for attempt in result.trace.segments[0].attempts] == [0, 1]
