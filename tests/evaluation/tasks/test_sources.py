"""Where prompts come from: what is read, what is refused, and that no message quotes a text."""

from __future__ import annotations

import json
import sys

import pytest

from stars_guard.errors import ConfigurationError, MissingExtraError
from stars_guard.evaluation.tasks.base import Task
from stars_guard.evaluation.tasks.sources import task_prompts

POISON = "xyzzy"


def written(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def read(source, seed=0, limit=None, **options):
    return task_prompts(Task(prompts=source, options=options, limit=limit), seed)


def by_id(prompts):
    return {prompt.id: prompt for prompt in prompts}


def test_a_file_of_prompts_and_of_chat_turns(tmp_path):
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Go"},
    ]
    rows = [
        {"prompt": "Why?", "category": "short", "reference": "So.", "topic": "not read"},
        "",
        {"id": "talk", "messages": turns},
    ]
    prompts = by_id(read(written(tmp_path / "rows.jsonl", rows)))
    assert prompts["1"].prompt == "Why?"
    assert (prompts["1"].category, prompts["1"].reference) == ("short", "So.")
    assert list(prompts["talk"].messages) == turns


def test_fields_by_other_names(tmp_path):
    rows = [{"q": "Why?", "prompt": "not this", "n": 7, "kind": 3, "gold": "So."}]
    (prompt,) = read(
        written(tmp_path / "rows.jsonl", rows), prompt="q", id="n", category="kind", reference="gold"
    )
    assert (prompt.prompt, prompt.id, prompt.category, prompt.reference) == ("Why?", "7", "3", "So.")


def test_a_csv_file(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('prompt,category\n"Why, and\nhow?",a\nWho?,\n', encoding="utf-8")
    prompts = by_id(read(str(path)))
    assert {name: (p.prompt, p.category) for name, p in prompts.items()} == {
        "1": ("Why, and\nhow?", "a"),
        "2": ("Who?", ""),
    }


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"prompt": "xyzzy"', r"a\.jsonl:1: not JSON"),
        ("a.jsonl", '{"prompt": "a"}\n["xyzzy"]', r"a\.jsonl:2: a row is a JSON object, not list"),
        ("a.jsonl", '{"text": "xyzzy"}', r"a\.jsonl:1: .*this row has none.*It has: text"),
        ("a.jsonl", '{"prompt": "xyzzy", "messages": []}', r"a\.jsonl:1: .*this row has both"),
        ("a.jsonl", '{"prompt": " "}', r"a\.jsonl:1: the prompt is empty"),
        ("a.jsonl", '{"messages": [{"role": "user"}]}', r"a\.jsonl:1: a message must be a dict"),
        ("a.jsonl", '{"prompt": "a", "reference": ["xyzzy"]}', r"a\.jsonl:1: .*reference"),
        ("a.jsonl", '{"prompt": {"xyzzy": 1}}', r"a\.jsonl:1: "),
        (
            "a.jsonl",
            '{"prompt": "a", "id": 1}\n{"prompt": "b", "id": 1}',
            r"a\.jsonl:2: its id stands at .*a\.jsonl:1, too",
        ),
        (
            "a.jsonl",
            '{"prompt": "xyzzy"}\n{"prompt": "xyzzy"}',
            r"a\.jsonl:2: the same prompt stands at .*a\.jsonl:1, too",
        ),
        ("a.jsonl", "\n", r"there are no prompts in .*a\.jsonl"),
        ("a.csv", "prompt\nb,xyzzy\n", r"a\.csv:2: more fields than the first line names"),
        ("a.csv", 'prompt\n"xyzzy', r"a\.csv:2: not CSV in UTF-8: Error"),
    ],
)
def test_what_is_wrong_is_named_by_its_place_and_never_quoted(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigurationError, match=message) as caught:
        read(str(tmp_path / name))
    assert POISON not in str(caught.value)


def test_a_csv_file_that_is_not_utf_8(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"prompt\n\xff\n")
    with pytest.raises(ConfigurationError, match="not CSV in UTF-8: UnicodeDecodeError"):
        read(str(tmp_path / "a.csv"))


def test_a_source_that_is_not_there_is_guessed_at(tmp_path):
    with pytest.raises(ConfigurationError, match="did you mean 'harmfulqa'"):
        read("harmfulqaa")
    with pytest.raises(ConfigurationError, match=r"options of harmfulqa: .*unknown setting 'field'"):
        read("harmfulqa", field="x")
    with pytest.raises(ConfigurationError, match="no folder of datasets, and has no split 'train'"):
        read("harmfulqa", split="train")


def test_a_file_that_cannot_be_read(monkeypatch, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("{}")

    def refuse(*anything, **more):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refuse)
    with pytest.raises(ConfigurationError, match="cannot be read: Permission denied"):
        read(str(path))


def test_a_limit_is_a_sample_by_the_seed_and_a_smaller_one_is_part_of_it():
    five = [prompt.id for prompt in read("harmfulqa", seed=3, limit=5)]
    assert five == [prompt.id for prompt in read("harmfulqa", seed=3, limit=9)][:5]
    assert five != [prompt.id for prompt in read("harmfulqa", seed=4, limit=5)]
    assert five != [f"harmfulqa-{number}" for number in range(5)]


@pytest.fixture
def datasets(monkeypatch, tmp_path):
    # Caches go elsewhere than to the user's own.
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    return pytest.importorskip("datasets")


ROWS = {"question": ["Why?", "Who?"], "id": ["a", "b"]}


def test_a_folder_that_datasets_saved(tmp_path, datasets):
    folder = tmp_path / "saved"
    datasets.Dataset.from_dict(ROWS).save_to_disk(str(folder))
    prompts = by_id(read(str(folder), prompt="question"))
    assert {name: prompt.prompt for name, prompt in prompts.items()} == {"a": "Why?", "b": "Who?"}


def test_the_split_of_a_folder_of_one_is_that_or_none(tmp_path, datasets):
    alone = datasets.Dataset.from_dict(ROWS)
    alone.save_to_disk(str(tmp_path / "alone"))
    with pytest.raises(
        ConfigurationError, match="has no split 'train': it holds one data set that is no spl"
    ):
        read(str(tmp_path / "alone"), prompt="question", split="train")
    named = datasets.Dataset.from_dict(ROWS, split="train")
    named.save_to_disk(str(tmp_path / "named"))
    assert len(read(str(tmp_path / "named"), prompt="question", split="train")) == 2
    assert len(read(str(tmp_path / "named"), prompt="question")) == 2
    with pytest.raises(ConfigurationError, match="has no split 'dev'; name one of train"):
        read(str(tmp_path / "named"), prompt="question", split="dev")


def test_a_folder_of_several_splits(tmp_path, datasets):
    folder = tmp_path / "saved"
    splits = {
        "train": datasets.Dataset.from_dict(ROWS),
        "test": datasets.Dataset.from_dict({"prompt": ["How?"]}),
    }
    datasets.DatasetDict(splits).save_to_disk(str(folder))
    assert [prompt.prompt for prompt in read(str(folder), split="test")] == ["How?"]
    with pytest.raises(ConfigurationError, match="has no split None; name one of train, test"):
        read(str(folder))
    with pytest.raises(ConfigurationError, match="has no split 'dev'"):
        read(str(folder), split="dev")


@pytest.mark.parametrize("kind", ["parquet", "json"])
def test_a_folder_of_files(tmp_path, datasets, kind):
    folder = tmp_path / "files"
    folder.mkdir()
    rows = datasets.Dataset.from_dict({"messages": [[{"role": "user", "content": "Why?"}]]})
    getattr(rows, f"to_{kind}")(str(folder / f"part.{kind}"))
    (prompt,) = read(str(folder))
    assert list(prompt.messages) == [{"role": "user", "content": "Why?"}]


def test_a_folder_that_datasets_cannot_read(tmp_path, datasets):
    bars = datasets.are_progress_bars_disabled()
    (tmp_path / "a.jsonl").write_text('{"prompt": "xyzzy"')
    with pytest.raises(ConfigurationError, match="no folder that datasets can read") as caught:
        read(str(tmp_path))
    assert POISON not in str(caught.value)
    assert datasets.are_progress_bars_disabled() == bars


def test_datasets_is_an_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"stars-guard\[eval\]"):
        read(str(tmp_path))


@pytest.mark.parametrize("value", [5, True, {"role": "user", "content": "Hi"}])
def test_a_prompt_that_is_neither_text_nor_turns_is_refused(tmp_path, value):
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps({"prompt": value}) + "\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=rf"prompts.jsonl:1: .* not {type(value).__name__}"):
        task_prompts(Task(prompts=str(path)), seed=0)


def test_half_a_character_is_replaced_as_wherever_prompts_are_read(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "half \\ud83d"}\n{"prompt": "whole \\ud83d\\ude00"}\n')
    prompts = task_prompts(Task(prompts=str(path)), seed=0)
    assert {prompt.prompt for prompt in prompts} == {"half \ufffd", "whole \U0001f600"}
