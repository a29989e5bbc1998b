"""Samples for people: blind, shuffled, repeatable, and read back as the judgements of the right answers."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

import pytest

from stars_guard import ConfigurationError
from stars_guard.cli.label import label_page, label_table
from stars_guard.evaluation import evaluate
from stars_guard.evaluation.cells import original_id
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.judges.human import HumanJudge
from stars_guard.evaluation.judges.labels import LabelKey, key_path
from stars_guard.evaluation.labelling import UnlabelledAnswer, draw_sample
from stars_guard.evaluation.tasks.base import Task
from tests.support.cli_runner import loaded, run
from tests.support.evaluations import plan, prompts_file

__all__ = ["loaded", "run"]  # pytest finds fixtures by name

PROMPTS = ["mild", "wild", "wild too", "wild <three>"]
HOSTILE = '</div><script>alert("x")</script>'
pytestmark = pytest.mark.usefixtures("fakes")


@pytest.fixture
def folder(tmp_path):
    """A finished evaluation."""
    evaluate(plan(tmp_path, PROMPTS), tmp_path / "out")
    return tmp_path / "out"


class Page(HTMLParser):
    """Tags, addresses and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.addresses, self.texts = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset", "action")]

    def handle_data(self, data):
        self.texts.append(data)


def test_equal_answers_are_shown_once_and_stand_for_all_methods(folder):
    sample = draw_sample(EvalFolder(folder), "asked", 4, seed=0)
    shown = sorted((each.prompt, each.answer) for each in sample.answers)
    assert shown == sorted(
        [("mild", "fine"), *((prompt, text) for prompt in PROMPTS[1:] for text in ("bad", "so-so"))]
    )
    methods = {each.prompt: sample.key.answers[each.code].methods for each in sample.answers}
    assert methods["mild"] == ("guarded", "plain")
    assert {len(row.methods) for row in sample.key.answers.values() if row.row != "p0#0"} == {1}


def test_the_seed_decides_prompts_order_and_codes(folder):
    first, again, other = (draw_sample(EvalFolder(folder), "asked", 3, seed) for seed in (0, 0, 1))
    assert first == again
    assert [each.code for each in first.answers] != [each.code for each in other.answers]
    assert len({each.code for each in first.answers}) == len(first.answers) == len(first.key.answers)
    in_order = sorted(first.answers, key=lambda each: first.key.answers[each.code].row)
    assert first.answers != in_order


@pytest.mark.parametrize("changes", [{"seeds": 3}, {"attack": {"kind": "resample", "k": 3}}])
def test_a_sample_counts_prompts_however_often_each_is_answered(tmp_path, changes):
    task = Task(prompts=prompts_file(tmp_path, PROMPTS), judges=("harm",), **changes)
    evaluate(plan(tmp_path, tasks={"asked": task}), tmp_path / "several")
    folder = EvalFolder(tmp_path / "several")
    rows = {row.row for row in draw_sample(folder, "asked", 4, seed=0).key.answers.values()}
    assert sorted(map(original_id, rows)) == ["p0", "p1", "p2", "p3"]
    with pytest.raises(ConfigurationError, match=r"5 prompts are wanted, but 4 of 'asked'"):
        draw_sample(folder, "asked", 5, seed=0)


def test_what_is_not_there_cannot_be_sampled(folder):
    with pytest.raises(ConfigurationError, match=r"5 prompts are wanted, but 4 of 'asked'"):
        draw_sample(EvalFolder(folder), "asked", 5, seed=0)
    with pytest.raises(ConfigurationError, match=r"'aske' \(did you mean 'asked'\?\)"):
        draw_sample(EvalFolder(folder), "aske", 1, seed=0)


def test_labels_come_back_as_judgements_of_every_method(folder, tmp_path, run):
    table = tmp_path / "labels.csv"
    told = run("label", str(folder), "--task", "asked", "--sample", "4", "--output", str(table))
    assert told.code == 0
    assert "7 answers to label" in told.err
    rows = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
    assert {row["harmful"] for row in rows} == {""}
    labelled = "\n".join(f"{row['code']},{'yes' if row['answer'] == 'bad' else 'no'}" for row in rows)
    table.write_text(f"code,harmful\n{labelled}\n", encoding="utf-8")
    task = Task(prompts=prompts_file(tmp_path, PROMPTS), judges=("people",))
    judges = {"people": HumanJudge(labels=str(table))}
    plain, guarded = evaluate(plan(tmp_path, judges=judges, tasks={"asked": task}), folder).methods
    assert (plain.harmful["people"].value, guarded.harmful["people"].value) == (0.75, 0)
    assert plain.rewards["people"].prompts == 4


def test_answers_without_a_label_are_left_out_of_the_results(folder, tmp_path, run):
    table = tmp_path / "labels.csv"
    run("label", str(folder), "--task", "asked", "--sample", "2", "--output", str(table))
    code = next(iter(LabelKey.read(key_path(table)).answers))
    table.write_text(f"code,harmful\n{code},no\n", encoding="utf-8")
    task = Task(prompts=prompts_file(tmp_path, PROMPTS), judges=("people",))
    judges = {"people": HumanJudge(labels=str(table))}
    results = evaluate(plan(tmp_path, judges=judges, tasks={"asked": task}), folder).methods
    assert {r.rewards["people"].prompts for r in results if r.rewards} == {1}


def test_the_page_holds_no_names_and_needs_no_other_file(folder, tmp_path, run):
    path = tmp_path / "labels.html"
    assert run("label", str(folder), "--task", "asked", "--sample", "4", "--output", str(path)).code == 0
    page = Page(path.read_text(encoding="utf-8"))
    text = path.read_text(encoding="utf-8")
    assert not page.addresses
    assert page.tags.count("article") == 7
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert not re.search(r"plain|guarded|p\d#\d", text)
    assert "wild <three>" in page.texts
    assert "default-src 'none'" in text
    assert set(LabelKey.read(key_path(path)).answers) == set(re.findall(r'data-code="(\w+)"', text))


def test_texts_of_models_are_only_text():
    page = Page(label_page([UnlabelledAnswer("aaaaaa", HOSTILE, HOSTILE)]))
    assert page.texts.count(HOSTILE) == 2
    assert page.tags.count("script") == 1


def test_no_text_is_a_formula_in_a_spreadsheet():
    table = label_table([UnlabelledAnswer("aaaaaa", "=1+1", text) for text in ("@SUM(1)", "-1", 'a, "b"\nc')])
    rows = list(csv.DictReader(io.StringIO(table.removeprefix("\ufeff"))))
    assert [row["answer"] for row in rows] == ["'@SUM(1)", "'-1", 'a, "b"\nc']
    assert {row["prompt"] for row in rows} == {"'=1+1"}


@pytest.mark.parametrize("there", ["labels.csv", "labels.key.json"])
def test_labels_that_are_there_are_not_written_over(folder, tmp_path, run, there):
    (tmp_path / there).write_text("mine")
    told = run(
        "label", str(folder), "--task", "asked", "--sample", "1", "--output", str(tmp_path / "labels.csv")
    )
    assert told.code != 0
    assert "is there already" in told.err
    assert (tmp_path / there).read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "message"), [("labels.txt", "none of .html, .csv"), ("no/labels.csv", "cannot be")]
)
def test_an_output_that_cannot_be_is_refused(folder, tmp_path, run, name, message):
    told = run("label", str(folder), "--task", "asked", "--sample", "1", "--output", str(tmp_path / name))
    assert told.code != 0
    assert message in told.err
