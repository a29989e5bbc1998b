"""``stars-guard batch`` on fakes."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stars_guard.algorithm.trace import read_jsonl
from stars_guard.batch.keys import key_beside
from stars_guard.batch.rows import row_seed
from stars_guard.cli import batch
from stars_guard.testing import KeywordReward, ScriptedModel
from tests.support.batch_guard import SeededReward, script
from tests.support.cli_runner import HARD, Outcome, Run, loaded, run

__all__ = ["loaded", "run"]  # pytest finds fixtures by name


class Batch:
    def __init__(self, run: Run, folder: Path) -> None:
        self._run = run
        self.source, self.output = folder / "prompts.jsonl", folder / "answers.jsonl"

    def rows(self, *prompts: str) -> None:
        rows = [json.dumps({"id": f"r{number}", "prompt": one}) for number, one in enumerate(prompts)]
        self.source.write_text("\n".join(rows))

    def __call__(self, *flags: str) -> Outcome:
        return self._run("batch", "--input", str(self.source), "--output", str(self.output), *HARD, *flags)

    def summary(self, *flags: str) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads(self("--json", *flags).out)
        return summary

    @property
    def answers(self) -> dict[str, Any]:
        lines = [json.loads(line) for line in self.output.read_text().splitlines()]
        assert len({one["id"] for one in lines}) == len(lines)
        return {one["id"]: one for one in lines}


@pytest.fixture
def job(run: Run, loaded: dict[str, Any], tmp_path: Path) -> Batch:
    loaded.update(model=ScriptedModel(script), reward=SeededReward())
    made = Batch(run, tmp_path)
    made.rows("p0", "p1", "p2")
    return made


def test_answers_every_row(job: Batch, tmp_path: Path) -> None:
    done = job("--traces", str(tmp_path / "traces.jsonl"), "--seed", "4")
    assert (done.code, done.out) == (0, "")
    assert "3 of 3 rows in " in done.err
    answers = job.answers
    assert {key: one["seed"] for key, one in answers.items()} == {key: row_seed(4, key) for key in answers}
    assert answers["r1"]["text"].startswith("p1a")
    assert answers["r1"].keys() == {
        *("id", "seed", "text", "stop_reason", "refused", "usage", "summary", "run_id")
    }
    runs = {trace.run_id for trace in read_jsonl(tmp_path / "traces.jsonl")}
    assert runs == {one["run_id"] for one in answers.values()}


def test_json(job: Batch) -> None:
    summary = job.summary()
    assert summary["seconds"] > 0
    assert summary["kept_tokens"] > 0
    counts = {key: summary[key] for key in ("rows", "found", "answered", "refused", "failed")}
    assert counts == {"rows": 3, "found": 0, "answered": 3, "refused": 0, "failed": 0}


def test_goes_on_with_the_same_answers(job: Batch) -> None:
    job()
    whole = job.output.read_bytes()
    job.output.write_bytes(whole[:-20])
    summary = job.summary()
    assert (summary["found"], summary["answered"]) == (2, 1)
    before = {one["id"]: one["text"] for one in map(json.loads, whole.splitlines())}
    assert {key: one["text"] for key, one in job.answers.items()} == before
    assert job.summary()["answered"] == 0


def test_nothing_is_loaded_when_nothing_is_left(job: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    job()
    monkeypatch.setattr(batch, "load_wanted", None)
    assert job().code == 0


def test_another_batch_is_refused_before_anything_is_loaded(
    job: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    job()
    monkeypatch.setattr(batch, "load_wanted", None)
    done = job("--seed", "1", "--device", "cpu")
    assert done.code == 2
    assert "sampling.seed: '0' there, '1' now" in done.err
    assert "device" not in done.err
    job.rows("p0", "p1")
    assert "input: " in job().err


def test_keep_and_replace(job: Batch) -> None:
    job()
    job.rows("p0", "p1", "p2", "p3")
    assert job.summary("--existing", "keep")["found"] == 3
    assert job.summary("--existing", "replace")["answered"] == 4


def test_failed_rows_are_recorded_and_tried_again(job: Batch) -> None:
    job.rows("p0", "broken", "outage", "p3")
    done = job("--json")
    assert (done.code, json.loads(done.out)["failed"]) == (1, 2)
    errors = {key: one["error"]["type"] for key, one in job.answers.items() if "error" in one}
    assert errors == {"r1": "ScoringError", "r2": "GenerationError"}
    assert (job().code, job.summary("--retry-errors")["found"]) == (1, 2)


def test_fail_fast(job: Batch) -> None:
    job.rows("p0", "broken", *["p2"] * 50)
    done = job("--fail-fast", "--in-flight", "1", "--json")
    assert done.code == 1
    assert (json.loads(done.out)["answered"], len(job.answers)) == (1, 2)
    assert job.summary("--in-flight", "1", "--retry-errors")["answered"] == 50


def test_refusals_are_counted(job: Batch, loaded: dict[str, Any]) -> None:
    loaded.update(model=ScriptedModel([["poison"]]), reward=KeywordReward(["poison"]))
    assert job.summary()["refused"] == 3


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as in a foreground process: a shell that runs the tests in the background ignores it."""
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, inherited)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_leaves_an_output_that_goes_on(job: Batch, loaded: dict[str, Any]) -> None:
    class Interrupted(SeededReward):
        calls = 0

        def score(self, requests: Any) -> Any:
            self.calls += 1
            if self.calls == 5:
                signal.raise_signal(signal.SIGINT)
            return super().score(requests)

    loaded["reward"] = Interrupted()
    job.rows(*(f"p{number}" for number in range(30)))
    done = job("--in-flight", "1")
    assert done.code == 130
    assert " of 30 rows; the same command goes on" in done.err
    assert len(job.answers) < 30
    assert job.summary()["failed"] == 0
    assert len(job.answers) == 30


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--input", "nowhere.jsonl"], "--input nowhere.jsonl is not a file"),
        (["--output", "nowhere/answers.jsonl"], "--output nowhere/answers.jsonl cannot be written"),
        (["--traces", "nowhere/traces.jsonl"], "--traces nowhere/traces.jsonl cannot be written"),
        (["--on", "mars"], "'mars'"),
        (["--in-flight", "0"], "--in-flight"),
    ],
)
def test_wrong_options(job: Batch, flags: list[str], reason: str) -> None:
    done = job(*flags)
    assert done.code == 2
    assert reason in done.err


def test_files_must_differ(job: Batch) -> None:
    done = job("--traces", str(job.output))
    assert (done.code, "different files" in done.err) == (2, True)


def test_on_ray_is_given_the_options(job: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def elsewhere(load: Any, rows: Any, **options: Any) -> Any:
        seen.update(options)
        return batch.answers_here(load(), rows, 1)

    monkeypatch.setattr(batch, "answers_on_ray", elsewhere)
    flags = ["--on", "ray", "--workers", "2", "--block", "8", "--ray-address", "auto"]
    assert job.summary(*flags)["answered"] == 3
    assert seen.pop("acceptance_key").fingerprint == key_beside(job.output).fingerprint
    assert seen == {"address": "auto", "concurrency": 2, "batch_size": 8, "in_flight": 16}
    assert job.summary()["found"] == 3
