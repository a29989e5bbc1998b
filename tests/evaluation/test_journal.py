"""Records that survive being cut off at any byte."""

from __future__ import annotations

import pytest

from stars_guard import ConfigurationError
from stars_guard.evaluation.journal import Journal
from stars_guard.evaluation.judges.base import Judgement

SAID = [Judgement(id=f"p{number}", value=number / 2) for number in range(3)]


def test_what_was_added_is_there(tmp_path):
    journal = Journal(tmp_path / "said.jsonl", Judgement)
    assert journal.entries() == []
    journal.add(SAID[:2])
    journal.add(SAID[2:])
    assert journal.entries() == SAID


def test_a_file_that_was_cut_anywhere_goes_on_after_its_last_whole_line(tmp_path):
    whole = tmp_path / "whole.jsonl"
    Journal(whole, Judgement).add(SAID)
    contents = whole.read_bytes()
    for length in range(len(contents)):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(contents[:length])
        journal = Journal(path, Judgement)
        there = journal.entries()
        assert there == SAID[: len(there)]
        journal.add(SAID[len(there) :])
        assert path.read_bytes() == contents


def test_a_line_that_is_no_record_is_named_and_not_quoted(tmp_path):
    path = tmp_path / "said.jsonl"
    path.write_text('{"id": "p0", "value": 1}\n{"id": "p1", "value": "something private"}\n')
    with pytest.raises(ConfigurationError, match=r"said.jsonl:2: not a Judgement: value") as raised:
        Journal(path, Judgement).entries()
    assert "private" not in str(raised.value)
