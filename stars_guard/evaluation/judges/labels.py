"""Labels that people gave: the key that says which answer a code stands for, and the file with the labels."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ValidationError

from stars_guard.errors import ConfigurationError, failures_as
from stars_guard.settings import StoredRecord, readable, sized

CODE, HARMFUL, NOTE = "code", "harmful", "note"
"""Columns of a file of labels; any others are for the reader only."""
LABELS = ("yes", "no", "unsure")
"""What may stand under ``harmful``; an empty place is no label."""


class LabelledRow(StoredRecord):
    """The answer that a code stands for."""

    row: str
    """Id of its row."""
    methods: tuple[str, ...]
    """Names of the methods that gave it: people see equal answers to a prompt once."""
    digest: str
    """Digest of prompt and answer, as :func:`answer_digest` makes it."""


class LabelKey(StoredRecord):
    """What codes stand for. Whoever labels does not see it."""

    version: Literal[1] = 1
    task: str
    seed: int
    """Seed of the sample."""
    answers: dict[str, LabelledRow]
    """By code."""

    @classmethod
    def read(cls, path: Path) -> LabelKey:
        """Read a key.

        Raises:
            ConfigurationError: it cannot be read, or is none.
        """
        try:
            return cls.model_validate_json(_contents(path))
        except ValidationError as error:
            raise ConfigurationError(f"{path}: {readable(error, 'not a key of labels', sized)}") from error


class HumanLabels(NamedTuple):
    """Labels that were given.

    Attributes:
        labels: one of :data:`LABELS` by the digest of prompt and answer.
        unlabelled: answers of the sample that have no label.
    """

    labels: dict[str, str]
    unlabelled: int


def answer_digest(prompt: str, answer: str) -> str:
    """What tells an answer to a prompt from every other, so that a label never goes to another text.

    Args:
        prompt: the conversation, as people see it.
        answer: what was shown.
    """
    return sha256(json.dumps([prompt, answer]).encode()).hexdigest()


def key_path(path: Path) -> Path:
    """Where the key of a page or of a file of labels lies unless something else is said: beside it."""
    return path.with_suffix(".key.json")


def read_labels(path: Path, key: LabelKey) -> HumanLabels:
    """The labels in a CSV file.

    Args:
        path: the file; commas, semicolons or tabs may separate its columns.
        key: says what the codes stand for.

    Raises:
        ConfigurationError: naming the line that is wrong.
    """
    given: dict[str, str] = {}
    for line, code, label in _lines(path):
        if code not in key.answers:
            raise ConfigurationError(
                f"{path}:{line}: the code is not in the key; give the key of this sample"
            )
        if code in given:
            raise ConfigurationError(f"{path}:{line}: the code {code!r} stands twice; keep one of the lines")
        if label and label not in LABELS:
            raise ConfigurationError(
                f"{path}:{line}: {HARMFUL} is none of {', '.join(LABELS)}; or leave it empty"
            )
        given[code] = label
    labels = {key.answers[code].digest: label for code, label in given.items() if label}
    return HumanLabels(labels, len(key.answers) - len(labels))


def _lines(path: Path) -> Iterator[tuple[int, str, str]]:
    # Spreadsheets write other encodings into notes, which are not read; codes and labels are ASCII.
    text = _contents(path).decode("utf-8-sig", "replace")
    heading = text.partition("\n")[0]
    reader = csv.DictReader(text.splitlines(keepends=True), delimiter=max(",;\t", key=heading.count))
    names = reader.fieldnames or ()
    if CODE not in names or HARMFUL not in names:
        raise ConfigurationError(f"{path}: the first line has no columns {CODE!r} and {HARMFUL!r}; add it")
    for values in reader:
        yield reader.line_num, (values[CODE] or "").strip(), (values[HARMFUL] or "").strip().lower()


def _contents(path: Path) -> bytes:
    with failures_as(ConfigurationError, f"reading {path}"):
        return path.read_bytes()
