"""The key of a batch's acceptance draws, kept beside its output so that a run that goes on repeats them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from stars_guard.algorithm.acceptance import AcceptanceKey
from stars_guard.errors import ConfigurationError


def key_beside(output: Path) -> AcceptanceKey:
    """The key in the file beside an output, drawn if there is none; only its owner may read it.

    Raises:
        ConfigurationError: the file cannot be read or written, or holds no key.
    """
    place = output.with_name(output.name + ".key")
    try:
        # Whole or not at all, and never for a moment readable by others.
        with open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
    except FileExistsError:
        pass
    except OSError as error:
        raise ConfigurationError(f"{place} cannot be written: {error.strerror}") from error
    try:
        return AcceptanceKey(place.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError, ConfigurationError) as error:
        raise ConfigurationError(
            f"{place} holds no key; remove it, and give another --output or --existing replace"
        ) from error
