"""Programs that run one after another, each in a fork of one process that has loaded the embedded models.

To import the libraries and to load the models takes longer than most programs do. So one process does it,
once, and forks for each program: nothing of a program reaches the next one.
Run: python -m tests.support.programs; each line that it reads is JSON, a program and a file for its output.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIBRARIES = (
    "langchain.agents",
    "langchain_stars_guard",
    "llama_index.llms.stars_guard",
    "sentence_transformers",
)


class Programs:
    """The process that has loaded everything."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, program: Path, output: Path) -> int:
        """The exit status of a program that runs in the root.

        Args:
            program: a Python file.
            output: takes what the program writes to standard output and to standard error.
        """
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([str(program), str(output)]) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


@contextmanager
def loaded() -> Iterator[Programs]:
    """Load, and end with the last program."""
    command = [sys.executable, "-m", "tests.support.programs"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            yield Programs(process)
        finally:
            process.kill()


def main(lines: Iterable[str]) -> None:
    """Load everything, then run the programs as they are named."""
    import torch

    from stars_guard import StarsGuardedLLM

    # Threads do not survive a fork.
    torch.set_num_threads(1)
    StarsGuardedLLM.load()
    for library in LIBRARIES:
        import_module(library)
    for line in lines:
        program, output = json.loads(line)
        child = os.fork()
        if not child:
            become(program, output)
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)  # noqa: T201


def become(program: str, output: str) -> None:
    """Run a program as Python itself would, with its output in a file."""
    with Path(output).open("wb") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    sys.argv = [program]
    sys.path[0] = str(Path(program).parent)
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    main(sys.stdin)
