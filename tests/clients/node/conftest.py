"""The process that the clients in JavaScript run in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from driven import Node

HERE = Path(__file__).parent
ENVIRONMENT = Path(sys.prefix)
MODULES = ENVIRONMENT / "modules"
"""Where set_up.sh installed the packages: what imports them must lie there."""


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    for module in [*HERE.glob("*.mjs"), HERE / "page.html"]:
        shutil.copy(module, MODULES)
    command = [str(ENVIRONMENT / "bin" / "node"), str(MODULES / "driver.mjs")]
    # The browser is unpacked into TMPDIR, once.
    environment = {**os.environ, "TMPDIR": str(MODULES)}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield Node(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=30) == 0
