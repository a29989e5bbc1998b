"""Values of beginnings as they are kept: rows of text, and the states that the model had on the way."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stars_guard.errors import ConfigurationError, failures_as
from stars_guard.rewards.classifiers.probe import ProbeSettings
from stars_guard.settings import StoredRecord

STATES = "states"
"""Name of the tensor in the file beside the rows."""


class ValueRow(StoredRecord):
    """A beginning of an answer and the expected P(safe) of the answers that go on from it."""

    prompt: str
    """Text of what was asked, roles left out."""
    prefix: str
    """The answer so far; of an end, the whole answer."""
    tokens: int
    """Tokens of the answer so far."""
    value: float
    """P(safe) by the teacher, of an end; elsewhere the mean of the values of what continues it."""
    error: float
    """Standard error of that mean; 0 for an end, which is no mean."""
    parent: int
    """Place among the rows of the beginning that it continues; -1 for a bare prompt."""
    doubt: float
    """Mean distance of the teacher's two scorers over its ends, in log-odds."""
    kind: str
    """Source of the prompt."""

    def moved(self, places: int) -> "ValueRow":
        """The row where so many others stand before those that it was among."""
        return self.model_copy(update={"parent": self.parent + places}) if self.parent >= 0 else self


@dataclass(frozen=True, slots=True)
class ValueSet:
    """Rows, and what a probe reads of each: ``[rows, features]`` in float16."""

    rows: tuple[ValueRow, ...]
    features: Tensor

    @property
    def kinds(self) -> dict[str, int]:
        """How many answers were drawn for prompts of each source."""
        return dict(Counter(row.kind for row in self.rows if row.parent < 0))

    @property
    def answered(self) -> list[tuple[str, str]]:
        """Harmless questions and instructions of our own with an answer each."""
        return harmless_answers(self.rows, ("harmless", "instructions"))


def write_value_part(folder: Path, name: str, part: ValueSet) -> None:
    """Write some rows, whose parents are among them; a reader finds whole parts only.

    Args:
        folder: receives the files.
        name: of the part; parts are read in the order of their names.
        part: the rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.jsonl"
    save_file({STATES: part.features.half().contiguous()}, file.with_suffix(".safetensors"))
    lines = (row.model_dump_json() + "\n" for row in part.rows)
    file.write_text("".join(lines), encoding="utf-8", newline="\n")


def read_values(folder: Path) -> ValueSet:
    """All parts of a folder.

    Raises:
        ConfigurationError: there are none, or rows and states do not belong together.
    """
    parts = list(_parts(folder))
    if not parts:
        raise ConfigurationError(f"no values in {folder}: pass the folder that `values` wrote")
    return ValueSet(joined_rows(parts), torch.cat([part.features for part in parts]))


def values_for(probe: ProbeSettings, folder: Path) -> ValueSet:
    """All parts of a folder, for a probe.

    Args:
        probe: reads the states.
        folder: that `values` wrote.

    Raises:
        ConfigurationError: there are none, or the states are not those that the probe reads.
    """
    values = read_values(folder)
    if values.features.shape[1] != probe.features:
        raise ConfigurationError(
            f"{probe.name} reads {probe.features} numbers and {folder} has {values.features.shape[1]}; draw "
            "values with a teacher that reads the same layers"
        )
    return values


def joined_rows(parts: Iterable[ValueSet]) -> tuple[ValueRow, ...]:
    """The rows of several parts, one after the other."""
    rows: list[ValueRow] = []
    for part in parts:
        first = len(rows)
        rows += [row.moved(first) for row in part.rows]
    return tuple(rows)


def _parts(folder: Path) -> Iterator[ValueSet]:
    for file in sorted(folder.glob("*.jsonl")):
        with failures_as(ConfigurationError, f"reading the values in {file}"):
            lines = file.read_text(encoding="utf-8").splitlines()
            rows = tuple(ValueRow.model_validate_json(line) for line in lines)
            features = load_file(file.with_suffix(".safetensors"))[STATES]
        if len(rows) != len(features):
            raise ConfigurationError(
                f"{file} has {len(rows)} rows and states of {len(features)}; draw it anew"
            )
        yield ValueSet(rows, features)


def children_of(rows: Sequence[ValueRow]) -> dict[int, list[int]]:
    """Places of the rows that continue each beginning, by its place; ends have no entry."""
    children: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        if row.parent >= 0:
            children.setdefault(row.parent, []).append(place)
    return children


def harmless_answers(
    rows: Sequence[ValueRow], kinds: Collection[str] = ("harmless",)
) -> list[tuple[str, str]]:
    """Harmless prompts of our own, each with the last of its whole answers.

    Args:
        rows: with their beginnings.
        kinds: sources of the prompts.
    """
    begun = children_of(rows)
    ends = (row for place, row in enumerate(rows) if place not in begun)
    return list({row.prompt: row.prefix for row in ends if row.kind in kinds}.items())
