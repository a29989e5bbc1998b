"""Commands that share options: a dataclass parameter stands for one option per field.

A command's docstring is what its ``--help`` shows, and each option has a help text of its own; so a command
does not list its arguments there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let typer see the fields of ``command``'s dataclass parameters as options of their own.

    For example, with ``temperature`` a field of the dataclass ``Sampling``, this command has an option
    ``--temperature``::

        @program.command()
        @grouped
        def generate(prompt: str, sampling: Sampling) -> None: ...
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}

    def flat(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{field.name: values.pop(field.name) for field in fields(group)})
        command(**values)

    parameters = list(_parameters(command, hints, groups))
    flat.__name__, flat.__doc__ = command.__name__, command.__doc__
    flat.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    vars(flat)["__signature__"] = Signature(parameters)
    return flat


def _parameters(
    command: Callable[..., None], hints: Mapping[str, Any], groups: Mapping[str, Any]
) -> Iterator[Parameter]:
    for name, parameter in signature(command).parameters.items():
        if name in groups:
            yield from _fields(groups[name])
        else:
            yield parameter.replace(annotation=hints[name], kind=Parameter.KEYWORD_ONLY)


def _fields(group: Any) -> Iterator[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        default = Parameter.empty if field.default is MISSING else field.default
        yield Parameter(field.name, Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name])
