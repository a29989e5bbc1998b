"""The same batch on Ray: every row once, with the same answer, whatever becomes of the workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from stars_guard import Budget, ConfigurationError, SamplingParams
from stars_guard.algorithm.trace import Trace, read_jsonl
from stars_guard.batch.answers import RowResult
from stars_guard.batch.manifest import Manifest
from stars_guard.batch.ray import Worker, answers_on_ray, guard_dataset
from stars_guard.batch.rows import Row, read_rows
from stars_guard.batch.runner import answers_here
from stars_guard.batch.storage import Output
from stars_guard.errors import MissingExtraError
from tests.support.batch_guard import CONFIG, KEY, guard

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_row_once_after_a_killed_worker(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    source, answers = tmp_path / "prompts.jsonl", tmp_path / "answers.jsonl"
    source.write_text("".join(json.dumps({"id": f"r{n}", "prompt": f"p{n}"}) + "\n" for n in range(24)))
    here = {one.answer.id: one.answer for one in answers_here(guard(), read_rows(source), 4)}
    wanted = Manifest.of(source, {}, CONFIG, SamplingParams(seed=11), Budget(), KEY)
    with Output(answers, tmp_path / "traces.jsonl", wanted) as output:
        for done in answers_here(guard(), list(read_rows(source))[:5], 1):
            output.write(done)
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.support.batch_on_ray", str(tmp_path)]
    ran = subprocess.run(
        command, env=os.environ | quiet, cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert (tmp_path / "killed").read_text().isdecimal()
    found = [RowResult.model_validate_json(line) for line in answers.read_text().splitlines()]
    assert Counter(one.id for one in found) == Counter(here.keys())
    assert {(one.id, one.seed, one.text) for one in found} == {
        (one.id, one.seed, one.text) for one in here.values()
    }
    assert Counter(one.run_id for one in found) == Counter(
        one.run_id for one in read_jsonl(tmp_path / "traces.jsonl")
    )


def test_a_worker_reads_columns_and_rows() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    rows = [Row(id="a", prompt="p1"), Row(id="b", prompt="broken")]
    columns = pyarrow.Table.from_pylist([{"id": one.id, "prompt": one.prompt, "seed": None} for one in rows])
    texts = pyarrow.Table.from_pylist(
        [{"id": one.id, "row": one.model_dump_json(exclude_none=True)} for one in rows]
    )
    worker = Worker(guard, 2, KEY)
    here = {one.answer.id: one.answer for one in answers_here(guard(), rows, 2)}
    for batch in (columns, texts):
        found = {one["id"]: one for one in worker(batch).to_pylist()}
        assert {key: one["text"] for key, one in found.items()} == {
            key: one.text for key, one in here.items()
        }
        assert json.loads(found["a"]["summary"])["segments"] == 2
        assert Trace.model_validate_json(found["a"]["trace"]).run_id == found["a"]["run_id"]
        assert json.loads(found["b"]["error"])["type"] == "ScoringError"


def test_a_row_that_is_none_is_named() -> None:
    pyarrow = pytest.importorskip("pyarrow")
    with pytest.raises(ConfigurationError, match=r"row 'a': .*'prompt' or 'messages'"):
        Worker(guard, 2, KEY)(pyarrow.Table.from_pylist([{"id": "a"}]))


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"stars-guard\[ray\]"):
        next(answers_on_ray(guard, []))
    with pytest.raises(MissingExtraError):
        guard_dataset(None, guard)  # type: ignore[arg-type]
