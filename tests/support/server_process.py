"""A process that serves on a free port of the loopback interface."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def serving(program: str) -> Iterator[tuple[subprocess.Popen[str], tuple[str, int]]]:
    """A process, whose standard error holds the lines it writes from then on, and the address it serves at.

    Args:
        program: Python that serves as ``stars-guard serve --port 0`` does.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )
    assert process.stderr is not None
    try:
        place = next(
            match for line in process.stderr if (match := re.search(r"http://127\.0\.0\.1:(\d+)", line))
        )
        yield process, ("127.0.0.1", int(place[1]))
    finally:
        process.kill()
        process.communicate()
