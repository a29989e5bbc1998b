"""What others' instruments are pointed at: the server with the guard on and off, and prompts."""

from __future__ import annotations

import ast
import subprocess
import sysconfig
from pathlib import Path

import pytest
import yaml

from stars_guard.algorithm.config import GuardConfig
from stars_guard.algorithm.rules import Position
from stars_guard.server.config import ServerConfig
from stars_guard.types import Channel

INSTRUMENTS = Path(__file__).parents[2] / "benchmarks" / "instruments"
SETS = Path(__file__).parents[2] / "stars_guard" / "evaluation" / "tasks" / "sets"


def served(name):
    return ServerConfig.of_file(INSTRUMENTS / f"{name}.yaml")


@pytest.mark.parametrize("channel", Channel)
def test_without_guard_everything_is_accepted(channel):
    rules = served("unguarded").guard.rules(channel)
    at = Position(tokens=8, segment=1, max_tokens=64, base_reward=-5.0, final=True)
    assert rules.probability(-1e6, rules.bar(at)) == 1
    assert not rules.needs_base_reward


def test_the_judge_is_not_what_guides():
    assert served("guarded").reward != served("unguarded").reward
    assert served("guarded").served_name == served("unguarded").served_name


def test_refusals_are_counted_by_the_text_that_the_guard_shows():
    task = yaml.safe_load((INSTRUMENTS / "lm_eval" / "xstest_safe.yaml").read_text(encoding="utf-8"))
    refusal = GuardConfig(threshold=0.0).refusal_text
    assert task["doc_to_target"] == refusal
    pattern = task["filter_list"][0]["filter"][0]["regex_pattern"]
    assert refusal.replace(".", r"\.") in pattern


def test_the_prompts_are_there():
    tree = ast.parse((INSTRUMENTS / "inspect_tasks.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = [
        call.args[0].value for call in calls if isinstance(call.func, ast.Name) and call.func.id == "_task"
    ]
    assert len(named) == 2
    assert all((SETS / f"{name}.jsonl").exists() for name in named)


def test_the_script_is_sound():
    check = Path(sysconfig.get_path("scripts")) / "shellcheck"
    done = subprocess.run([check, INSTRUMENTS / "run.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
