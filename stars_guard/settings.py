"""The base of every settings object: frozen, no unknown keys, and one clear line when a value is wrong.

Settings in a file are TOML or YAML, by its name: :mod:`stars_guard.settings_file`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from stars_guard.errors import ConfigurationError
from stars_guard.settings_file import read_settings

_T = TypeVar("_T")

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
            raise ConfigurationError(readable(error, type(self).__name__, shown)) from error

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


def readable(error: ValidationError, what: str, shown: Callable[[Any], str] = repr) -> str:
    """A pydantic error as one line: ``GuardConfig: max_attempts=0: should be at least 1``.

    Args:
        error: says what is wrong.
        what: has the wrong fields.
        shown: says what stands in a field; :func:`sized` where that may be a text of a user or a model.
    """
    return f"{what}: " + "; ".join(_problem(dict(item), shown) for item in error.errors(include_url=False))


def sized(value: object) -> str:
    """A value for messages: a text by its length."""
    return f"a text of {len(value)} characters" if isinstance(value, str) else repr(value)


def _problem(item: dict[str, Any], show: Callable[[Any], str]) -> str:
    place = ".".join(str(part) for part in item["loc"])
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        return f"unknown setting {place!r}"
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
