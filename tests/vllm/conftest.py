"""Run by ``make test-vllm`` alone, in an environment of its own; elsewhere nothing here is collected."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.vllm.server import VLLMServer

FOLDER = os.environ.get("STARS_GUARD_VLLM_MODEL")
"""Folder of the model to serve."""
collect_ignore_glob = [] if FOLDER else ["*.py"]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VLLMServer]:
    """The one server of the run."""
    from tests.vllm.server import running

    assert FOLDER is not None
    # So that the server ends with this process, when it is ended from outside.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with running(FOLDER, tmp_path_factory.mktemp("vllm") / "server.log") as served:
        yield served
