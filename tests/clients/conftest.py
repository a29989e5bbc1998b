"""The server, in a process and an environment of its own, and the clients' view of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from network import elsewhere
from running import Server

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PYTHON = os.environ.get("STARS_GUARD_PYTHON", str(ROOT / ".venv" / "bin" / "python"))

# The clients are unmodified; what they would report to elsewhere is off by their own switches.
os.environ |= {
    "OPENAI_API_KEY": "sk-not-for-this-server",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_EVALUATE_OFFLINE": "1",
}

if find_spec("stars_guard"):
    raise pytest.UsageError("stars_guard can be imported here; the clients must have nothing but HTTP")


@pytest.fixture
def server(running: Server) -> Server:
    running.forget()
    return running


@pytest.fixture(scope="session")
def running() -> Iterator[Server]:
    command = [PYTHON, str(HERE / "serve_scripted.py")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as process:
        try:
            yield Server(process)
        finally:
            process.terminate()
    assert process.returncode in (0, -15)


@pytest.fixture(autouse=True)
def _nobody_leaves() -> Iterator[None]:
    yield
    assert not elsewhere, f"a client wanted to reach {elsewhere}"
