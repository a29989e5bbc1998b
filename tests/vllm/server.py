"""A real vLLM server on the CPU, for as long as a ``with`` block lasts."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

BLOCK = 32
"""Tokens of a block of the prefix cache: the fewest that the CPU has kernels for; 128 unless it is told."""
ARGUMENTS: dict[str, Any] = {
    "max_model_len": 2048,
    "max_num_seqs": 16,
    "block_size": BLOCK,
    # In bfloat16, results depend on what else is in the batch: see test_concurrency.py.
    "dtype": "float32",
    "enforce_eager": True,
    # On the CPU, vLLM 0.32 dies of a seeded prompt read in steps: "CPU Generator does not use offset".
    "enable_chunked_prefill": False,
}
"""Of the engine, on a server or in this process."""
_START = 900.0
"""Most seconds until it answers; about 25 on two cores that are free."""
PYTHON = os.environ.get("STARS_GUARD_VLLM_PYTHON", sys.executable)
"""Interpreter of an environment with vLLM; servers run there, and the tests may run elsewhere."""


def engine_environment() -> dict[str, str]:
    """What vLLM for CPUs must find in its environment."""
    # Its own OpenMP must come before the one in torch, or the threads are not bound.
    openmp = Path(PYTHON).parent.parent / "lib" / "libiomp5.so"
    settings = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{min(os.cpu_count() or 1, 2) - 1}",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "TORCHDYNAMO_DISABLE": "1",  # compiling for the first call with logprobs takes half a minute
    }
    return {**os.environ, **settings, **({"LD_PRELOAD": str(openmp)} if openmp.exists() else {})}


@dataclass(frozen=True)
class VLLMServer:
    """A running server: ``url`` is its root, ``model`` the name it serves."""

    url: str
    model: str
    log: Path

    def post(self, path: str, **body: Any) -> Any:
        """The parsed answer to a call that must succeed."""
        response = httpx.post(self.url + path, json={"model": self.model, **body}, timeout=120)
        assert response.is_success, f"{path}: status {response.status_code}: {response.text[:500]}"
        return response.json()

    def metric(self, name: str, **labels: str) -> float:
        """A counter or gauge, summed over all with these labels; 0 without any."""
        text = httpx.get(self.url + "/metrics", timeout=30).text
        found = re.findall(rf"^{re.escape(name)}(?:\{{(.*)\}})? (\S+)$", text, re.MULTILINE)
        assert found, f"no metric {name}"
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(float(value) for given, value in found if all(one in given for one in wanted))

    def ids(self, text: str) -> list[int]:
        """The ids of a user's message in the chat template, up to where the answer begins."""
        message = {"role": "user", "content": text}
        tokens: list[int] = self.post("/tokenize", messages=[message], add_generation_prompt=True)["tokens"]
        return tokens


@contextmanager
def running(folder: str, log: Path, *flags: str) -> Iterator[VLLMServer]:
    """Serve the model in ``folder``; ends with all its processes."""
    port = _free_port()
    command = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", folder]
    command += [
        "--served-model-name",
        "served",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        *_flags(),
        *flags,
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=engine_environment(), start_new_session=True
        )
    try:
        server = VLLMServer(f"http://127.0.0.1:{port}", "served", log)
        _wait_until_healthy(server, process)
        yield server
    finally:
        _stop(process)


def _flags() -> list[str]:
    words = []
    for name, value in ARGUMENTS.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", str(value)]
    return words


def _wait_until_healthy(server: VLLMServer, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(server.url + "/health", timeout=5).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.25)  # no event to wait for: another process opens the port
    raise RuntimeError(f"vLLM did not start:\n{server.log.read_text(errors='replace')[-3000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    # The session of its own holds the engine's processes as well.
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(20)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


if __name__ == "__main__":  # a server by hand, until end of input: python -m tests.vllm.server FOLDER LOG
    with running(sys.argv[1], Path(sys.argv[2])) as served:
        sys.stdout.write(json.dumps({"url": served.url, "model": served.model}) + "\n")
        sys.stdout.flush()
        sys.stdin.read()
