"""What libraries and Python itself say, brought into the server's own log without what users wrote."""

from __future__ import annotations

import logging
import re
import sys
import threading
from types import TracebackType
from typing import Any

log = logging.getLogger("stars_guard.server")

_QUERY = re.compile(r"(?<=\S)\?[^\s\"'<>)\]]+")
_REPR = re.compile(r"\s*[(<].*")
"""From where asyncio shows what a callback was called with, and what a task ended with."""
_LONGEST = 500


def line_message(record: logging.LogRecord) -> str:
    """Message of a log record. One of another package is cut, since its writer knew of no users:
    to its first line, without queries of URLs and words of exceptions.
    """
    if record.name.partition(".")[0] == "stars_guard":
        return record.getMessage()
    lines = _filled_in(record).splitlines() or [""]
    text = _QUERY.sub("?***", lines[0])[:_LONGEST]
    if record.exc_info and record.exc_info[1] and str(record.exc_info[1]):
        text = text.replace(str(record.exc_info[1]), "***")
    return _REPR.sub("", text) if record.name == "asyncio" else text


def _filled_in(record: logging.LogRecord) -> str:
    template = _named(record.msg)
    args = tuple(map(_named, record.args)) if isinstance(record.args, tuple) else record.args
    try:
        return str(template % args if args else template)
    except (TypeError, ValueError, KeyError):  # a wrong call, which logging would show with all it was given
        return str(template)


def _named(value: Any) -> Any:
    return type(value).__name__ if isinstance(value, BaseException) else value


def log_uncaught() -> None:
    """Have warnings, and exceptions that nobody catches in any thread, logged."""
    logging.captureWarnings(True)
    # A line that cannot be written would be shown with all that it was made of.
    logging.raiseExceptions = False
    sys.excepthook = _uncaught
    threading.excepthook = lambda hook: _uncaught(hook.exc_type, hook.exc_value, hook.exc_traceback)
    sys.unraisablehook = lambda hook: _uncaught(hook.exc_type, hook.exc_value, hook.exc_traceback)


def _uncaught(kind: type[BaseException], error: BaseException | None, places: TracebackType | None) -> None:
    """Log an exception of this ``kind``.

    Args:
        kind: its type.
        error: the exception; None for one that is given up early.
        places: where it came from.
    """
    if issubclass(kind, SystemExit | KeyboardInterrupt):
        return
    log.error("uncaught exception", exc_info=(kind, error or kind(), places))


def take_over(handler: logging.Handler) -> None:
    """Have what libraries write to the terminal themselves go through the server's log instead.

    Several begin to when they are imported, so this comes after the models are loaded.

    Args:
        handler: that of the server's log, at the root.
    """
    named = [each for each in logging.root.manager.loggerDict.values() if isinstance(each, logging.Logger)]
    for logger in (logging.root, *named):
        for other in list(logger.handlers):
            if other is not handler and _is_terminal(other):
                logger.removeHandler(other)
                logger.propagate = True


def _is_terminal(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
