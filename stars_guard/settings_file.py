"""Files of settings, read strictly: whatever is wrong with one is a single clear line.

TOML and YAML give what an operator wrote, or an error that names file and line. What makes a file mean
something else than it seems to is refused: names that stand twice, aliases and merges, tags, several
documents, NaN, and nesting without end. JSON that the package reads back is held to the same.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stars_guard.errors import ConfigurationError, needs_extra

_MOST_BYTES = 2**20
_DEEPEST = 32
"""Most levels of nesting; settings of this package need a quarter of that."""


def read_settings(path: str | Path) -> dict[str, Any]:
    """The values in a file whose name ends in ``.toml``, ``.yaml`` or ``.yml``.

    Raises:
        ConfigurationError: naming the file and what is wrong with it.
    """
    language, parse = _language(Path(path))
    contents = read_bytes(path)
    try:
        values = parse(_text(contents))
        _check(values)
    except RecursionError:
        raise ConfigurationError(f"{path} is not {language}: it is nested too deeply") from None
    except Exception as error:
        raise ConfigurationError(f"{path} is not {language}: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"{path} holds no settings, which are names and values")
    return values


def read_bytes(path: str | Path) -> bytes:
    """The contents of a file that is no longer than settings are.

    Raises:
        ConfigurationError: it cannot be read, and why.
    """
    try:
        place = Path(path).expanduser()
        if place.exists() and not place.is_file():
            raise OSError(0, "it is no file")
        with place.open("rb") as file:
            contents = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"{path} cannot be read: {why}; give a file of settings") from error
    if len(contents) > _MOST_BYTES:
        raise ConfigurationError(f"{path} is longer than {_MOST_BYTES} bytes; give a file of settings")
    return contents


def parsed_json(text: bytes | str) -> Any:
    """What a JSON text says, where no name may stand twice in an object.

    Raises:
        ValueError: it is not JSON; saying where, as far as that is known.
    """
    try:
        return json.loads(text, object_pairs_hook=_named_once, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {next(name for name in names if names.count(name) > 1)!r} stands twice")
    return values


def _no_number(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def _text(contents: bytes) -> str:
    try:
        return contents.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = contents[: error.start].count(b"\n") + 1
        raise ValueError(f"line {line} is not UTF-8; save the file as UTF-8") from None


def _check(values: Any) -> None:
    """Refuse what settings cannot be, without recursion: endless nesting, NaN, names that are no texts."""
    waiting: list[tuple[tuple[str, ...], Any]] = [((), values)]
    while waiting:
        place, value = waiting.pop()
        if len(place) > _DEEPEST:
            raise ValueError(f"{'.'.join(place[:3])}... is nested more than {_DEEPEST} levels deep")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{'.'.join(place)} is {value}; give a finite number")
        if isinstance(value, dict):
            if other := next((name for name in value if not isinstance(name, str)), None):
                raise ValueError(f"the name {other!r} is no text; put it in quotes")
            waiting += [((*place, name), inner) for name, inner in value.items()]
        if isinstance(value, list):
            waiting += [((*place, str(number)), inner) for number, inner in enumerate(value)]


def _language(path: Path) -> tuple[str, Callable[[str], Any]]:
    if path.suffix == ".toml":
        return "TOML", tomllib.loads
    if path.suffix in (".yaml", ".yml"):
        return "YAML", _yaml_parser()
    raise ConfigurationError(f"{path} is neither .toml nor .yaml; name the file by what it is")


def _yaml_parser() -> Callable[[str], Any]:
    with needs_extra("serve", "pyyaml"):
        import yaml

    class Loader(yaml.SafeLoader):
        """Plain data: no aliases or merges, and each name once."""

        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise _at(self.current_event, "aliases (*name) are not taken: write out the value")
            self.depth += 1
            if self.depth > _DEEPEST:
                raise _at(self.current_event, f"it is nested more than {_DEEPEST} levels deep")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            names = set()
            for key, _ in node.value:
                if key.tag.endswith(":merge"):
                    raise _at(key, "merges (<<) are not taken: write out the values")
                name = key.value if isinstance(key, yaml.ScalarNode) else key
                if name in names:
                    raise _at(key, f"the name {name!r} stands twice")
                names.add(name)
            return super().construct_mapping(node, deep)

    def parse(text: str) -> Any:
        try:
            return yaml.load(text, Loader) or {}
        except yaml.MarkedYAMLError as error:
            raise _at(error, str(error.problem or error.context)) from error

    return parse


def _at(marked: Any, problem: str) -> ValueError:
    """An error that names the line of a node, an event or an error of the parser."""
    mark = getattr(marked, "start_mark", None) or getattr(marked, "problem_mark", None)
    return ValueError(f"line {mark.line + 1}: {problem}" if mark else problem)
