"""Files of settings, TOML or YAML by their names."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stars_guard.errors import ConfigurationError, MissingExtraError


def read_settings(path: str | Path) -> dict[str, Any]:
    """The values in a file whose name ends in ``.toml``, ``.yaml`` or ``.yml``.

    Raises:
        ConfigurationError: naming the file and what is wrong with it.
    """
    place = Path(path).expanduser()
    language, parse = _language(place)
    try:
        values = parse(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror}; give a file of settings"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is not {language}: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path} holds no settings, which are names and values")
    return values


def _language(path: Path) -> tuple[str, Callable[[str], Any]]:
    if path.suffix == ".toml":
        return "TOML", tomllib.loads
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigurationError(f"{path} is neither .toml nor .yaml; name the file by what it is")
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("pyyaml", "serve") from error

    def load(text: str) -> Any:
        try:
            return yaml.safe_load(text) or {}
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from error

    return "YAML", load
