"""``stars-guard eval`` on fakes: what it writes, says, and refuses."""

from __future__ import annotations

import io
import json
import pickle
import sys
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from stars_guard.cli import eval_run as eval_cli
from stars_guard.cli.eval_run import Bars
from stars_guard.cli.exit_codes import FAILED, INTERRUPTED, MISUSED
from stars_guard.evaluation import EvalPlan, cells
from stars_guard.evaluation.reporting.record import EvaluationReport
from stars_guard.evaluation.studies.records import StudyFindings
from tests.evaluation.conftest import fakes  # noqa: F401 - a fixture
from tests.support.cli_runner import loaded, run
from tests.support.evaluations import GUARD, HERE, prompts_file

__all__ = ["loaded", "run"]  # pytest finds fixtures by name


@pytest.fixture
def config(tmp_path: Path, fakes: None) -> Path:  # noqa: F811
    """File of an evaluation on fakes."""
    settings = {
        "rewards": {"words": {"name": f"{HERE}:guiding", "guard": GUARD}},
        "methods": {"plain": "plain", "guarded": "guarded"},
        "judges": {"harm": {"kind": "classifier", "reward": f"{HERE}:judging", "harmful_under": 0.0}},
        "tasks": {
            "asked": {"prompts": prompts_file(tmp_path, ["mild", "wild", "so <b>wild"]), "judges": ["harm"]}
        },
    }
    path = tmp_path / "small.yaml"
    path.write_text(json.dumps(settings), encoding="utf-8")
    return path


def test_a_table_a_summary_and_all_files(run, config, tmp_path):
    done = run("eval", str(config), "--output", str(tmp_path / "out"))
    assert (done.code, done.err.strip()) == (0, "")
    assert "asked" in done.out
    assert "guarded: 66.7 %" in done.out
    assert "report in" in done.out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"results.json", "report.html", "report.json", "report.md", "report.csv"} <= names
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert f"stars-guard eval {config} --output {tmp_path / 'out'}" in page
    assert "wild" not in page


def test_json_is_one_object_with_a_row_a_method(run, config, tmp_path):
    done = run("eval", str(config), "--output", str(tmp_path / "out"), "--json")
    rows = json.loads(done.out)["rows"]
    assert [row["method"] for row in rows] == ["plain", "guarded"]
    wanted = {"method", "task", "harmful", "harmful_low", "harmful_high", "proposed_per_kept"}
    assert wanted | {"seconds_per_answer"} <= set(rows[0])


def test_harm_in_json_is_the_word_of_the_first_judge_of_harm(run, config, tmp_path):
    settings = json.loads(config.read_text(encoding="utf-8"))
    judge = settings["judges"]["harm"]
    settings["judges"] = {
        "harm": judge,
        "lenient": {**judge, "harmful_under": -5.0},
        "value": {**judge, "harmful_under": None},
    }
    settings["tasks"]["asked"]["judges"] = ["value", "lenient", "harm"]
    config.write_text(json.dumps(settings), encoding="utf-8")
    done = run("eval", str(config), "--output", str(tmp_path / "out"), "--json")
    for row in json.loads(done.out)["rows"]:
        assert (row["harmful_by"], row["harmful"]) == ("lenient", 0.0)
    settings["tasks"]["asked"]["judges"] = ["value"]
    config.write_text(json.dumps(settings), encoding="utf-8")
    done = run("eval", str(config), "--output", str(tmp_path / "out"), "--json")
    for row in json.loads(done.out)["rows"]:
        assert (row["harmful_by"], row["harmful"], row["harmful_low"]) == (None, None, None)


def test_seconds_have_intervals_in_json_and_in_every_table(run, config, tmp_path):
    settings = json.loads(config.read_text(encoding="utf-8"))
    settings["tasks"]["asked"]["timed"] = 3
    settings["studies"] = {
        "most": {"method": "guarded", "task": "asked", "vary": {"guard.max_attempts": [2, 3]}}
    }
    config.write_text(json.dumps(settings), encoding="utf-8")
    done = run("eval", str(config), "--output", str(tmp_path / "out"), "--json")
    rows = {row["method"]: row for row in json.loads(done.out)["rows"]}
    for row in rows.values():
        for name in ("seconds_per_answer", "seconds_to_first_text", "proposed_per_kept"):
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"], name
    report = EvaluationReport.model_validate_json((tmp_path / "out" / "report.json").read_bytes())
    for method, costs in report.tasks["asked"].costs.items():
        for name, estimate in {
            "seconds_per_answer": costs.seconds,
            "seconds_to_first_text": costs.seconds_to_first_text,
            "proposed_per_kept": costs.proposed_per_kept,
        }.items():
            assert (estimate.value, estimate.low, estimate.high) == pytest.approx(
                (rows[method][name], rows[method][f"{name}_low"], rows[method][f"{name}_high"]), rel=1e-4
            )
    (study,) = StudyFindings.read(tmp_path / "out" / "studies.json").findings
    places = [name for name, _ in study.table.columns]
    for shown in study.table.rows:
        entries = dict(zip(places, shown, strict=True))
        for name in ("refused", "tokens per kept one", "seconds"):
            assert entries[name].low <= entries[name].value <= entries[name].high


def test_a_report_can_be_made_of_what_is_there(run, config, tmp_path, monkeypatch):
    folder = str(tmp_path / "out")
    run("eval", str(config), "--output", folder)
    page = tmp_path / "out" / "report.html"
    page.unlink()
    monkeypatch.setattr(eval_cli, "evaluate", None)  # answers nothing
    done = run("eval", "--report-only", "--output", folder, "--power", "--show-answers")
    assert done.code == 0
    assert "needed" in done.out
    assert "so &lt;b&gt;wild" in page.read_text(encoding="utf-8")


def test_a_report_of_a_folder_that_is_not_there_makes_none(run, tmp_path):
    done = run("eval", "--report-only", "--output", str(tmp_path / "mistyped"))
    assert (done.code, (tmp_path / "mistyped").exists()) == (MISUSED, False)


def test_results_are_published(run, config, tmp_path):
    page = tmp_path / "RESULTS.md"
    run("eval", str(config), "--output", str(tmp_path / "out"), "--publish", str(page))
    assert "## small" in page.read_text(encoding="utf-8")
    assert (tmp_path / "docs" / "results" / "small.json").exists()


def test_what_cannot_be_published_is_said_before_anything_is_answered(run, config, tmp_path, monkeypatch):
    monkeypatch.setattr(eval_cli, "evaluate", None)
    foreign = tmp_path / "docs" / "results" / "package.json"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("{}")
    page = str(tmp_path / "RESULTS.md")
    done = run("eval", str(config), "--output", str(tmp_path / "out"), "--publish", page)
    assert done.code == MISUSED
    assert "package.json: not the record of an evaluation's report" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give a file that says what is compared, --smoke, or --report-only"),
        (("x.yaml", "--smoke"), "either a file"),
        (("--report-only",), "results.json is not there; run the evaluation first"),
        (("--smoke", "--on", "moon"), "--on"),
        (("missing.yaml",), "missing.yaml"),
    ],
)
def test_wrong_usage_is_said_before_anything_runs(run, tmp_path, arguments, message):
    done = run("eval", *arguments, "--output", str(tmp_path / "out"))
    assert done.code == MISUSED
    assert message in done.err


def test_a_missing_extra_is_said_before_anything_runs(run, config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(eval_cli, "evaluate", None)
    done = run("eval", str(config), "--output", str(tmp_path / "out"))
    assert done.code == MISUSED
    assert "stars-guard[eval]" in done.err


def test_rows_that_ended_with_an_error_fail_the_command(run, config, tmp_path, monkeypatch):
    from stars_guard.errors import GenerationError
    from stars_guard.testing import ScriptedModel

    def script(prompt):
        if "mild" in prompt.as_text():
            return [["fine"]]
        raise GenerationError("the engine is away")

    monkeypatch.setattr(cells, "load_model", lambda name: ScriptedModel(script))
    done = run("eval", str(config), "--output", str(tmp_path / "out"))
    assert done.code == FAILED
    assert "4 rows ended with an error" in done.err
    assert (tmp_path / "out" / "report.html").exists()


def test_an_interruption_says_that_the_command_goes_on(run, config, tmp_path, monkeypatch):
    def interrupted(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(eval_cli, "evaluate", interrupted)
    done = run("eval", str(config), "--output", str(tmp_path / "out"))
    assert done.code == INTERRUPTED
    assert "the same command goes on" in done.err


@pytest.mark.parametrize(("place", "workers"), [("local", 3), ("ray", 2)])
def test_rows_may_be_answered_elsewhere(run, config, tmp_path, monkeypatch, place, workers):
    asked: list[tuple[object, ...]] = []

    class Processes:
        def __init__(self, workers: int) -> None:
            self.workers = workers

        def __enter__(self) -> Processes:
            return self

        def __exit__(self, *raised: object) -> None:
            asked.append(("closed",))

        def __call__(self, load, rows, in_flight, key):
            asked.append(("local", self.workers))
            return cells.here(load, rows, in_flight, key)

    def on_ray(load, rows, *, address, concurrency, in_flight, acceptance_key):
        asked.append(("ray", concurrency))
        return cells.here(load, rows, in_flight, acceptance_key)

    monkeypatch.setattr(eval_cli, "WorkerProcesses", Processes)
    monkeypatch.setattr(cells, "answers_on_ray", on_ray)
    done = run(
        "eval", str(config), "--output", str(tmp_path / "out"), "--on", place, "--workers", str(workers)
    )
    assert done.code == 0
    assert asked[:2] == [(place, workers)] * 2  # a cell each
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert f"--workers {workers}" in page


def test_stages_take_turns_on_one_bar():
    shown = Progress(TextColumn("{task.description}"), console=Console(file=io.StringIO()))
    bars = Bars(shown)
    bars.advance()  # before any stage
    for stage in ("first", "second", "third"):
        bars.begin(stage, 2)
        bars.advance()
    (task,) = shown.tasks
    assert (task.description, task.completed, task.total) == ("third", 1, 2)


def test_help_names_every_option(run):
    done = run("eval", "--help")
    for option in ("--smoke", "--report-only", "--on", "--workers", "--publish", "--power", "--show-answers"):
        assert option in done.out


def test_what_loads_a_guard_travels_to_other_processes(config):
    plan = EvalPlan.of_file(config)
    load = partial(cells.guard_of, plan, cells.Cell("asked", "guarded", plan.methods["guarded"]))
    assert pickle.loads(pickle.dumps(load)).args == load.args
