"""Files of preferences: what is read, what is written, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.batch.rows import read_rows
from stars_guard.errors import ConfigurationError
from stars_guard.training.preference_data import (
    PREFERENCE_SETS,
    as_dataset,
    is_text,
    prompt_rows,
    read_preferences,
    write_preferences,
)
from stars_guard.training.preferences import PreferenceRow

pytest.importorskip("datasets")
pytest.importorskip("peft")
pytest.importorskip("sklearn")

from stars_guard.training.__main__ import prompts

TURNS = [{"role": "user", "content": "how do i bake"}]
CHAT = PreferenceRow(
    prompt=TURNS,
    chosen=[{"role": "assistant", "content": "mix it"}],
    rejected=[{"role": "assistant", "content": "burn it"}],
    rejected_ends=False,
    margin=1.5,
    run_id="r",
    segment=2,
)
PLAIN = PreferenceRow(prompt="how do i bake", chosen="mix it", rejected="burn it")


def written(folder: Path, *lines: object) -> str:
    file = folder / "preferences.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n", encoding="utf-8")
    return str(file)


@pytest.mark.parametrize("name", ["made/here.jsonl", "made/folder"])
@pytest.mark.parametrize("row", [CHAT, PLAIN], ids=["chat", "plain"])
def test_what_is_written_is_read_back(tmp_path, row, name):
    write_preferences([row, row], tmp_path / name)
    assert read_preferences(str(tmp_path / name)) == [row, row]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1, max_size=3))
def test_any_text_survives_a_file(tmp_path_factory, texts):
    rows = [PreferenceRow(prompt=text, chosen=text, rejected=text + "!") for text in texts]
    file = tmp_path_factory.mktemp("texts") / "rows.jsonl"
    write_preferences(rows, file)
    assert read_preferences(str(file)) == rows


def test_pairs_as_hh_rlhf_has_them_are_read(tmp_path):
    pair = {"messages": TURNS, "chosen": "mix it", "rejected": "burn it"}
    (row,) = read_preferences(written(tmp_path, pair))
    assert (row.prompt, row.chosen, row.rejected) == (CHAT.prompt, CHAT.chosen, CHAT.rejected)
    assert row.chosen_ends
    assert row.rejected_ends


def test_the_built_in_set_is_small_and_says_its_licence():
    rows = read_preferences("hh-harmless")
    assert len(rows) == 736
    assert not any(map(is_text, rows))
    readme = (PREFERENCE_SETS / "README.md").read_text(encoding="utf-8")
    assert f"{len(rows)} pairs of HH-RLHF" in readme
    assert "MIT" in readme
    assert (PREFERENCE_SETS / "hh-harmless.jsonl").stat().st_size < 400_000


def test_no_prompt_that_evaluations_ask_is_trained_on():
    from stars_guard.evaluation.tasks.sources import SETS

    asked = {
        str(json.loads(line).get("prompt")).strip().lower()
        for file in SETS.glob("*.jsonl")
        for line in file.read_text(encoding="utf-8").splitlines()
    }
    trained = {
        turn["content"].strip().lower() for row in read_preferences("hh-harmless") for turn in row.prompt
    }
    assert asked
    assert not asked & trained


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ([], r"preferences\.jsonl:1: a preference is a JSON object, not list"),
        ({"prompt": "SECRET", "chosen": "SECRET"}, "no preference: rejected: Field required"),
        ({"prompt": "SECRET", "chosen": "a", "rejected": 3}, "rejected.str=3"),
        ({"prompt": "SECRET", "chosen": "a", "rejected": [{"role": "b"}]}, "are all texts, or all lists"),
        ({"prompt": "SECRET", "chosen": "", "rejected": "a"}, "and none is empty"),
        ({"prompt": TURNS, "chosen": [], "rejected": TURNS}, "and none is empty"),
        ({"messages": TURNS, "chosen": "SECRET"}, "rejected: Field required"),
    ],
)
def test_a_wrong_row_is_named_without_a_text(tmp_path, line, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        read_preferences(written(tmp_path, line))
    assert "SECRET" not in str(caught.value)


def test_a_place_without_preferences_is_said(tmp_path):
    (tmp_path / "broken.jsonl").write_text("{")
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "a_file").write_text("")
    for place, message in (
        ("away.jsonl", "No such file.*built-in set: hh-harmless"),
        ("broken.jsonl", r"broken\.jsonl:1: not JSON"),
        ("empty.jsonl", "has no rows"),
        ("folder", "no folder that datasets saved"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            read_preferences(str(tmp_path / place))
    with pytest.raises(ConfigurationError, match=r"--output .* cannot be written"):
        write_preferences([PLAIN], tmp_path / "a_file" / "rows.jsonl")


def test_prompts_become_rows_of_a_batch_each_once():
    others = [PLAIN.model_copy(update={"prompt": f"and {number}"}) for number in range(8)]
    rows = prompt_rows([CHAT, CHAT, PLAIN, *others], 99, seed=0)
    assert len(rows) == 10
    assert len({row.id for row in rows}) == 10
    assert {row.as_prompt.as_text() for row in rows} >= {"how do i bake", "and 3"}
    few = prompt_rows([CHAT, PLAIN, *others], 3, seed=0)
    assert few == rows[:3]
    assert few != prompt_rows([CHAT, PLAIN, *others], 3, seed=1)


def test_the_rows_are_written_as_a_batch_reads_them(tmp_path):
    prompts("hh-harmless", tmp_path / "rows.jsonl", limit=5)
    assert len(list(read_rows(tmp_path / "rows.jsonl"))) == 5


def test_rows_of_two_forms_are_refused_since_trl_looks_at_the_first_alone(tmp_path):
    with pytest.raises(ConfigurationError, match="rows of texts and rows of chat turns"):
        read_preferences(written(tmp_path, PLAIN.model_dump(), CHAT.model_dump()))


def test_a_dictionary_of_splits_is_read_by_its_training_split(tmp_path):
    from datasets import DatasetDict

    DatasetDict({"train": as_dataset([CHAT])}).save_to_disk(tmp_path / "splits")
    assert read_preferences(str(tmp_path / "splits")) == [CHAT]
    DatasetDict({"test": as_dataset([CHAT])}).save_to_disk(tmp_path / "others")
    with pytest.raises(ConfigurationError, match="has no rows"):
        read_preferences(str(tmp_path / "others"))
