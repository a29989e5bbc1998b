"""What may be shown: whole characters, and never half of a stop string."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.errors import GenerationError
from stars_guard.text.dialects import PLAIN
from stars_guard.text.release import Release, whole_characters
from stars_guard.text.stops import StopSearch
from stars_guard.text.transcript import Transcript

letters = st.text("abc", max_size=30)
stop_strings = st.lists(st.text("abc", min_size=1, max_size=4), max_size=3)


@st.composite
def growing_texts(draw, texts=letters):
    """Rising prefixes of a text, the last of them whole."""
    text = draw(texts)
    cuts = draw(st.lists(st.integers(0, len(text)), max_size=8))
    return [text[:cut] for cut in sorted(cuts)] + [text]


def accepted_texts(prefixes, stops):
    """What a language model makes of them: it ends at the first prefix that holds a stop string."""
    for prefix in prefixes:
        stopped = StopSearch(stops).read(prefix).stopped
        if stopped is not None:
            yield stopped
            return
        yield prefix


def plain(stops):
    return Transcript(PLAIN, None, stops, "a234567")


def shown(texts, stops):
    transcript = plain(stops)
    pieces = [piece for text in texts for piece in transcript.accept(text)]
    return [piece.text for piece in [*pieces, *transcript.flush(None)]], transcript


@given(growing_texts(), stop_strings)
def test_pieces_join_to_the_whole_text_for_any_stops_and_any_cuts(prefixes, stops):
    texts = list(accepted_texts(prefixes, stops))
    pieces, transcript = shown(texts, stops)
    assert "".join(pieces) == texts[-1] == transcript.text


@given(growing_texts(), stop_strings)
def test_nothing_of_a_stop_string_that_completes_later_is_ever_shown(prefixes, stops):
    texts = list(accepted_texts(prefixes, stops))
    transcript = plain(stops)
    for text, drawn in zip(texts, prefixes, strict=False):
        transcript.accept(text)
        assert texts[-1].startswith(transcript.text)
        assert not any(stop in transcript.text for stop in stops)
        if text == drawn:
            # Whatever follows, no stop string that started within what was shown can complete.
            growing = [text[start:] for start in range(len(transcript.text))]
            assert not any(stop.startswith(tail) for stop in stops for tail in growing)


@given(growing_texts(), stop_strings)
def test_no_more_is_held_back_than_the_longest_possible_start_of_a_stop_string(prefixes, stops):
    transcript = plain(stops)
    for text in accepted_texts(prefixes, stops):
        transcript.accept(text)
        held = text[len(transcript.text) :]
        assert held == "" or any(stop.startswith(held) and stop != held for stop in stops)


@given(st.text(max_size=12), st.data())
def test_characters_split_over_tokens_appear_whole(text, data):
    encoded = text.encode()
    cuts = data.draw(st.lists(st.integers(0, len(encoded)), max_size=8))
    decoded = [encoded[:cut].decode(errors="replace") for cut in sorted(cuts)]
    pieces, _ = shown([*map(whole_characters, decoded), text], ())
    assert "".join(pieces) == text
    real = text.count("\ufffd")
    assert "".join(pieces).count("\ufffd") == real


@pytest.mark.parametrize(
    ("text", "whole"),
    [("Zürich", "Zürich"), ("Z\ufffd", "Z"), ("\ufffd\ufffd", ""), ("a\ufffdb", "a\ufffdb")],
)
def test_only_an_unfinished_character_at_the_end_is_dropped(text, whole):
    assert whole_characters(text) == whole


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("one END two", ["END"], "one "),
        ("one END two", ["two", "END"], "one "),
        ("END", ["END"], ""),
        ("no end", ["END"], None),
        ("anything", [], None),
        ("a END b END", ["END"], "a "),
    ],
)
def test_text_is_cut_before_the_first_stop_string(text, stops, expected):
    assert StopSearch(stops).read(text).stopped == expected


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("one EN", ["END"], "one "),
        ("one E", ["END", "one EN"], ""),
        ("one", ["END"], "one"),
        ("aa", ["aab"], ""),
        ("aaa", ["aab"], "a"),
        ("xEND", ["END"], "xEND"),
        ("", ["END"], ""),
        ("one", [], "one"),
    ],
)
def test_the_longest_start_of_a_stop_string_is_withheld(text, stops, expected):
    assert StopSearch(stops).read(text).settled == expected


def test_text_that_gets_shorter_than_what_was_shown_shows_nothing_and_takes_nothing_back():
    release = Release()
    assert release.show("abc") == "abc"
    assert release.show("ab") == ""
    assert release.show("abcd") == "d"
    assert release.shown == "abcd"


def test_a_tokenizer_that_rewrites_shown_text_is_an_error():
    release = Release()
    release.show("caf")
    with pytest.raises(GenerationError, match="already shown"):
        release.show("cup")
    assert release.shown == "caf"


def test_after_such_an_error_what_was_shown_can_still_be_finished():
    transcript = plain(())
    transcript.accept("caf")
    with pytest.raises(GenerationError, match="already shown"):
        transcript.accept("cup")
    assert transcript.flush(None) == []
    assert transcript.text == "caf"
