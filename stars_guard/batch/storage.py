"""The output of a batch, which may be cut off at any byte and gone on with.

A line counts once it is whole. What comes after the last line end is dropped when a run goes on, and its row
is answered again: with the same seed, so that the answer is the same. A trace is written before its answer,
and one whose answer is not there is dropped.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self, TypeAlias

from pydantic import ValidationError

from stars_guard.algorithm.trace import Trace
from stars_guard.batch import manifest
from stars_guard.batch.answers import Done, RowResult
from stars_guard.batch.manifest import Manifest
from stars_guard.errors import ConfigurationError
from stars_guard.settings import readable, sized

Existing: TypeAlias = Literal["resume", "keep", "replace"]
"""What becomes of an output that is there already: gone on with if it is of the same batch; gone on with
whatever it is of; replaced."""

_REMEDY = "give another --output, or --existing replace or keep"
_SYNC_SECONDS = 1.0
"""What a power failure may cost; a killed process costs a line at most."""


class Output:
    """Appends answers and traces; use it in a ``with`` block.

    Args:
        answers: file of answers; its folder must be there.
        traces: file of traces, if they are wanted.
        wanted: what is asked for now.
        existing: what becomes of answers that are there.
        retry_errors: whether rows that ended with an error are answered again.
        remedy: what to do about an output of another batch, for the message.

    Attributes:
        ids: of the rows that are over.
        failed: how many of them ended with an error.

    Raises:
        ConfigurationError: the output is of another batch, or in use.
    """

    def __init__(
        self,
        answers: Path,
        traces: Path | None,
        wanted: Manifest,
        *,
        existing: Existing = "resume",
        retry_errors: bool = False,
        remedy: str = _REMEDY,
    ) -> None:
        self.ids: set[str] = set()
        self.failed = 0
        self._stack = ExitStack()
        with ExitStack() as opening:
            opening.enter_context(_only_user(answers))
            _OPENINGS[existing](answers, traces, wanted, remedy)
            self._take_over(answers, traces, retry_errors)
            wanted.write(manifest.place(answers))
            self._answers = opening.enter_context(answers.open("ab"))
            self._traces = opening.enter_context(traces.open("ab")) if traces else None
            self._stack = opening.pop_all()
        self._synced = time.monotonic()

    def write(self, done: Done) -> bool:
        """Append a row, unless it is there; whether it was not."""
        answer = done.answer
        if answer.id in self.ids:
            return False
        if self._traces is not None and done.trace is not None:
            self._traces.write(done.trace.model_dump_json().encode() + b"\n")
            self._traces.flush()
        self._answers.write(answer.line().encode())
        self._answers.flush()
        self._count(answer)
        if time.monotonic() - self._synced >= _SYNC_SECONDS:
            self.sync()
        return True

    def sync(self) -> None:
        """Have the disk keep what was written."""
        for file in (self._traces, self._answers):
            if file is not None:
                os.fsync(file.fileno())
        self._synced = time.monotonic()

    def _count(self, answer: RowResult) -> None:
        self.ids.add(answer.id)
        self.failed += answer.error is not None

    def _take_over(self, answers: Path, traces: Path | None, retry_errors: bool) -> None:
        """Count the answers that are there, and drop what is torn, to be tried again, or without answer."""
        runs: set[str] = set()

        def stays(where: str, line: bytes) -> bool:
            answer: RowResult = _read(RowResult, line, where)
            if answer.id in self.ids or (retry_errors and answer.error is not None):
                return False
            self._count(answer)
            runs.add(answer.run_id or "")
            return True

        _filter(answers, stays)
        if traces is not None:
            _filter(traces, lambda where, line: _read(Trace, line, where).run_id in runs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        with self._stack:
            self.sync()


def _resume(answers: Path, traces: Path | None, wanted: Manifest, remedy: str) -> None:
    place = manifest.place(answers)
    if not answers.exists() or not answers.stat().st_size:
        return
    if not place.exists():
        raise ConfigurationError(f"{answers} is there, without a manifest of a batch; {remedy}")
    if differences := wanted.differences(manifest.read(place)):
        raise ConfigurationError(f"{answers} is of another batch ({'; '.join(differences)}); {remedy}")


def _replace(answers: Path, traces: Path | None, wanted: Manifest, remedy: str) -> None:
    for path in (answers, manifest.place(answers), traces):
        if path is not None:
            path.unlink(missing_ok=True)


def _keep(answers: Path, traces: Path | None, wanted: Manifest, remedy: str) -> None:
    """Whatever it is of."""


_OPENINGS: dict[Existing, Callable[[Path, Path | None, Manifest, str], None]] = {
    "resume": _resume,
    "keep": _keep,
    "replace": _replace,
}


def _read(kind: Any, line: bytes, where: str) -> Any:
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        raise ConfigurationError(f"{where}: {readable(error, 'not of a batch', sized)}") from error


def _filter(path: Path, stays: Callable[[str, bytes], bool]) -> None:
    """Keep the whole lines that shall stay; the file is as it was, or as it shall be, whatever happens."""
    if not path.exists():
        return
    fresh = path.with_name(path.name + ".new")
    with path.open("rb") as old, fresh.open("wb") as new:
        dropped = 0
        for number, line in enumerate(old, start=1):
            if line.endswith(b"\n") and stays(f"{path}:{number}", line):
                new.write(line)
            else:
                dropped += 1
        new.flush()
        os.fsync(new.fileno())
    if dropped:
        fresh.replace(path)
    else:
        fresh.unlink()


@contextmanager
def _only_user(answers: Path) -> Iterator[BinaryIO]:
    """Two runs that append to one output would answer rows twice."""
    with answers.with_name(answers.name + ".lock").open("ab") as file:
        try:
            import fcntl
        except ImportError:  # not there on Windows
            yield file
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigurationError(f"{answers} is being written by another run; wait for it") from error
        yield file
