"""Rows of folders: what ``datasets`` saved, or files that it loads. Nothing is fetched from anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stars_guard.errors import ConfigurationError, needs_extra
from stars_guard.evaluation.tasks.fields import SourceRow

_SAVED = ("dataset_dict.json", "state.json")
"""What ``save_to_disk`` leaves in the folder of several splits, and of one."""


def folder_rows(path: Path, split: str | None) -> list[SourceRow]:
    """All rows of a folder that ``save_to_disk`` wrote, or that holds Parquet, JSON or CSV files.

    Args:
        path: the folder.
        split: which of its splits; None: the only one.

    Raises:
        ConfigurationError: ``datasets`` cannot read it, it has no such split, or there are several and none
            is named.
    """
    with needs_extra("eval"):
        import datasets
    with TemporaryDirectory() as cache, _without_bars(datasets), _reading(path):
        if any((path / name).is_file() for name in _SAVED):
            loaded = datasets.load_from_disk(str(path))
        else:
            loaded = datasets.load_dataset(str(path.resolve()), cache_dir=cache)
        splits = loaded if isinstance(loaded, Mapping) else {str(loaded.split or ""): loaded}
        rows = list(splits[_chosen(path, split, list(splits))])
    return [SourceRow(f"{path}, row {number}", row) for number, row in enumerate(rows, start=1)]


def _chosen(path: Path, split: str | None, splits: list[str]) -> str:
    if split is None and len(splits) == 1:
        return splits[0]
    if splits == [""]:
        raise ConfigurationError(
            f"{path} has no split {split!r}: it holds one data set that is no split; leave split out"
        )
    if split is None or split not in splits:
        raise ConfigurationError(
            f"{path} has no split {split!r}; name one of {', '.join(splits)}: options: {{split: NAME}}"
        )
    return split


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except ConfigurationError:
        raise
    except Exception as error:
        # By its kind alone: messages of parsers quote what they cannot read.
        raise ConfigurationError(
            f"{path} is no folder that datasets can read: {type(error).__name__}; give one that save_to_disk "
            "wrote, or one with Parquet, JSON or CSV files of the same fields"
        ) from error


@contextmanager
def _without_bars(datasets: Any) -> Iterator[None]:
    shown = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()
