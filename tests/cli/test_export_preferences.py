"""``export-preferences``: from a traced batch, or an evaluation, to rows that trl takes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from stars_guard.training.preference_data import read_preferences
from tests.support.cli_runner import ANSWER, HARD, Run, loaded, run

__all__ = ["loaded", "run"]  # pytest finds fixtures by name


@pytest.fixture
def batch(run: Run, tmp_path: Path) -> dict[str, str]:
    """The files of a traced batch of two rows, by option."""
    files = {name: str(tmp_path / f"{name}.jsonl") for name in ("prompts", "answers", "traces")}
    rows = [{"id": f"row {number}", "prompt": f"Bake {number}?"} for number in range(2)]
    Path(files["prompts"]).write_text("\n".join(map(json.dumps, rows)))
    flags = ["--input", files["prompts"], "--output", files["answers"], "--traces", files["traces"]]
    assert run("batch", *flags, "--keep-rejected-text", *HARD).code == 0
    return files


def joined(batch: dict[str, str]) -> list[str]:
    return [batch["traces"], "--prompts", batch["prompts"], "--answers", batch["answers"]]


def test_a_traced_batch_becomes_pairs(run: Run, batch: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "made" / "pairs.jsonl"
    done = run("export-preferences", *joined(batch), "--output", str(output))
    assert done.out == f"4 pairs from 2 of 2 answers in {output}\n"
    rows = read_preferences(str(output))
    assert {row.prompt[0]["content"] for row in rows} == {"Bake 0?", "Bake 1?"}
    assert {row.chosen[0]["content"] for row in rows} == {"Knead it. ", ANSWER}
    assert {row.rejected[0]["content"] for row in rows} == {"Add poison. ", "Knead it. Then bake poison."}


def test_limits_forms_and_the_summary(run: Run, batch: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "pairs.jsonl"
    flags = ["--output", str(output), "--format", "plain", "--per-answer", "1", "--json"]
    done = run("export-preferences", *joined(batch), *flags)
    assert json.loads(done.out) == {"traces": 2, "unknown": 0, "paired": 2, "pairs": 2}
    assert {row.prompt for row in read_preferences(str(output))} == {"Bake 0?", "Bake 1?"}
    done = run("export-preferences", *joined(batch), "--output", str(output), "--min-margin", "9")
    assert done.code == 2
    assert "no pair in 2 traces" in done.err


def test_prompts_whose_ids_are_run_ids_need_no_answers(
    run: Run, batch: dict[str, str], tmp_path: Path
) -> None:
    answers = [json.loads(line) for line in Path(batch["answers"]).read_text().splitlines()]
    (tmp_path / "by-run.jsonl").write_text(json.dumps({"id": answers[0]["run_id"], "prompt": "Bake?"}))
    flags = ["--prompts", str(tmp_path / "by-run.jsonl"), "--output", str(tmp_path / "pairs.jsonl")]
    done = run("export-preferences", batch["traces"], *flags)
    assert "2 pairs from 1 of 2 answers" in done.out
    assert "the prompts of 1 are not there" in done.out


def test_an_evaluation_keeps_the_prompts_itself(run: Run, batch: dict[str, str], tmp_path: Path) -> None:
    for name, part in (("prompts", "rows"), ("answers", "answers"), ("traces", "traces")):
        place = tmp_path / "evaluation" / part / "harm" / "guarded.jsonl"
        place.parent.mkdir(parents=True)
        place.write_bytes(Path(batch[name]).read_bytes())
    traces = tmp_path / "evaluation" / "traces" / "harm" / "guarded.jsonl"
    output = tmp_path / "pairs.jsonl"
    assert run("export-preferences", str(traces), "--output", str(output)).code == 0
    assert len(read_preferences(str(output))) == 4


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["{traces}"], "lies in no folder of an evaluation; give --prompts and --answers"),
        (["{traces}", "--answers", "{answers}"], "--answers joins traces and --prompts; give both"),
        (["{traces}x", "--prompts", "{prompts}"], "TRACES .* is not a file"),
        (["{traces}", "--prompts", "{prompts}x"], "--prompts .* is not a file"),
        (["{traces}", "--prompts", "{prompts}", "--answers", "{answers}x"], "--answers .* is not a file"),
        (["{traces}", "--prompts", "{prompts}", "--answers", "{prompts}"], "no output of a batch: .*seed"),
    ],
)
def test_what_is_missing_is_said(
    run: Run, batch: dict[str, str], tmp_path: Path, flags: list[str], message: str
) -> None:
    given = [flag.format(**batch) for flag in flags]
    done = run("export-preferences", *given, "--output", str(tmp_path / "pairs.jsonl"))
    assert done.code == 2
    assert re.search(message, done.err)
    assert "Bake" not in done.err


def test_traces_without_texts_say_how_to_draw_others(
    run: Run, loaded: dict[str, Any], tmp_path: Path
) -> None:
    traces = tmp_path / "traces.jsonl"
    run("generate", "Bake?", "--trace-file", str(traces), *HARD)
    run_id = json.loads(traces.read_text())["run_id"]
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"id": run_id, "prompt": "Bake?"}))
    flags = ["--prompts", str(tmp_path / "prompts.jsonl"), "--output", str(tmp_path / "pairs.jsonl")]
    done = run("export-preferences", str(traces), *flags)
    assert done.code == 2
    assert "--keep-rejected-text" in done.err
