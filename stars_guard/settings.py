"""The base of every settings object: frozen, no unknown keys, and one clear line when a value is wrong.

Settings in a file are TOML or YAML, by its name, and read strictly. What makes a file mean something else
than it seems to is refused: names that stand twice, aliases and merges, tags, several documents, NaN, and
nesting without end. JSON that the package reads back is held to the same.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from stars_guard.errors import ConfigurationError, needs_extra

_T = TypeVar("_T")

_MOST_BYTES = 2**20
_DEEPEST = 32
"""Most levels of nesting; settings of this package need a quarter of that."""

LEAST_NUMBER = 2.0**-126
"""The least number that models compute with at full precision, in 32 bits; less may be 0 to them."""


def _can_be_computed_with(number: float) -> float:
    if 0 < number < LEAST_NUMBER:
        raise ValueError(f"should be at least {LEAST_NUMBER:.2g}, under which numbers are 0 to a model")
    return number


Computable: TypeAlias = Annotated[float, AfterValidator(_can_be_computed_with)]
"""A number that models multiply by or that is divided by; the field says whether it may be 0."""


class Record(BaseModel):
    """Immutable data that the package makes, unlike :class:`Settings`, which a user writes."""

    model_config = ConfigDict(frozen=True)


class StoredRecord(Record):
    """A record that is also read back, and then may hold nothing else."""

    model_config = ConfigDict(extra="forbid")


class Settings(BaseModel):
    """Immutable, validated settings.

    Where settings hold texts of users, such as stop strings, ``hide_input_in_errors`` in ``model_config`` has
    messages say of a text that is wrong how long it is, and quote none.

    Raises:
        ConfigurationError: at construction, naming each wrong field and its value.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            shown = sized if self.model_config.get("hide_input_in_errors") else repr
            wrong = readable(error, type(self).__name__, shown, type(self).model_fields)
            raise ConfigurationError(wrong) from error

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        # What differs from the defaults, which is what somebody set, and makes the same settings again.
        fields = type(self).model_fields
        for name, value in super().__repr_args__():
            if name not in fields or fields[name].get_default(call_default_factory=True) != value:
                yield name, value

    @classmethod
    def of_file(cls, path: str | Path) -> Self:
        """The settings in a file.

        Raises:
            ConfigurationError: naming the file and what is wrong with it.
        """
        return cls.found_at(str(path), read_settings(path))

    @classmethod
    def found_at(cls, place: str, values: Mapping[str, Any]) -> Self:
        """Settings that were read somewhere.

        Args:
            place: where they stand, for messages.
            values: by name.

        Raises:
            ConfigurationError: as at construction; the message begins with ``place``.
        """
        try:
            return cls(**values)
        except ConfigurationError as error:
            raise ConfigurationError(f"{place}: {error}") from error

    def changed(self, **changes: object) -> Self:
        """A validated copy with these settings changed; ``model_copy`` would not validate.

        Raises:
            ConfigurationError: as at construction.
        """
        return type(self)(**{**dict(self), **changes})


def differences(there: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """What two records of settings say differently, each as ``key: 1 there, 2 now``."""
    return [
        f"{key}: {there.get(key)!r} there, {now.get(key)!r} now"
        for key in {**now, **there}
        if there.get(key) != now.get(key)
    ]


def readable(
    error: ValidationError, what: str, shown: Callable[[Any], str] = repr, known: Iterable[str] = ()
) -> str:
    """A pydantic error as one line: ``GuardConfig: max_attempts=0: should be at least 1``.

    Args:
        error: says what is wrong.
        what: has the wrong fields.
        shown: says what stands in a field; :func:`sized` where that may be a text of a user or a model.
        known: names of the fields that there are.
    """
    items = error.errors(include_url=False)
    return f"{what}: " + "; ".join(_problem(dict(item), shown, tuple(known)) for item in items)


def accepted_names(name: str, known: Sequence[str]) -> str:
    """A name that is not known, and those that are, the likeliest of them apart.

    Args:
        name: what was given.
        known: what there is.
    """
    close = get_close_matches(name, known, 1)
    meant = f" (did you mean {close[0]!r}?)" if close else ""
    return f"{name!r}{meant}; there are{': ' if known else ' none'}{', '.join(known)}"


def sized(value: object) -> str:
    """A value for messages: a text by its length."""
    return f"a text of {len(value)} characters" if isinstance(value, str) else repr(value)


def _problem(item: dict[str, Any], show: Callable[[Any], str], known: Sequence[str]) -> str:
    place = ".".join(str(part) for part in item["loc"])
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        return f"unknown setting {accepted_names(place, known)}" if known else f"unknown setting {place!r}"
    value = item.get("input")
    shown = f"={show(value)}" if isinstance(value, str | int | float | bool | None) and place else ""
    return f"{place}{shown}: {message}" if place else message


def by_name(kind: type[_T], what: str, name: str | _T, known: Mapping[str, _T], otherwise: str) -> _T:
    """The entry of a table that has this name, or the entry itself.

    Args:
        kind: type of the entries.
        what: what they are, for messages.
        name: that of an entry, or an entry.
        known: the table.
        otherwise: what may be passed instead of a name, for messages.

    Raises:
        ConfigurationError: unknown name.
    """
    if isinstance(name, kind):
        return name
    entry = known.get(str(name))
    if entry is None:
        raise ConfigurationError(f"unknown {what} {name!r}; use {', '.join(known)}, or {otherwise}")
    return entry


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
