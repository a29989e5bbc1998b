"""Folders that commands write to."""

from __future__ import annotations

from pathlib import Path

from stars_guard.errors import ConfigurationError


def make_folder(folder: Path) -> None:
    """Make the folder of ``--output``, before the work whose result it is for.

    Raises:
        ConfigurationError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"--output {folder} is not a folder that can be made: {error}") from error
