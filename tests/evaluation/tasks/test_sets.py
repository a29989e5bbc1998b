"""The built-in sets: every one parses, and is what its README says."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from benchmarks.evaluation_sets import DRAWN, drawn
from stars_guard.evaluation.tasks.base import Task
from stars_guard.evaluation.tasks.files import file_rows
from stars_guard.evaluation.tasks.rag import CORPORA, retrieved
from stars_guard.evaluation.tasks.sources import SETS, built_in_sets, task_prompts

README = (SETS / "README.md").read_text(encoding="utf-8")
LISTED = {
    name: (int(rows), licence)
    for name, rows, licence in re.findall(
        r"^\| `([a-z-]+)` \| (\d+) \|.*\| ([^|]+) \|$", README, re.MULTILINE
    )
}


def test_the_readme_lists_every_set_and_its_licence():
    assert sorted(LISTED) == built_in_sets()
    assert {licence for _, licence in LISTED.values()} <= {"MIT", "Apache-2.0", "CC BY 4.0"}


@pytest.mark.parametrize("name", built_in_sets())
def test_a_set_parses_with_unique_ids_and_as_many_rows_as_listed(name):
    prompts = task_prompts(Task(prompts=name), seed=0)
    assert len(prompts) == LISTED[name][0]
    assert len({prompt.id for prompt in prompts}) == len(prompts)
    # Prompts only: an answer of a model must not be shipped.
    assert all(prompt.messages is None and prompt.reference is None for prompt in prompts)


def test_plain_instructions_are_of_many_kinds():
    kinds = Counter(prompt.category for prompt in task_prompts(Task(prompts="plain-instructions"), 0))
    assert len(kinds) >= 6
    assert min(kinds.values()) >= 9


def test_grave_topics_are_as_many_of_each_field():
    kinds = Counter(prompt.category for prompt in task_prompts(Task(prompts="grave-topics"), 0))
    assert kinds == {"medicine": 25, "history": 25, "fiction": 25, "code": 25}


def test_a_set_is_drawn_from_its_source_once_a_text_and_the_same_every_time():
    rows = [{"prompt": f"question {number % 300}", "topic": "t"} for number in range(400)]
    prompts = drawn("harmfulqa", rows)
    assert prompts == drawn("harmfulqa", rows)
    assert len({prompt["prompt"] for prompt in prompts}) == len(prompts) == DRAWN["harmfulqa"].most
    assert prompts[0]["id"] == "harmfulqa-0"
    assert [prompt["prompt"] for prompt in prompts[:5]] != [row["prompt"] for row in rows[:5]]
    xstest = [
        {"id": "7", "prompt": "a", "type": "t", "label": "safe"},
        {"id": "9", "prompt": "b", "label": "unsafe"},
    ]
    assert drawn("xstest-safe", xstest) == [{"id": "xstest-7", "prompt": "a", "category": "t"}]


def test_the_poisoned_corpus_is_the_twin_of_the_clean_one():
    clean, poisoned = (
        {row.values["id"]: row.values for row in file_rows(CORPORA / f"{name}.jsonl")}
        for name in ("clean", "poisoned")
    )
    assert list(clean) == list(poisoned)
    kinds = {name: row.get("poison", "") for name, row in poisoned.items()}
    assert Counter(kinds.values()) == {"": 21, "claim": 11, "injection": 8}
    for name, kind in kinds.items():
        same = clean[name]["text"] == poisoned[name]["text"]
        assert same == (kind == "")
        assert poisoned[name]["text"].startswith(clean[name]["text"]) == (kind != "claim")
    for question in file_rows(CORPORA / "questions.jsonl"):
        assert question.values["category"] == (kinds[question.values["passage"]] or "untouched")
        assert question.values["reference"]


@pytest.mark.parametrize(("name", "least"), [("clean", 0.95), ("poisoned", 0.85)])
def test_most_questions_retrieve_the_passage_that_answers_them(name, least):
    corpus = [row.values for row in file_rows(CORPORA / f"{name}.jsonl")]
    questions = [row.values for row in file_rows(CORPORA / "questions.jsonl")]
    nearest = retrieved([row["text"] for row in corpus], [row["prompt"] for row in questions], 3)
    hits = [
        question["passage"] in [corpus[place]["id"] for place in places]
        for question, places in zip(questions, nearest, strict=True)
    ]
    assert sum(hits) / len(hits) >= least
