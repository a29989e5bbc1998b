"""Forced text is marked in events, in both kinds of stream and in the result, whatever holds it back."""

from __future__ import annotations

import pickle

import pytest

from stars_guard import Best, Called, GuardConfig, Last, Piece, Refuse, StreamedText
from stars_guard.algorithm.escalation import Backtrack
from stars_guard.algorithm.trace import Verdict
from stars_guard.prompts import Prompt, Tools
from stars_guard.rewards.function import FunctionReward
from stars_guard.shadow import shadowed
from tests.support.guards import guarded, hard

FORCED = [["good "], ["bad "], ["fine "], ["bad again"]]
REJECTED = ("bad", "again", "EN", "use f")
TEXT = "good bad fine bad again"
MARKS = [("good ", False), ("bad ", True), ("fine ", False), ("bad again", True)]


def forcing(script=FORCED, **changes):
    reward = FunctionReward(lambda _, text: -1.0 if text.rstrip().endswith(REJECTED) else 1.0)
    return guarded(script, reward, hard(max_attempts=2, exhaustion=Last(), floor=-9.0, **changes))


def marks(pieces):
    return [(piece.text, piece.forced) for piece in pieces if isinstance(piece, Piece)]


def test_events_say_of_each_piece_whether_it_was_forced():
    with forcing().stream("hi") as stream:
        assert marks(stream.events()) == MARKS
    assert stream.result.forced == 2


def test_pieces_of_a_stream_are_texts_that_know_it():
    with forcing().stream("hi") as stream:
        pieces = list(stream)
    assert [(str(piece), piece.forced) for piece in pieces] == MARKS
    assert "".join(pieces) == stream.result.text == TEXT
    assert isinstance(pieces[0], str)
    assert pieces[0] == "good "
    copied = pickle.loads(pickle.dumps(pieces[1]))
    assert (type(copied), copied, copied.forced) == (StreamedText, "bad ", True)


async def test_pieces_for_tasks_know_it_too():
    async with forcing().astream("hi") as stream:
        assert [(str(piece), piece.forced) async for piece in stream] == MARKS


def test_the_result_says_where_the_forced_text_is():
    result = forcing().generate("hi")
    assert [result.text[start:end] for start, end in result.forced_text.answer] == ["bad ", "bad again"]
    assert result.summary["forced_text"] == {"answer": [[5, 9], [14, 23]]}
    assert result.forced_text


def test_an_answer_without_forced_text_says_nothing_of_it():
    result = forcing([["good "], ["fine"]]).generate("hi")
    assert not result.forced_text
    assert "forced_text" not in result.summary


def test_what_a_stop_string_holds_back_keeps_its_mark():
    script = [["good EN"], ["TER"]]
    llm = forcing(script)
    sampling = llm.sampling.changed(stop="END")
    with llm.stream("hi", sampling=sampling) as stream:
        assert marks(stream.events()) == [("good ", True), ("EN", True), ("TER", False)]


def test_a_refusal_text_is_not_forced_text():
    config = hard(max_attempts=1, exhaustion=Refuse(), refusal_text="No.")
    with guarded([["good "], ["bad"]], config=config).stream("hi") as stream:
        assert marks(stream.events()) == [("good ", False), ("\n\nNo.", False)]


def test_withdrawn_text_leaves_no_mark_and_what_is_kept_keeps_its_own():
    # The forced second segment is withdrawn when the third finds nothing; the second try is earned.
    script = [["one "], ["bad "], ["bad"], ["two "], ["bad again"]]
    llm = forcing(script, escalation=(Backtrack(segments=1, most=1),))
    with llm.stream("hi") as stream:
        shown = marks(stream.events())
    verdicts = [segment.verdict for segment in stream.result.trace.segments]
    assert Verdict.WITHDRAWN in verdicts
    assert "".join(text for text, _ in shown) == stream.result.text
    for text, forced in shown:
        assert forced == ("bad" in text)


F = Tools(({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},))
CALL = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'


def test_a_forced_call_is_marked():
    with forcing([["good "], [CALL]]).stream(Prompt.of("hi", F)) as stream:
        events = [event for event in stream.events() if isinstance(event, Piece | Called)]
    assert [event.forced for event in events] == [False, True]
    assert stream.result.forced_text.calls == (stream.result.tool_calls[0].id,)


def test_shadow_mode_marks_what_a_guard_would_not_have_accepted():
    llm = forcing()
    with llm.stream("hi", config=shadowed(llm.config)) as stream:
        assert marks(stream.events()) == MARKS


@pytest.mark.parametrize("exhaustion", [Best(floor=-9), Last()])
def test_marks_agree_with_the_trace(exhaustion):
    llm = forcing()
    config = GuardConfig.model_validate({**llm.config.model_dump(), "exhaustion": exhaustion.model_dump()})
    with llm.stream("hi", config=config) as stream:
        shown = marks(stream.events())
    verdicts = [segment.verdict is Verdict.FORCED for segment in stream.result.trace.segments]
    assert [forced for _, forced in shown] == verdicts
