"""The entry point: runs a command and turns every failure into one line and an exit code.

Nothing here needs typer or rich, so that their absence can be said in one line, too.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Sequence

from stars_guard.cli.exit_codes import FAILED, INTERRUPTED, MISUSED
from stars_guard.errors import ConfigurationError, MissingExtraError, StarsGuardError
from stars_guard.loading.apart import still_loading


class _Notices(logging.Handler):
    """Says warnings on stderr where nobody else logs them, as a server does."""

    def emit(self, record: logging.LogRecord) -> None:
        handlers = logging.getLogger("stars_guard").handlers
        if all(isinstance(handler, logging.NullHandler) for handler in handlers):
            sys.stderr.write(f"warning: {record.getMessage()}\n")


_NOTICES = _Notices(logging.WARNING)
QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "critical",
    "TOKENIZERS_PARALLELISM": "false",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""Environment variables that quiet the libraries below us, where the user has not set them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line ``arguments`` (the process's own by default) and return the exit code."""
    _quiet()
    try:
        return _ended(_run(list(sys.argv[1:] if arguments is None else arguments)))
    except ConfigurationError as error:
        return _fail(str(error), MISUSED)
    except (StarsGuardError, OSError) as error:
        return _fail(str(error), FAILED)
    except KeyboardInterrupt:
        return _ended(INTERRUPTED)


def _ended(code: int) -> int:
    """The exit code; a process that was interrupted while models load ends here."""
    if code == INTERRUPTED and still_loading():
        # A thread in the midst of native code can crash an interpreter that shuts down around it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def _run(arguments: list[str]) -> int:
    try:
        from stars_guard.cli.program import run
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package not in ("typer", "rich"):
            raise
        raise MissingExtraError(package, "cli") from error
    return run(arguments)


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    return code


def _quiet() -> None:
    """Keep stderr for our own lines: no progress bars, notices or warnings of the libraries below us."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    # Forced and refused segments are in the summary line; without a handler they would be logged again.
    logging.getLogger("stars_guard").addHandler(logging.NullHandler())
    logging.getLogger("stars_guard.hub").addHandler(_NOTICES)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
