"""``stars-guard config reference``: every setting of a file, read off the models that check it."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from stars_guard.settings import Settings

_HEAD = """# Settings

Every setting of a file of settings: what `--config`, `STARS_GUARD_CONFIG` and `stars-guard.toml` name, for
`generate`, `chat`, `batch`, `serve` and the integrations ([which is read](serving.md#configuration)). It
is made by `stars-guard config reference > docs/settings.md` from the models that check a file.

A setting that comes in several kinds says which by `kind`. For some, a number or a name is enough:
`threshold = 1.0` is a constant one, `acceptance = "hard"`, `segments = 16` and `drawing = 4` are what they
seem, and `model = "vllm@http://localhost:8000"` is a name as `--model` takes it.
"""
_SHARED = {"kind": "which kind it is"}
"""What is said of a setting that stands in many places."""
_BOUNDS = {"ge": "at least", "gt": "over", "le": "at most", "lt": "under", "min_length": "length at least"}


def reference(root: type[Settings], title: str) -> str:
    """The page: a table for each kind of settings, from the file itself down.

    Args:
        root: settings of the whole file.
        title: what the file is called.
    """
    kinds = list(_kinds(root))
    tables = [f"\n## {title if kind is root else kind.__name__}\n\n{_described(kind)}" for kind in kinds]
    return _HEAD + "".join(tables)


def _kinds(root: type[Settings]) -> Iterator[type[Settings]]:
    """All settings that can stand in a file, each once, those of one level before those of the next."""
    seen, waiting = {root}, [root]
    while waiting:
        kind = waiting.pop(0)
        yield kind
        inner = [part for field in kind.model_fields.values() for part in _settings(field.annotation)]
        waiting += [part for part in dict.fromkeys(inner) if part not in seen]
        seen |= {*inner}


def _settings(annotation: Any) -> Iterator[type[Settings]]:
    if inspect.isclass(annotation) and issubclass(annotation, Settings):
        yield annotation
    for part in get_args(annotation):
        yield from _settings(part)


def _described(kind: type[Settings]) -> str:
    docs = _attribute_docs(kind)
    rows = [_row(name, field, docs.get(name, "")) for name, field in kind.model_fields.items()]
    summary = _plain((inspect.getdoc(kind) or "").partition("\n\n")[0])
    table = "| setting | takes | default | what it is |\n|---|---|---|---|\n" + "".join(rows)
    return f"{summary}\n\n{table}"


def _row(name: str, field: FieldInfo, doc: str) -> str:
    bounds = [
        f"{word} {getattr(limit, key):g}"
        for limit in field.metadata
        for key, word in _BOUNDS.items()
        if getattr(limit, key, None) is not None
    ]
    takes = ", ".join([_takes(field.annotation), *bounds])
    told = field.description or doc or _SHARED.get(name) or _of_section(field)
    return f"| `{name}` | {takes} | {_default(field)} | {_plain(told)} |\n"


def _of_section(field: FieldInfo) -> str:
    """What the section says of itself that a field holds, if it holds one."""
    section = next(_settings(field.annotation), None)
    return "likewise" if section is None else (inspect.getdoc(section) or "").partition("\n\n")[0]


def _takes(annotation: Any) -> str:
    """What a field takes, in words."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if inspect.isclass(annotation) and issubclass(annotation, Settings):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    if origin is Annotated:
        return _takes(parts[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in parts)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_takes(part) for part in parts if part is not NoneType))
    if origin is not None and parts:
        inner = ", ".join(dict.fromkeys(_takes(part) for part in parts if part is not Ellipsis))
        return f"{'table' if issubclass(origin, dict) else 'list'} of {inner}"
    values = [f"`{member.value}`" for member in annotation] if hasattr(annotation, "__members__") else []
    return ", ".join(values) or _WORDS.get(annotation, "any")


_WORDS: dict[Any, str] = {
    str: "text",
    SecretStr: "text",
    int: "whole number",
    float: "number",
    bool: "`true`, `false`",
}


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Settings):
        return "see there" if repr(value).endswith("()") else f"`{value!r}`"
    if value is None or value in ((), {}):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _attribute_docs(kind: type[Settings]) -> dict[str, str]:
    """The docstrings under the fields of a class and of those it inherits from."""
    docs: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not issubclass(base, Settings):
            continue
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        body = definition.body if isinstance(definition, ast.ClassDef) else []
        for statement, after in pairwise(body):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                docs[statement.target.id] = _text(after) or docs.get(statement.target.id, "")
    return docs


def _text(statement: ast.stmt) -> str:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""


def _plain(doc: str) -> str:
    """A docstring in Markdown, on one line."""
    names = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", " ".join(doc.split()))
    return names.replace("``", "`").replace("|", "\\|")
