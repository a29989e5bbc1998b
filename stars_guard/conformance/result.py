"""What a check says, and all of it together."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from enum import StrEnum

from stars_guard.errors import ConformanceError, StarsGuardError
from stars_guard.settings import StoredRecord


class Status(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    WARNING = "warning"
    """The reward model works, but know about this."""
    FAILED = "failed"
    """Do not guard with it."""
    SKIPPED = "skipped"
    """There was nothing to check, for the reason in the message."""


class Result(StoredRecord):
    """What one check found."""

    name: str
    """Name of the check, which is that of its function."""
    status: Status
    message: str
    """What was found, with the values."""
    remedy: str = ""
    """What to do; empty when there is nothing to do."""
    values: Mapping[str, float] = {}
    """The figures behind the message; those in rewards have the reward's unit."""
    final: bool = False
    """Whether the checks after this one would make no sense."""


def passed(name: str, message: str, **values: float) -> Result:
    """What a check found that has nothing to complain about."""
    return Result(name=name, status=Status.PASSED, message=message, values=values)


def skipped(name: str, why: str) -> Result:
    """What a check found that had nothing to look at."""
    return Result(name=name, status=Status.SKIPPED, message=why)


def failed_with(name: str, error: StarsGuardError, remedy: str, *, final: bool = False) -> Result:
    """What a check found that ended in an error.

    Args:
        name: that of the check.
        error: its message is the result's.
        remedy: what to do about it.
        final: whether the checks after it would make no sense.
    """
    # A check's texts are its own, so the words of what went wrong may be told.
    message = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
    return Result(name=name, status=Status.FAILED, message=message, remedy=remedy, final=final)


def meant(error: StarsGuardError) -> str | None:
    """What an adapter said when it refused on purpose; None of an accident inside it."""
    cause = error.__cause__  # its own words, which are kept from those who did not write it
    if isinstance(cause, StarsGuardError):
        return str(cause)
    return str(error) if cause is None else None


class ConformanceReport(StoredRecord):
    """One result per check, in order. ``str(report)`` is a plain table."""

    reward: str
    """Name of the reward model."""
    results: tuple[Result, ...]
    seconds: float
    """All checks together."""

    def __getitem__(self, name: str) -> Result:
        """The result of one check; KeyError when it was not among them."""
        return {result.name: result for result in self.results}[name]

    def __str__(self) -> str:
        return "\n".join([f"{self.reward}: {self.summary}", *map(_line, self.results)])

    @property
    def failed(self) -> tuple[Result, ...]:
        """The results of the checks that failed."""
        return self._with(Status.FAILED)

    @property
    def warnings(self) -> tuple[Result, ...]:
        """The results of the checks that warn."""
        return self._with(Status.WARNING)

    @property
    def summary(self) -> str:
        """How many checks ended how: ``20 passed, 1 warning``."""
        counted = ((len(self._with(status)), status) for status in Status)
        return ", ".join(f"{count} {status}" for count, status in counted if count)

    def raise_for_failures(self) -> None:
        """Raise an error if any check failed.

        Raises:
            ConformanceError: naming every check that failed, what it found, and what to do. It is an
                AssertionError, too, so that a test fails with it.
        """
        if self.failed:
            raise ConformanceError("\n".join([f"{self.reward}: {self.summary}", *map(_line, self.failed)]))

    def _with(self, status: Status) -> tuple[Result, ...]:
        return tuple(result for result in self.results if result.status is status)


def _line(result: Result) -> str:
    text = f"{result.message}. {result.remedy}" if result.remedy else result.message
    return textwrap.indent(textwrap.fill(text, 100), " " * 30).replace(
        " " * 30, f"{result.status:<8} {result.name:<20} ", 1
    )
