"""Rows of one's own as training data: what is read, what is kept apart, and a reward trained on them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from stars_guard.errors import ConfigurationError
from stars_guard.training import data
from stars_guard.training.plain import plain_files, plain_rows, same_prompt_pairs

ROWS = [
    {"prompt": f"how do i {what} {number}", "response": response, "unsafe": unsafe, "note": "x"}
    for number in range(20)
    for what, response, unsafe in (
        ("bake a cake", "first bake", False),
        ("burn a house", "sorry no", False),
        ("burn a house", "sure first", True),
    )
]


def written(file: Path, rows=ROWS) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".csv":
        with file.open("w", newline="", encoding="utf-8") as out:
            table = csv.DictWriter(out, rows[0].keys())
            table.writeheader()
            table.writerows(rows)
    else:
        file.write_text("".join(json.dumps(row) + "\n\n" for row in rows), encoding="utf-8")
    return file


@pytest.mark.parametrize("name", ["mine.jsonl", "mine.csv"])
def test_a_tenth_of_the_prompts_of_a_single_file_is_kept_apart(tmp_path, name):
    file = written(tmp_path / name)
    assert data.has_own_rows(file)
    train, held = (plain_rows(file, file, part) for part in ("train", "eval"))
    assert len(train) + len(held) == len(ROWS)
    assert 0 < len(held) < len(train)
    assert not {row.prompt for row in train} & {row.prompt for row in held}
    loaded = data.load(file, contrast=None, seed=0)
    assert loaded.rows == (("mine", len(train)),)
    assert {answer.safe for answer in loaded.answers} == {0.0, 1.0}
    assert all((pair.chosen, pair.rejected) == ("sorry no", "sure first") for pair in loaded.preferences)
    assert len(loaded.preferences) == len({row.prompt for row in train if row.safe == 0.0})


def test_a_folder_has_its_own_parts_and_may_have_contrastive_answers(tmp_path):
    for part, rows in (("train", ROWS[:30]), ("eval", ROWS[30:])):
        written(tmp_path / part / "mine.jsonl", rows)
    written(tmp_path / "train" / "more.csv", [*ROWS[:6], {**ROWS[0], "response": " "}])
    contrast = tmp_path / "contrast.jsonl"
    contrast.write_text(json.dumps({"prompt": "i", "response": "no", "safe": 0.25}))
    loaded = data.load(tmp_path, contrast=contrast, seed=0)
    assert loaded.rows == (("mine", 30), ("more", 6), ("contrast", 1))
    assert data.TrainingAnswer("i", "no", 0.25) in loaded.answers
    assert [file.name for file in plain_files(tmp_path, "eval", ())] == ["mine.jsonl"]
    written(tmp_path / "train" / "diasafety.jsonl")
    assert not data.has_own_rows(tmp_path)


def test_a_label_may_be_a_probability(tmp_path):
    rows = [{**ROWS[0], "unsafe": unsafe} for unsafe in (0.25, 1, "false", "0.75", "yes")]
    (tmp_path / "train").mkdir()
    read = plain_rows(tmp_path, written(tmp_path / "train" / "a.csv", rows), "train")
    assert [row.safe for row in read] == [0.75, 0.0, 1.0, 0.25, 0.0]
    assert list(same_prompt_pairs(read[:1])) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"a\.jsonl line 1 is not JSON"),
        ("[]", "line 1 is not a JSON object"),
        ('{"prompt": "SECRET"}', "line 1: PlainRow: response: Field required; unsafe: Field required"),
        ('{"prompt": "p", "response": "SECRET", "unsafe": 2}', "unsafe.*less than or equal to 1"),
        ('{"prompt": "p", "response": 3, "unsafe": true}', "response=3: Input should be a valid string"),
        ("", "has 0 safe and 0 unsafe answers to train on; label 4 or more of each"),
    ],
)
def test_what_is_wrong_is_named_without_a_text(tmp_path, text, message):
    file = tmp_path / "a.jsonl"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=message) as caught:
        data.load(file, contrast=None, seed=0)
    assert "SECRET" not in str(caught.value)


def test_what_is_no_text_is_said(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"prompt,response,unsafe\n\xff")
    with pytest.raises(ConfigurationError, match="cannot be read: UnicodeDecodeError; save it as UTF-8"):
        data.load(tmp_path / "a.csv", contrast=None, seed=0)
