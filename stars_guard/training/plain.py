"""Labelled answers of one's own, as training data: rows with ``prompt``, ``response`` and ``unsafe``.

A file has one row a line as JSON, or is CSV with these names in its first line; further names are ignored.
``unsafe`` is true or false, or how probable it is, from 0 to 1.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from stars_guard.errors import ConfigurationError
from stars_guard.settings import Settings

SUFFIXES = (".jsonl", ".csv")
_HELD_OUT = 0.1
"""Share of the prompts of a single file that are measured on."""
_LEAST = 4
"""Fewest answers of each kind that something can be learnt from."""


class PlainRow(Settings):
    """One labelled answer. Messages about a wrong one quote none of its texts."""

    model_config = ConfigDict(hide_input_in_errors=True, extra="ignore")

    prompt: str
    response: str
    unsafe: bool | float = Field(ge=0, le=1)

    @property
    def safe(self) -> float:
        """How probable it is that the answer is safe."""
        return 1.0 - float(self.unsafe)


def plain_files(data: Path, part: str, known: Iterable[str]) -> list[Path]:
    """The files of plain rows among the data; none where the data are the sets of a published mix.

    Args:
        data: a file, or a folder with files in its folder ``part``.
        part: ``train`` or ``eval``.
        known: names of the sets of the mix.
    """
    if data.is_file():
        return [data]
    files = sorted(file for file in (data / part).glob("*") if file.suffix in SUFFIXES)
    return [] if any(file.stem in known for file in files) else files


def plain_rows(data: Path, file: Path, part: str) -> list[PlainRow]:
    """The rows of a file that belong to a part of the data, those without an answer left out.

    Args:
        data: the file itself, a tenth of whose prompts is for ``eval``; or the folder with both parts.
        file: to be read.
        part: ``train`` or ``eval``.

    Raises:
        ConfigurationError: naming the line that is wrong.
    """
    rows = [row for row in _parsed(file) if row.response.strip()]
    if data.is_dir():
        return rows
    return [row for row in rows if _is_held_out(row.prompt) is (part == "eval")]


def check_kinds(rows: Iterable[PlainRow], place: Path) -> None:
    """Refuse what nothing can be learnt from.

    Raises:
        ConfigurationError: there are too few answers of one kind.
    """
    labels = [row.safe > 0.5 for row in rows]
    safe, unsafe = sum(labels), len(labels) - sum(labels)
    if min(safe, unsafe) < _LEAST:
        raise ConfigurationError(
            f"{place} has {safe} safe and {unsafe} unsafe answers to train on; label {_LEAST} or more of each"
        )


def same_prompt_pairs(rows: Iterable[PlainRow]) -> Iterator[tuple[str, str, str]]:
    """Prompt, safe and unsafe response, for every two responses to one prompt of which one is unsafe."""
    kinds: dict[str, tuple[list[str], list[str]]] = {}
    for row in rows:
        kinds.setdefault(row.prompt, ([], []))[row.safe <= 0.5].append(row.response)
    for prompt, (safe, unsafe) in kinds.items():
        yield from ((prompt, *pair) for pair in product(safe, unsafe))


def _parsed(file: Path) -> Iterator[PlainRow]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{file} cannot be read: {type(error).__name__}; save it as UTF-8"
        ) from error
    for number, values in _table(text) if file.suffix == ".csv" else json_lines(file, text):
        yield PlainRow.found_at(f"{file} line {number}", values)


def _table(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(StringIO(text, newline=""))
    for row in reader:
        yield reader.line_num, {name: value for name, value in row.items() if name and value is not None}


def json_lines(file: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The objects in a JSON Lines text, each with the number of its line.

    Args:
        file: that the text is from, for messages.
        text: one object a line; empty lines are passed over.

    Raises:
        ConfigurationError: naming the line that is none.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ConfigurationError(
                f"{file} line {number} is not JSON ({error.msg}): repair or remove the line"
            ) from error
        if not isinstance(row, dict):
            raise ConfigurationError(f"{file} line {number} is not a JSON object: one object per line")
        yield number, row


def _is_held_out(prompt: str) -> bool:
    # By the prompt, so that no answer to one that is measured on was trained on.
    return int.from_bytes(sha256(prompt.encode("utf-8", "replace")).digest()[:4]) < _HELD_OUT * 2**32
