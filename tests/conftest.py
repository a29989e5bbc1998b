"""Settings for every test: nothing reaches a network, and torch does not fight over cores."""

from __future__ import annotations

import gc
import os

from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# They run in environments of their own: make test-clients.
collect_ignore = ["clients"]

# Machines are noisy, so no deadline; and the same examples every time.
settings.register_profile("stars_guard", deadline=None, derandomize=True)
settings.load_profile("stars_guard")


def pytest_collection_finish():
    """Modules stay until the end, so no garbage collection need walk through them again."""
    gc.collect()
    gc.freeze()
