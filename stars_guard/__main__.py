"""``python -m stars_guard``: the same as the command ``stars-guard``."""

import sys

from stars_guard.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
