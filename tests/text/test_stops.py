"""Stop strings: found as by looking everywhere, at the cost of looking at each character once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard import Prompt, SamplingParams
from stars_guard.testing import FakeSession
from stars_guard.text.dialects import HERMES, PLAIN
from stars_guard.text.stops import StopSearch, StopStrings, automaton
from stars_guard.text.transcript import Transcript
from tests.support.guards import guarded, hard

letters = st.text("ab", max_size=12)
stop_strings = st.lists(st.text("ab", min_size=1, max_size=5), max_size=4)


def before_the_first(text, stops):
    places = [text.find(stop) for stop in stops if stop in text]
    return text[: min(places)] if places else None


def without_the_beginning_of_one(text, stops):
    beginnings = [stop[:length] for stop in stops for length in range(1, len(stop))]
    return text[: len(text) - max((len(begun) for begun in beginnings if text.endswith(begun)), default=0)]


@given(st.lists(letters, min_size=1, max_size=4), stop_strings)
def test_a_search_that_goes_from_text_to_text_finds_what_looking_everywhere_finds(texts, stops):
    search = StopSearch(stops)
    for text in texts:
        for fork in (search.fork(), search):
            fork.read(text)
            assert fork.stopped == before_the_first(text, stops)
            assert fork.settled == without_the_beginning_of_one(text, stops)


def test_what_a_fork_reads_is_nothing_to_the_others():
    search = StopSearch(["end"]).read("the e")
    fork = search.fork().read("the end")
    assert (fork.stopped, search.stopped, search.read("the en").settled) == ("the ", None, "the ")


class Work:
    """How many characters were looked at, how often the automaton went back, and how large it was."""

    def __init__(self, monkeypatch):
        self.steps = 0
        self.retreats = 0
        self.states = 0
        work, step, link = self, StopStrings.step, StopStrings._link

        class Counted(list):
            def __getitem__(self, place):
                work.retreats += 1
                return list.__getitem__(self, place)

        def counted_step(strings, state, character):
            work.steps += 1
            return step(strings, state, character)

        def linked(strings):
            before = work.steps, work.retreats
            link(strings)
            work.steps, work.retreats = before
            work.states += len(strings._retreat)
            strings._retreat = Counted(strings._retreat)

        automaton.cache_clear()
        monkeypatch.setattr(StopStrings, "step", counted_step)
        monkeypatch.setattr(StopStrings, "_link", linked)


SIZE = 3000


@pytest.mark.parametrize(
    ("stops", "text"),
    [
        (["z" * SIZE], "z" * SIZE),
        (["a" * SIZE + "b"], "a" * SIZE),
        (["ab" * SIZE + "c"], "ab" * SIZE),
        ([f"{number:04d}" + "a" * 40 for number in range(200)], "0123" * SIZE),
        (["a" * length + "b" for length in range(1, 100)], "a" * SIZE),
    ],
)
def test_each_character_of_a_growing_text_is_looked_at_a_few_times_at_most(stops, text, monkeypatch):
    work = Work(monkeypatch)
    search = StopSearch(stops)
    for length in range(1, len(text) + 1):
        search.read(text[:length])
    # Where strings are long, what was read is read again each time that the text is twice as long.
    assert work.steps <= (3 if max(map(len, stops)) > 255 else 1) * len(text)
    assert work.retreats <= 2 * work.steps
    assert work.states <= 4 * sum(map(len, stops))


def test_a_candidate_that_leaves_a_long_repetition_does_not_step_back_through_it(monkeypatch):
    work = Work(monkeypatch)
    search = StopSearch(["a" * SIZE + "b"]).read("a" * SIZE)
    work.steps = work.retreats = 0
    for _ in range(10):
        assert search.fork().read("a" * SIZE + "c").stopped is None
    assert (work.steps, work.retreats) == (10, 20)


def test_text_that_is_taken_back_and_written_again_costs_what_is_new(monkeypatch):
    work = Work(monkeypatch)
    search = StopSearch(["a" * SIZE]).read("b" * SIZE)
    work.steps = 0
    for _ in range(10):
        search.read("b" * SIZE + "\ufffd")
        search.read("b" * SIZE + "é")
    assert work.steps == 20


def test_a_transcript_looks_at_each_accepted_character_once(monkeypatch):
    work = Work(monkeypatch)
    transcript = Transcript(PLAIN, None, ["z" * SIZE, "a" * SIZE + "b"], "a234567")
    for length in range(0, SIZE, 10):
        transcript.accept("a" * length)
    assert work.steps <= 3 * SIZE


def test_a_huge_stop_string_costs_no_more_than_the_text_may_hold_of_it(monkeypatch):
    work = Work(monkeypatch)
    search = StopSearch(["a" * 10_000_000, "b"])
    assert search.read("a" * 300).settled == ""
    assert search.read("a" * 511 + "b").stopped == "a" * 511
    assert work.states < 2000
    assert work.steps < 1500


@pytest.mark.parametrize("length", [255, 256, 257, 511, 512, 513, 1100])
def test_a_string_as_long_as_the_automaton_is_deep_is_found_where_it_ends(length):
    stop = "ab" * (length // 2) + "c" * (length % 2)
    search = StopSearch([stop, "xy"])
    for end in range(length):
        read = search.read(stop[:end])
        assert (read.stopped, read.settled) == (None, "")
    assert search.read(stop).stopped == ""
    assert StopSearch([stop + "z"]).read("z" + stop).settled == "z"


def test_an_answer_with_a_huge_stop_string_costs_its_own_length(monkeypatch):
    work = Work(monkeypatch)
    llm = guarded([["aaaa"]] * 200, None, hard())
    result = llm.generate("Hi", sampling=SamplingParams(stop=("a" * 50_000 + "b",), max_tokens=2000))
    assert result.text == "aaaa" * 200
    # As it is drawn, as it is accepted, and as it is shown; some candidates are drawn in vain.
    assert work.steps <= 12 * len(result.text)


def test_the_answers_to_one_request_share_an_automaton_that_is_built_when_it_is_needed(monkeypatch):
    built = []
    monkeypatch.setattr(StopStrings, "_link", lambda strings: built.append(strings))
    automaton.cache_clear()
    searches = [StopSearch(["abc", "b"]) for _ in range(8)]
    assert not built
    for search in searches:
        search.read("ab")
    assert len(built) == 1
    automaton.cache_clear()


def test_views_join_a_channel_once_however_many_marks_there_are(monkeypatch):
    joined = 0
    join = Transcript._joined

    def counted(*arguments):
        nonlocal joined
        joined += 1
        return join(*arguments)

    monkeypatch.setattr(Transcript, "_joined", counted)
    text = "<think>a</think>b" * 500
    transcript = Transcript(HERMES, None, (), "a234567")
    (thought, answer) = transcript._views(text, False).values()
    assert (thought.text.count("a"), answer.text.count("b"), joined) == (500, 500, 2)


def test_a_session_of_a_test_searches_what_it_accepted():
    session = FakeSession(Prompt.of("x"), SamplingParams(stop=("ab",)))
    assert session.search.read("xab").stopped == "x"
