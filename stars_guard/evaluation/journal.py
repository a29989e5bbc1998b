"""Records kept one by one, a JSON object a line, so that a run that was cut off goes on after the last."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from stars_guard.batch.manifest import replace
from stars_guard.errors import ConfigurationError
from stars_guard.settings import StoredRecord, readable, sized

_Entry = TypeVar("_Entry", bound=StoredRecord)


class Journal(Generic[_Entry]):
    """A file of records of one kind. A line counts once it is whole; what was cut off is written anew.

    Args:
        path: the file; it need not be there.
        kind: type of its records.
    """

    def __init__(self, path: Path, kind: type[_Entry]) -> None:
        self._path, self._kind = path, kind

    def entries(self) -> list[_Entry]:
        """The records that are there.

        Raises:
            ConfigurationError: a line is no such record.
        """
        return [self._read(number, line) for number, line in enumerate(self._whole_lines(), start=1)]

    def add(self, entries: Iterable[_Entry]) -> None:
        """Append records, after the last line that is whole."""
        whole = sum(map(len, self._whole_lines()))
        with self._path.open("ab") as file:
            file.truncate(whole)
            file.write(_lines(entries).encode())

    def replace(self, entries: Iterable[_Entry]) -> None:
        """Put other records in the place of all that are there."""
        replace(self._path, _lines(entries))

    def _whole_lines(self) -> list[bytes]:
        if not self._path.exists():
            return []
        lines = self._path.read_bytes().splitlines(keepends=True)
        return [line for line in lines if line.endswith(b"\n")]

    def _read(self, number: int, line: bytes) -> _Entry:
        try:
            return self._kind.model_validate_json(line)
        except ValidationError as error:
            wrong = readable(error, f"not a {self._kind.__name__}", sized)
            raise ConfigurationError(f"{self._path}:{number}: {wrong}; remove the file") from error


def _lines(entries: Iterable[StoredRecord]) -> str:
    return "".join(entry.model_dump_json() + "\n" for entry in entries)
