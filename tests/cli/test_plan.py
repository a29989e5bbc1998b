"""``stars-guard plan``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stars_guard.algorithm.trace import write_jsonl
from tests.support.batch_guard import guard
from tests.support.cli_runner import Run, loaded, run

__all__ = ["loaded", "run"]  # pytest finds fixtures by name

SMALL = ["--requests-per-second", "1", "--answer-tokens", "64"]


def test_json(run: Run) -> None:
    done = run("plan", "--json", *SMALL, "--engine-price", "3")
    assert done.code == 0
    plan = json.loads(done.out)
    assert plan["met"]
    assert plan["fleet"] == {"engines": 1, "rewards": 1, "guards": 1}
    assert plan["cost_per_hour"] == 3.0
    assert plan["scenario"]["traffic"]["answer_tokens"] == {"64": 1.0}
    assert plan["answer"]["p95"] <= plan["target"]["p95"]


def test_a_table(run: Run) -> None:
    done = run("plan", *SMALL)
    assert done.code == 0
    assert "1 engines, 1 reward models, 1 guards" in done.out
    assert "most requests/s" in done.out


def test_a_given_fleet(run: Run) -> None:
    done = run("plan", *SMALL, "--engines", "8", "--rewards", "4", "--guards", "2", "--json")
    plan = json.loads(done.out)
    assert (plan["fleet"], plan["cells"]) == ({"engines": 8, "rewards": 4, "guards": 2}, 2)


def test_an_unmet_target_fails(run: Run) -> None:
    done = run("plan", *SMALL, "--p95", "0.1", "--max-engines", "1")
    assert done.code == 1
    assert "not met: 95 of 100 answers take" in done.out


def test_measured(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    write_jsonl(file, [guard().generate("p1").trace])
    plan = json.loads(run("plan", "--json", "--measured", str(file), "--no-ahead").out)
    assert plan["scenario"]["traffic"]["answer_tokens"] == {"12": 1.0}
    assert not plan["scenario"]["guarding"]["ahead"]
    plan = json.loads(run("plan", "--json", *SMALL, "--attempts", "1:3,2:1").out)
    assert plan["scenario"]["guarding"]["attempts"] == {"1": 3.0, "2": 1.0}


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--acceptance", "0"], "--acceptance 0.0 must be over 0"),
        (["--acceptance", "0.5", "--attempts", "1"], "--acceptance and --attempts say the same"),
        (["--attempts", "one"], "--attempts 'one': write it like"),
        (["--engine-tokens", "1:x"], "--engine-tokens '1:x'"),
        (["--engine-tokens", "1:9,2:8"], "must not be slower"),
        (["--answer-tokens", "0"], "1 token or more"),
        (["--engines", "1"], "--engines and --rewards go together"),
        (["--requests-per-second", "0"], "requests_per_second=0.0"),
    ],
)
def test_wrong_options(run: Run, flags: list[str], reason: str) -> None:
    done = run("plan", *flags)
    assert done.code == 2
    assert reason in done.err


def test_patience_ends_hopeless_segments_early(run: Run) -> None:
    most = {}
    for kind in ("fixed", "posterior"):
        done = run(
            "plan", "--acceptance", "0.1", "--patience", kind, "--json", "--engines", "9", "--rewards", "9"
        )
        most[kind] = max(map(int, json.loads(done.out)["scenario"]["guarding"]["attempts"]))
    assert most == {"fixed": 20, "posterior": 13}
