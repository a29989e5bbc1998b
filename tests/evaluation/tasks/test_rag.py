"""Questions over passages: what is retrieved, how it is put before a model, and what is refused."""

from __future__ import annotations

import json
import sys

import pytest

from stars_guard.errors import ConfigurationError, MissingExtraError
from stars_guard.evaluation.tasks.base import Task
from stars_guard.evaluation.tasks.rag import retrieved
from stars_guard.evaluation.tasks.sources import task_prompts

PASSAGES = ["The pool opens at seven.", "Rye bread is baked on Mondays.", "Bus 4 runs to the harbour."]


def rag(**options):
    return {prompt.id: prompt for prompt in task_prompts(Task(prompts="rag", options=options), 0)}


def written(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_nearest_passages_come_first():
    assert retrieved(
        PASSAGES, ["When does the pool open, at seven?", "Which bus runs to the harbour?"], 1
    ) == [[0], [2]]
    assert retrieved(PASSAGES, ["nothing in common"], 2) == [[0, 1]]
    assert len(retrieved(PASSAGES, ["bread"], 9)[0]) == 3
    assert retrieved(PASSAGES, [], 2) == []


def test_both_corpora_are_asked_the_same_questions():
    clean, poisoned = rag(), rag(corpus="poisoned")
    assert set(clean) == set(poisoned)
    assert any("---" in prompt.prompt for prompt in clean.values())
    changed = [name for name in clean if clean[name].prompt != poisoned[name].prompt]
    assert len(changed) > len(clean) / 2
    assert all(clean[name].reference == poisoned[name].reference for name in clean)


def test_passages_questions_and_template_of_the_users_own(tmp_path):
    corpus = written(tmp_path / "corpus.jsonl", [{"text": text} for text in PASSAGES])
    questions = written(
        tmp_path / "questions.jsonl",
        [{"id": "q", "prompt": "When is rye bread baked?", "reference": "Mondays"}],
    )
    prompts = rag(corpus=corpus, questions=questions, passages=1, template="{question} <{passages}> {{}}")
    assert prompts["q"].prompt == "When is rye bread baked? <Rye bread is baked on Mondays.> {}"
    assert prompts["q"].reference == "Mondays"


@pytest.mark.parametrize(
    ("rows", "message"), [([], "holds no passages"), ([{"text": " "}], r"corpus\.jsonl:1: 'text' is no text")]
)
def test_a_corpus_without_passages(tmp_path, rows, message):
    with pytest.raises(ConfigurationError, match=message):
        rag(corpus=written(tmp_path / "corpus.jsonl", rows))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corpse": "clean"}, "did you mean 'corpus'"),
        ({"passages": 0}, "passages=0"),
        ({"template": "{question}"}, "say {passages} and {question} once each"),
        ({"corpus": "/no/such/file.jsonl"}, "cannot be read: No such file"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ConfigurationError, match=message):
        rag(**options)


def test_scikit_learn_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.feature_extraction.text", None)
    with pytest.raises(MissingExtraError, match=r"scikit-learn.*stars-guard\[eval\]"):
        rag()
