"""The matrix takes minutes and is no part of the usual suite: ``make test-families`` runs it."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("STARS_GUARD_FAMILIES") else ["test_*.py"]
