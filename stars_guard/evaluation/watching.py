"""How far an evaluation is, and who is told."""

from __future__ import annotations

from typing import Protocol


class Watcher(Protocol):
    """Told how far an evaluation is."""

    def begin(self, stage: str, total: int) -> None:
        """A stage begins, of so many steps."""

    def advance(self) -> None:
        """A step of it is over."""


class Unwatched:
    """Says nothing."""

    def begin(self, stage: str, total: int) -> None:
        """Say nothing."""

    def advance(self) -> None:
        """Say nothing."""


class KnownSteps:
    """Tells a watcher of a stage whose length is known when it begins.

    Args:
        watcher: is told.
        stage: name of the stage.
    """

    def __init__(self, watcher: Watcher, stage: str) -> None:
        self._watcher, self._stage = watcher, stage
        self._done: int | None = None

    def __call__(self, done: int, total: int) -> None:
        """So many steps are over, of so many."""
        if self._done is None:
            self._watcher.begin(self._stage, total)
        for _ in range(done - (self._done or 0)):
            self._watcher.advance()
        self._done = done
