"""Forced text is marked to the character, whatever the cuts, marks and stop strings."""

from __future__ import annotations

from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from stars_guard.prompts import Tools
from stars_guard.text.dialects import HERMES, MISTRAL
from stars_guard.text.forced import added, cut, moved
from stars_guard.text.transcript import Called, Piece, Transcript
from stars_guard.types import Channel

ANSWER, REASONING = Channel.ANSWER, Channel.REASONING
F = Tools(({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},))
CALL = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'


def transcript(*, dialect=HERMES, tools=F, stops=()):
    return Transcript(dialect, tools, stops, "abcdefg")


def spans(segments):
    borders = pairwise([0, *accumulate(len(text) for text, _ in segments)])
    return [span for span, (_, forced) in zip(borders, segments, strict=True) if forced]


def shown(answer, segments, held=0, problem=None):
    """Everything shown of segments, each a text and whether it was forced; the last ``held`` may yet go."""
    events, text = [], ""
    for number, (new, _) in enumerate(segments, start=1):
        text += new
        settled = "".join(part for part, _ in segments[: max(0, number - held)])
        events += answer.accept(text, settled, spans(segments[:number]))
    return events + answer.flush(problem)


segments = st.lists(st.tuples(st.text(alphabet="abEND ", max_size=5), st.booleans()), max_size=12)


@given(segments, st.integers(0, 3))
def test_the_forced_pieces_of_plain_text_are_the_forced_segments(segments, held):
    answer = transcript(tools=None, stops=("END", "ab ab"))
    pieces = shown(answer, segments, held)
    assert "".join(piece.text for piece in pieces) == "".join(text for text, _ in segments)
    forced = "".join(piece.text for piece in pieces if piece.forced)
    assert forced == "".join(text for text, forced in segments if forced)
    assert "".join(answer.text[start:end] for start, end in answer.forced[ANSWER]) == forced
    assert all(end < start for (_, end), (start, _) in pairwise(answer.forced[ANSWER]))


PARTS = st.sampled_from(["<think>", "</think>", "<tool_call>", "</tool_call>", " ", "\n", "x", "xx", "<th"])


@given(st.lists(PARTS, max_size=20), st.lists(st.tuples(st.integers(0, 90), st.booleans()), max_size=9))
def test_every_character_knows_its_segment_across_channels(parts, cuts):
    # Each letter is one of a kind, so that it tells where in the whole answer it stood.
    letters = iter(range(0xE000, 0xF000))
    text = "".join(chr(next(letters)) if letter == "x" else letter for part in parts for letter in part)
    edges = sorted({0, len(text), *(place for place, _ in cuts if place < len(text))})
    flags = [forced for _, forced in cuts] + [False] * len(edges)
    pairs = [(text[a:b], flag) for (a, b), flag in zip(pairwise(edges), flags, strict=False)]
    answer = transcript()
    events = shown(answer, pairs)
    inside = {place for start, end in spans(pairs) for place in range(start, end)}
    for piece in events:
        if isinstance(piece, Piece):
            marked = [(text.index(letter) in inside) for letter in piece.text if letter >= "\ue000"]
            assert all(flag == piece.forced for flag in marked)
    for channel, whole in ((ANSWER, answer.text), (REASONING, answer.reasoning)):
        pieces = [event for event in events if isinstance(event, Piece) and event.channel is channel]
        assert "".join(piece.text for piece in pieces) == whole
        assert "".join(piece.text for piece in pieces if piece.forced) == "".join(
            whole[start:end] for start, end in answer.forced[channel]
        )


def test_what_separates_two_stretches_goes_with_the_second():
    answer = transcript()
    pieces = shown(answer, [("One.", False), ("<think>Hm.</think>", True), ("Two.", True)])
    assert pieces == [Piece("One."), Piece("Hm.", REASONING, True), Piece("\n\nTwo.", ANSWER, True)]
    assert answer.forced == {ANSWER: [(4, 10)], REASONING: [(0, 3)]}


@given(st.integers(0, len(CALL) - 1), st.integers(1, len(CALL)))
def test_a_call_is_forced_if_any_of_it_is_its_marks_included(start, length):
    forced = [(CALL[:start], False), (CALL[start : start + length], True), (CALL[start + length :], False)]
    around = [("Sure. ", True), *forced, (" Done.", True)]
    answer = transcript()
    (called,) = [event for event in shown(answer, around) if isinstance(event, Called)]
    assert called.forced
    assert answer.forced_calls == [called.call.id]


def test_a_call_between_forced_text_is_not_forced():
    answer = transcript()
    events = shown(answer, [("Sure.", True), (CALL, False), ("Done.", True)])
    assert [event.forced for event in events] == [True, False, True]
    assert answer.forced_calls == []


def test_a_call_without_a_closing_mark_ends_where_the_next_begins():
    calls = ["[TOOL_CALLS]f{}", "[TOOL_CALLS]f{}"]
    answer = transcript(dialect=MISTRAL)
    events = shown(answer, [(calls[0], False), (calls[1], True)])
    assert [(event.call.id, event.forced) for event in events] == [("abcdefg00", False), ("abcdefg01", True)]


def test_an_invalid_call_is_marked_as_well():
    answer = transcript()
    (called,) = shown(answer, [("<tool_call>", False), ('{"name"', True)], problem="cut off")
    assert (called.call.error, called.forced) == ("cut off", True)


def test_withdrawn_segments_leave_no_mark():
    answer = transcript(tools=None)
    assert answer.accept("One wrong", "One ", [(4, 9)]) == [Piece("One ")]
    assert answer.accept("One ") == []
    assert answer.accept("One right") == [Piece("right")]
    assert answer.forced[ANSWER] == []


def test_a_stop_string_that_cuts_into_forced_text_leaves_the_rest_marked():
    answer = transcript(tools=None, stops=("END",))
    assert answer.accept("fine EN", forced=[(0, 7)]) == [Piece("fine ", ANSWER, True)]
    assert answer.accept("fine ", forced=[(0, 7)]) == []
    assert answer.flush(None) == []
    assert answer.forced[ANSWER] == [(0, 5)]


def test_spans_of_the_parts():
    assert list(cut("", 3, [(0, 9)])) == []
    assert list(cut("abcd", 2, [(0, 3), (4, 5)])) == [("a", True), ("b", False), ("c", True), ("d", False)]
    assert moved([(1, 2), (6, 9)], [(0, "abc"), (6, "def")], "--") == [(1, 2), (3, 8)]
    touching = []
    for span in [(0, 1), (1, 2), (3, 4)]:
        added(touching, *span)
    assert touching == [(0, 2), (3, 4)]
