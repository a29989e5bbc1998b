"""Rows of files: JSON Lines, and CSV with a header."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

from stars_guard.errors import ConfigurationError
from stars_guard.evaluation.tasks.fields import SourceRow
from stars_guard.settings import parsed_json


def jsonl_rows(path: Path) -> Iterator[SourceRow]:
    """The rows of a file of JSON objects, one a line; empty lines are skipped.

    Raises:
        ConfigurationError: naming the line that is none.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _row(f"{path}:{number}", line)


def _row(place: str, line: bytes) -> SourceRow:
    try:
        values = parsed_json(line)
    except ValueError as error:
        raise ConfigurationError(f"{place}: not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"{place}: a row is a JSON object, not {type(values).__name__}")
    return SourceRow(place, values)


def csv_rows(path: Path) -> Iterator[SourceRow]:
    """The rows of a CSV file, whose first line names the fields; an empty field is one that is not there.

    Raises:
        ConfigurationError: naming the line that has more fields than there are names, or cannot be read.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for values in reader:
                place = f"{path}:{reader.line_num}"
                if None in values:
                    raise ConfigurationError(f"{place}: more fields than the first line names")
                yield SourceRow(place, {name: value for name, value in values.items() if value})
        except (csv.Error, UnicodeDecodeError) as error:
            kind = type(error).__name__
            raise ConfigurationError(f"{path}:{reader.line_num + 1}: not CSV in UTF-8: {kind}") from error


FILE_KINDS: dict[str, Callable[[Path], Iterator[SourceRow]]] = {".csv": csv_rows}
"""How to read a file, by the end of its name; all others are JSON Lines."""


def file_rows(path: Path) -> list[SourceRow]:
    """All rows of a file.

    Raises:
        ConfigurationError: it cannot be read, or one of its lines is no row.
    """
    try:
        return list(FILE_KINDS.get(path.suffix, jsonl_rows)(path))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
