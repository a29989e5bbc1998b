"""What a batch was asked for, beside its output: only the same batch may go on with it."""

from __future__ import annotations

import json
import os
from hashlib import file_digest
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ValidationError

from stars_guard.algorithm.acceptance import AcceptanceKey
from stars_guard.algorithm.config import Budget, GuardConfig, SamplingParams
from stars_guard.errors import ConfigurationError
from stars_guard.settings import StoredRecord, differences, readable, sized
from stars_guard.settings_file import parsed_json, read_bytes


class Manifest(StoredRecord):
    """Two runs may share an output when this is the same for both."""

    version: Literal[1] = 1
    input: str
    """SHA-256 of the input's bytes."""
    models: dict[str, Any]
    """Which models were named, and how they are read; not where they run."""
    config: dict[str, Any]
    sampling: dict[str, Any]
    """With the seed of the batch."""
    budget: dict[str, Any]
    acceptance_key: str = ""
    """Fingerprint of the key that acceptance draws are hashed with."""

    @classmethod
    def of(
        cls,
        source: Path,
        models: dict[str, Any],
        config: GuardConfig,
        sampling: SamplingParams,
        budget: Budget,
        acceptance_key: AcceptanceKey,
    ) -> Self:
        """The manifest of a batch.

        Args:
            source: file of its rows.
            models: which were named, and how they are read.
            config: settings of the guard.
            sampling: how to propose, with the seed of the batch.
            budget: limits of every answer.
            acceptance_key: what acceptance draws are hashed with.
        """
        with source.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        settings = {"config": config, "sampling": sampling, "budget": budget}
        dumped: dict[str, Any] = {name: part.model_dump(mode="json") for name, part in settings.items()}
        return cls(input=digest, models=models, acceptance_key=acceptance_key.fingerprint, **dumped)

    def differences(self, there: Manifest) -> list[str]:
        """What another manifest says differently, by the names of settings."""
        return differences(_flat(there.model_dump()), _flat(self.model_dump()))

    def write(self, path: Path) -> None:
        """Write the manifest; it is there as a whole or not at all."""
        replace(path, self.model_dump_json(indent=2) + "\n")


def place(output: Path) -> Path:
    """Where the manifest of an output lies."""
    return output.with_name(output.name + ".manifest.json")


def read(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        ConfigurationError: it is none.
    """
    contents = read_bytes(path)
    try:
        parsed_json(contents)
        return Manifest.model_validate_json(contents)
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {readable(error, 'not a manifest of a batch', sized)}") from error
    except ValueError as error:
        raise ConfigurationError(f"{path}: not a manifest of a batch: {error}") from error


def replace(path: Path, text: str) -> None:
    """Put a text in the place of a file, so that the old or the new one is there, whatever happens."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _flat(values: dict[str, Any], under: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{under}{key}.")
        else:
            flat[under + key] = json.dumps(value)
    return flat
