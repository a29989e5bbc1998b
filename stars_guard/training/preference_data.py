"""Files of preferences: trl's form, plain or conversational, and pairs as HH-RLHF has them.

A file has one JSON object a line; a folder is one that ``datasets`` saved. A row has ``chosen`` and
``rejected`` beside ``prompt`` (trl's form), or two texts beside ``messages`` (HH-RLHF's).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stars_guard.batch.rows import Row
from stars_guard.errors import ConfigurationError, needs_extra
from stars_guard.settings import parsed_json, readable, sized
from stars_guard.training.preferences import PreferenceRow, PreferenceSide

PREFERENCE_SETS = Path(__file__).parent / "sets"
"""Built-in preference sets, one JSONL file each; their sources and licences are in the README there."""


def read_preferences(place: str) -> list[PreferenceRow]:
    """The preferences at a place.

    Args:
        place: name of a built-in set, a ``.jsonl`` file, or a folder that ``datasets`` saved.

    Raises:
        ConfigurationError: there are none, or naming the row that is wrong; no text is quoted.
    """
    built_in = PREFERENCE_SETS / f"{place}.jsonl"
    path = built_in if built_in.is_file() else Path(place)
    values = _of_folder(path) if path.is_dir() else _of_file(path)
    rows = [_row(value, where) for where, value in values]
    if not rows:
        raise ConfigurationError(f"{place} has no rows; give preferences to train on")
    _check_one_form(rows, place)
    return rows


def write_preferences(rows: Iterable[PreferenceRow], output: Path) -> None:
    """Write preferences as JSON Lines where the name ends in ``.jsonl``, else as a folder of ``datasets``.

    Args:
        rows: what is written.
        output: file or folder; what is there is replaced.

    Raises:
        ConfigurationError: it cannot be written.
        MissingExtraError: a folder is wanted and ``datasets`` is not installed.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.suffix == ".jsonl":
            lines = (row.model_dump_json(exclude_none=True) + "\n" for row in rows)
            output.write_text("".join(lines), encoding="utf-8", newline="\n")
        else:
            as_dataset(rows).save_to_disk(output)
    except OSError as error:
        raise ConfigurationError(f"--output {output} cannot be written: {error}") from error


def as_dataset(rows: Iterable[PreferenceRow]) -> Any:
    """Preferences as a ``datasets.Dataset``.

    Args:
        rows: of one form.

    Raises:
        MissingExtraError: ``datasets`` is not installed.
    """
    with needs_extra("finetune"):
        from datasets import Dataset
    return Dataset.from_list([row.model_dump() for row in rows])


def prompt_rows(preferences: Iterable[PreferenceRow], limit: int, seed: int) -> list[Row]:
    """Prompts of preferences as rows of a batch, so that a guard answers what is trained on.

    Args:
        preferences: whose prompts are taken, each once.
        limit: most rows.
        seed: of which prompts are taken.
    """
    prompts: dict[str, PreferenceSide] = {repr(row.prompt): row.prompt for row in preferences}
    names = sorted(prompts)
    random.Random(seed).shuffle(names)
    return [_as_row(f"prompt-{number}", prompts[name]) for number, name in enumerate(names[:limit], start=1)]


def _as_row(row_id: str, prompt: PreferenceSide) -> Row:
    if isinstance(prompt, str):
        return Row(id=row_id, prompt=prompt)
    return Row(id=row_id, messages=tuple(prompt))


def is_text(row: PreferenceRow) -> bool:
    """Whether a row is text, and not chat turns."""
    return isinstance(row.prompt, str)


def _of_file(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        text = path.read_bytes()
    except OSError as error:
        known = ", ".join(sorted(file.stem for file in PREFERENCE_SETS.glob("*.jsonl")))
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}; give a .jsonl file, a folder of datasets, or the name "
            f"of a built-in set: {known}"
        ) from error
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield f"{path}:{number}", _parsed(line, f"{path}:{number}")


def _of_folder(path: Path) -> Iterator[tuple[str, Any]]:
    with needs_extra("finetune"):
        from datasets import DatasetDict, load_from_disk
    try:
        dataset = load_from_disk(path)
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path} is no folder that datasets saved; give one, or a file") from error
    split = dataset.get("train", ()) if isinstance(dataset, DatasetDict) else dataset
    yield from ((f"{path}, row {number}", row) for number, row in enumerate(split))


def _parsed(line: bytes, where: str) -> Any:
    try:
        return parsed_json(line)
    except ValueError as error:
        raise ConfigurationError(f"{where}: not JSON: {error}") from error


def _row(values: Any, where: str) -> PreferenceRow:
    if not isinstance(values, dict):
        raise ConfigurationError(f"{where}: a preference is a JSON object, not {type(values).__name__}")
    try:
        row = PreferenceRow(**_in_trl_form(values))
    except ValidationError as error:
        raise ConfigurationError(f"{where}: {readable(error, 'no preference', sized)}") from error
    sides = row.prompt, row.chosen, row.rejected
    if len({type(side) for side in sides}) > 1 or not all(map(_is_said, sides)):
        raise ConfigurationError(
            f"{where}: prompt, chosen and rejected are all texts, or all lists of turns with role and "
            "content, and none is empty"
        )
    return row


def _in_trl_form(values: Mapping[str, Any]) -> Mapping[str, Any]:
    if "prompt" in values or "messages" not in values:
        return values
    sides = {
        name: [{"role": "assistant", "content": values[name]}]
        for name in ("chosen", "rejected")
        if name in values
    }
    return {"prompt": values["messages"], **sides}


def _is_said(side: Any) -> bool:
    if isinstance(side, str):
        return bool(side)
    return bool(side) and all(
        isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str) for turn in side
    )


def _check_one_form(rows: Iterable[PreferenceRow], place: str) -> None:
    if len({is_text(row) for row in rows}) > 1:
        # trl looks at the first row alone, and would read the others as what they are not.
        raise ConfigurationError(f"{place} has rows of texts and rows of chat turns; give those of one form")
