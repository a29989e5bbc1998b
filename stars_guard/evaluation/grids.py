"""Studies of one method's settings: each value is a method of its own, answered and judged like any other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field, model_validator

from stars_guard.evaluation.methods import AnyMethod, Method
from stars_guard.settings import Settings

_GUARD = "guard."
"""Beginning of the names of settings of the method's guard; others are settings of the method itself."""


def _labelled(values: Any) -> Any:
    """Values by a name of their own; those of a list by what they are."""
    if not isinstance(values, list | tuple):
        return values
    if unnamed := [value for value in values if isinstance(value, Mapping | list)]:
        raise ValueError(f"{unnamed[0]!r} needs a name: write the values as 'name: value'")
    by_name = {str(value): value for value in values}
    if len(by_name) < len(values):
        raise ValueError(f"a value stands twice among {', '.join(map(str, values))}; give each once")
    return by_name


GridValues: TypeAlias = Annotated[dict[str, Any], BeforeValidator(_labelled), Field(min_length=1)]
"""Values of one setting: a list, or by names of one's own where they are tables."""


class MethodGrid(Settings):
    """One method with some of its settings varied, all values of each with all of the others.

    Each is a method named like ``segment-length=8``, or ``rule=0.5,0.9`` where two settings vary.
    """

    method: str
    """Name of the method."""
    vary: dict[str, GridValues] = Field(min_length=1)
    """Values by the name of the setting: ``guard.segments.max_tokens``, or one of the method such as ``n``.
    They may be in units of the reward's spread: see :mod:`stars_guard.evaluation.methods.scale`."""
    task: str
    """Name of the task that is answered."""
    limit: int | None = Field(default=None, ge=1)
    """Most prompts of it; None: as many as the method answers."""

    @model_validator(mode="after")
    def _names_differ(self) -> MethodGrid:
        names = [",".join(labels) for labels, _ in self._points()]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"vary makes two methods named {twice[0]!r}; give the values other names")
        if self.limit is not None and "max_prompts" in self.vary:
            raise ValueError(f"limit={self.limit}, and vary has max_prompts, too; leave out one of them")
        return self

    def expanded(self, name: str, method: Method) -> dict[str, AnyMethod]:
        """A method for each combination of values.

        Args:
            name: of the study.
            method: the one that varies.

        Raises:
            ConfigurationError: it has no such setting, or does not take a value.
        """
        return {f"{name}={','.join(labels)}": self._made(method, values) for labels, values in self._points()}

    def _points(self) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
        for point in product(*(values.items() for values in self.vary.values())):
            labels = tuple(label.replace(" ", "").replace("/", "-") for label, _ in point)
            yield labels, dict(zip(self.vary, (value for _, value in point), strict=True))

    def _made(self, method: Method, values: Mapping[str, Any]) -> Any:
        guard = {key.removeprefix(_GUARD): value for key, value in values.items() if key.startswith(_GUARD)}
        fields = {key: value for key, value in values.items() if not key.startswith(_GUARD)}
        if self.limit is not None:
            fields["max_prompts"] = self.limit
        return method.changed(changes={**method.changes, **guard}, **fields)
