"""Records that an evaluation left in a file, read back."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from stars_guard.errors import ConfigurationError
from stars_guard.settings import StoredRecord, readable, sized

_Record = TypeVar("_Record", bound=StoredRecord)


def read_stored(kind: type[_Record], path: Path, meaning: str, remedy: str) -> _Record:
    """A record in a file of JSON.

    Args:
        kind: of the record.
        path: the file.
        meaning: what the file should be, for messages, such as ``the results of an evaluation``.
        remedy: what to do if it is not that.

    Raises:
        ConfigurationError: it cannot be read, or holds something else.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {readable(error, f'not {meaning}', sized)}; {remedy}") from error
