"""Files of settings: what is wrong with one is a single line that names it, and no traceback."""

from __future__ import annotations

import json
import os

import pytest

from stars_guard.batch import manifest
from stars_guard.calibration.labelled import read_labelled
from stars_guard.calibration.procedure import read_prompts
from stars_guard.cli.app import QUIET, main
from stars_guard.errors import ConfigurationError
from stars_guard.settings_file import parsed_json, read_settings

LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{after}: &{after} [*{name}, *{name}]\n" for name, after in zip("abcdefgh", "bcdefghi", strict=True)
)
WRONG = {
    ("toml", "not finished"): ("a =\nb = 1", "line 1"),
    ("toml", "name twice"): ("a = 1\na = 2\n", "line 2"),
    ("toml", "table twice"): ("[a]\n[a]", "line 2"),
    ("toml", "deep arrays"): ("a = " + "[" * 100_000, "nested too deeply"),
    ("toml", "deep tables"): ("a = " + "{b = " * 40 + "1" + "}" * 40, "nested more than 32"),
    ("toml", "deep names"): (".".join("a" * 100) + " = 1", "nested more than 32"),
    ("toml", "nan"): ("[a]\nb = [1.0, nan]", "a.b.1 is nan; give a finite number"),
    ("toml", "infinity"): ("a = -inf", "a is -inf"),
    ("toml", "long number"): ("a = " + "9" * 5000, "4300 digits"),
    ("toml", "other encoding"): (b"a = 1\nb = '\xff'", "line 2 is not UTF-8"),
    ("toml", "no text"): (b"\x00\x01", "line 1"),
    ("yaml", "not finished"): ("a:\n  - [", "line 2"),
    ("yaml", "laughs"): (LAUGHS, "line 2: aliases"),
    ("yaml", "self reference"): ("a: &a [*a]", "line 1: aliases"),
    ("yaml", "merge"): ("a: {<<: {b: 1}}", "line 1: merges"),
    ("yaml", "name twice"): ("a: 1\nb: 1\na: 2", "line 3: the name 'a' stands twice"),
    ("yaml", "inner name twice"): ("a:\n  b: 1\n  b: 2", "line 3: the name 'b' stands twice"),
    ("yaml", "deep lists"): ("a: " + "[" * 100_000, "nested"),
    ("yaml", "deep blocks"): ("".join("  " * n + "a:\n" for n in range(60)), "line 32: it is nested"),
    ("yaml", "two documents"): ("a: 1\n---\nb: 2", "another document"),
    ("yaml", "unknown tag"): (
        "a: !thing 1",
        "line 1: could not determine a constructor for the tag",
    ),
    ("yaml", "code"): ("a: !!python/object/apply:os.system [true]", "could not determine a constructor"),
    ("yaml", "wrong integer"): ("a: !!int x", "x"),
    ("yaml", "wrong time"): ("a: !!timestamp x", "not YAML"),
    ("yaml", "key of a list"): ("[a]: 1", "line 1: found unhashable key"),
    ("yaml", "key of a number"): ("1: 1", "the name 1 is no text"),
    ("yaml", "nan"): ("a: .nan", "a is nan"),
    ("yaml", "control"): ("a: \x00", "not YAML"),
    ("yaml", "list"): ("- a", "holds no settings"),
    ("yaml", "scalar"): ("a", "holds no settings"),
    ("ini", "language"): ("a = 1", "neither .toml nor .yaml"),
}


@pytest.mark.parametrize(("kind", "contents", "words"), [(kind[0], *case) for kind, case in WRONG.items()])
def test_what_is_wrong_is_one_line_that_names_file_and_place(
    tmp_path, kind, contents, words, capsys, monkeypatch
):
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    path = tmp_path / f"settings.{kind}"
    path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    with pytest.raises(ConfigurationError) as caught:
        read_settings(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500
    assert main(["config", "check", str(path)]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1


def test_what_is_no_file_of_settings(tmp_path, monkeypatch):
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    (tmp_path / "long.toml").write_text("#" * 2**21)
    os.mkfifo(tmp_path / "pipe.toml")
    cases = {
        "folder.toml": "it is no file",
        "pipe.toml": "it is no file",
        "loop.toml": "cannot be read",
        "nowhere.toml": "No such file",
        "nul\0.toml": "null",
        "long.toml": "longer than",
    }
    for name, words in cases.items():
        with pytest.raises(ConfigurationError, match=words):
            read_settings(tmp_path / name)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_settings("~nobody-of-this-name/c.toml")


def test_right_files_are_read(tmp_path):
    toml, yaml, empty = tmp_path / "a.toml", tmp_path / "a.yaml", tmp_path / "b.yml"
    toml.write_text("\ufeffa = [{b = 1.5}]", encoding="utf-8")
    yaml.write_text('a: [{b: 1.5}]\n"c": {d: [], ? [1] : 2}', encoding="utf-8")
    empty.write_text("")
    assert read_settings(toml) == {"a": [{"b": 1.5}]}
    assert read_settings(empty) == {}
    with pytest.raises(ConfigurationError, match="unhashable"):
        read_settings(yaml)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "line 1"),
        ('{"a": {"b": 1, "b": 2}}', "the name 'b' stands twice"),
        ("[NaN]", "NaN is no number"),
        ("[-Infinity]", "-Infinity is no number"),
        ("[" * 200_000, "nested too deeply"),
    ],
)
def test_json_is_held_to_the_same(text, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        parsed_json(text)
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    for read in (manifest.read, read_labelled, read_prompts):
        with pytest.raises(ConfigurationError, match=r"a\.jsonl"):
            read(path)


def test_a_manifest_that_is_no_file(tmp_path):
    with pytest.raises(ConfigurationError, match="it is no file"):
        manifest.read(tmp_path)
    assert parsed_json(json.dumps({"a": [1, {"b": None}]})) == {"a": [1, {"b": None}]}
