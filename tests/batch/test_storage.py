"""The output of a batch: cut off at any byte and gone on with, every row is there once."""

from __future__ import annotations

from pathlib import Path

import pytest

from stars_guard import Budget, ConfigurationError, SamplingParams
from stars_guard.algorithm.trace import read_jsonl
from stars_guard.batch import manifest, storage
from stars_guard.batch.answers import Done, RowResult
from stars_guard.batch.manifest import Manifest
from stars_guard.batch.rows import Row
from stars_guard.batch.runner import answers_here
from stars_guard.batch.storage import Output
from tests.support.batch_guard import CONFIG, KEY, guard

ROWS = [Row(id=str(number), prompt=f"p{number}") for number in range(4)] + [Row(id="broken", prompt="broken")]


@pytest.fixture(scope="module")
def done() -> list[Done]:
    return list(answers_here(guard(), ROWS, 2))


@pytest.fixture
def wanted(tmp_path: Path) -> Manifest:
    source = tmp_path / "prompts.jsonl"
    source.write_text("some rows\n")
    return Manifest.of(source, {"model": None}, CONFIG, SamplingParams(seed=1), Budget(), KEY)


def fill(output: Output, done: list[Done]) -> int:
    with output:
        return sum(output.write(one) for one in done)


def lines(path: Path) -> list[RowResult]:
    return [RowResult.model_validate_json(line) for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("rest", range(0, 193, 16))
def test_cut_off_at_any_byte(
    rest: int, tmp_path: Path, done: list[Done], wanted: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", lambda file: None)
    answers, traces = tmp_path / "answers.jsonl", tmp_path / "traces.jsonl"
    fill(Output(answers, traces, wanted), done)
    whole, all_traces = answers.read_bytes(), traces.read_bytes()
    for cut in range(rest, len(whole), 193):
        answers.write_bytes(whole[:cut])
        # The trace of a row is written first, so at least as many are there.
        traces.write_bytes(
            all_traces if rest % 2 else all_traces[: len(all_traces) * (cut + 193) // len(whole)]
        )
        left = whole[:cut].count(b"\n")
        assert fill(Output(answers, traces, wanted), list(reversed(done))) == len(done) - left
        found = lines(answers)
        assert sorted(one.id for one in found) == sorted(row.id for row in ROWS)
        assert {one.line() for one in found} == {one.answer.line() for one in done}


def test_traces_without_answer_are_dropped(tmp_path: Path, done: list[Done], wanted: Manifest) -> None:
    answers, traces = tmp_path / "answers.jsonl", tmp_path / "traces.jsonl"
    fill(Output(answers, traces, wanted), done)
    first, rest = answers.read_bytes().split(b"\n", 1)
    answers.write_bytes(first + b"\n" + rest[:5])
    fill(Output(answers, traces, wanted), done)
    assert sorted(one.run_id for one in read_jsonl(traces)) == sorted(one.answer.run_id or "" for one in done)


def test_a_row_is_written_once(tmp_path: Path, done: list[Done], wanted: Manifest) -> None:
    output = Output(tmp_path / "answers.jsonl", None, wanted)
    assert fill(output, [*done, *done]) == len(done)
    assert (len(output.ids), output.failed) == (5, 1)


def test_errors_may_be_tried_again(tmp_path: Path, done: list[Done], wanted: Manifest) -> None:
    answers = tmp_path / "answers.jsonl"
    fill(Output(answers, None, wanted), done)
    assert fill(Output(answers, None, wanted), done) == 0
    output = Output(answers, None, wanted, retry_errors=True)
    assert (len(output.ids), output.failed) == (4, 0)
    assert fill(output, done) == 1
    assert [one.id for one in lines(answers) if one.error] == ["broken"]


def test_the_output_of_another_batch_is_refused(tmp_path: Path, done: list[Done], wanted: Manifest) -> None:
    answers = tmp_path / "answers.jsonl"
    fill(Output(answers, None, wanted), done[:1])
    other = wanted.model_copy(update={"sampling": {**wanted.sampling, "seed": 2}})
    with pytest.raises(ConfigurationError, match=r"another batch \(sampling.seed: '1' there, '2' now\)"):
        Output(answers, None, other)
    assert fill(Output(answers, None, other, existing="keep"), done) == len(done) - 1
    assert fill(Output(answers, None, other), done) == 0
    assert fill(Output(answers, tmp_path / "traces.jsonl", wanted, existing="replace"), done) == len(done)


def test_a_file_of_something_else_is_refused(tmp_path: Path, wanted: Manifest) -> None:
    answers = tmp_path / "answers.jsonl"
    answers.write_text("notes of mine\n")
    with pytest.raises(ConfigurationError, match="without a manifest"):
        Output(answers, None, wanted)
    with pytest.raises(ConfigurationError, match=r"answers.jsonl:1: not of a batch"):
        Output(answers, None, wanted, existing="keep")
    manifest.place(answers).write_text("{}")
    with pytest.raises(ConfigurationError, match="not a manifest"):
        Output(answers, None, wanted)
    assert answers.read_text() == "notes of mine\n"


def test_one_run_at_a_time(tmp_path: Path, done: list[Done], wanted: Manifest) -> None:
    answers = tmp_path / "answers.jsonl"
    with Output(answers, None, wanted), pytest.raises(ConfigurationError, match="another run"):
        Output(answers, None, wanted)
    assert fill(Output(answers, None, wanted), done) == len(done)


def test_without_locks(
    tmp_path: Path, done: list[Done], wanted: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fcntl", None)
    assert fill(Output(tmp_path / "answers.jsonl", None, wanted), done) == len(done)


def test_the_disk_is_asked_to_keep_them(
    tmp_path: Path, done: list[Done], wanted: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "_SYNC_SECONDS", 0.0)
    output = Output(tmp_path / "answers.jsonl", None, wanted)
    synced: list[int] = []
    monkeypatch.setattr(output, "sync", lambda: synced.append(len(output.ids)))
    fill(output, done)
    assert synced == [1, 2, 3, 4, 5, 5]
