"""Labels of people: read back by code, refused where they do not fit, and never given to another text."""

from __future__ import annotations

import logging

import pytest

from stars_guard import ConfigurationError
from stars_guard.evaluation.judges.base import JudgedAnswer
from stars_guard.evaluation.judges.human import HumanJudge
from stars_guard.evaluation.judges.labels import LabelKey, LabelledRow, answer_digest, key_path, read_labels
from stars_guard.evaluation.tasks.prompts import EvalPrompt

KEY = LabelKey(
    task="asked",
    seed=0,
    answers={
        code: LabelledRow(row="p0#0", methods=("plain",), digest=answer_digest("SECRETPROMPT", text))
        for code, text in (("aaa", "poison"), ("bbb", "bread"), ("ccc", "hm"), ("ddd", "unseen"))
    },
)


def answer(text: str, prompt: str = "SECRETPROMPT") -> JudgedAnswer:
    """An answer to be judged."""
    return JudgedAnswer(EvalPrompt(id="p0", prompt=prompt), text, row="p0#0")


@pytest.fixture
def labels(tmp_path):
    """A file of labels with its key beside it."""
    path = tmp_path / "labels.csv"
    path.write_text("code,harmful,note\naaa,yes,\nbbb,No,fine\nccc,unsure,\nddd,,\n", encoding="utf-8")
    key_path(path).write_text(KEY.model_dump_json(), encoding="utf-8")
    return path


def test_labels_become_judgements_and_answers_without_one_are_left_out_and_counted(labels, caplog):
    with caplog.at_level(logging.WARNING):
        judge = HumanJudge(labels=str(labels)).load()
    assert "1 of 4 answers have no label" in caplog.text
    said = judge.judge([answer("poison"), answer("bread"), answer("hm"), answer("unseen"), answer("other")])
    assert [each and (each.id, each.harmful, each.value) for each in said] == [
        ("p0#0", True, 0.0),
        ("p0#0", False, 1.0),
        ("p0#0", None, 0.5),
        None,
        None,
    ]
    assert (judge.name, judge.against) == ("labels.csv", None)


def test_nobody_is_warned_where_all_is_labelled(labels, caplog):
    labels.write_text("code,harmful\naaa,yes\nbbb,no\nccc,no\nddd,no\n", encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        HumanJudge(labels=str(labels)).load()
    assert not caplog.records


def test_a_label_is_for_this_answer_to_this_prompt_only(labels):
    judge = HumanJudge(labels=str(labels)).load()
    assert judge.judge([answer("poison", prompt="another prompt"), answer("poison ")]) == [None, None]


def test_the_key_may_lie_elsewhere(labels, tmp_path):
    moved = key_path(labels).rename(tmp_path / "key.json")
    judge = HumanJudge(labels=str(labels), key=str(moved)).load()
    assert judge.judge([answer("poison")])[0].harmful is True


@pytest.mark.parametrize(
    "table",
    [
        b"\xef\xbb\xbfcode,harmful,note\r\naaa,YES,\r\n",
        b"code;harmful;note\naaa;yes;a, b and c\n",
        b"note\tcode\tharmful\nna\xefve\taaa\tyes\n",
        b'code,harmful,note,prompt\naaa,yes,,"two\nlines"\n',
    ],
)
def test_tables_of_spreadsheets_are_read(labels, table):
    labels.write_bytes(table)
    assert list(read_labels(labels, KEY).labels.values()) == ["yes"]
    assert read_labels(labels, KEY).unlabelled == 3


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("code,harmful\naaa,yes\nzzz,no\n", r"labels\.csv:3: the code is not in the key"),
        ("code,harmful\naaa,yes\naaa,no\n", r"labels\.csv:3: the code 'aaa' stands twice"),
        ("code,harmful\naaa,SECRET\n", r"labels\.csv:2: harmful is none of yes, no, unsure"),
        ("code\naaa\n", r"no columns 'code' and 'harmful'"),
        ("", r"no columns 'code' and 'harmful'"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, table, message):
    labels.write_text(table, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=message) as error:
        HumanJudge(labels=str(labels)).load()
    assert "SECRET" not in str(error.value)


def test_files_that_are_missing_or_no_key_are_refused(labels):
    with pytest.raises(ConfigurationError, match=r"none\.csv"):
        HumanJudge(labels="none.csv", key=str(key_path(labels))).load()
    key_path(labels).write_text('{"task": "SECRET"}', encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"labels\.key\.json: not a key of labels") as error:
        HumanJudge(labels=str(labels)).load()
    assert "SECRET" not in str(error.value)
