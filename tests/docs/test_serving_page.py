"""The page on serving says what the code does: every setting with its default, every error code."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, get_args

import pytest
from pydantic.fields import FieldInfo

from stars_guard.settings import Settings
from stars_guard.types import Guarantee
from tests.support import deploy_files as files

PAGE = (files.ROOT / "docs" / "serving.md").read_text("utf-8")
ELSEWHERE = ("guard", "sampling", "budget", "reward.http")
"""Settings that are a section of their own, documented where they are used without a server."""
WHOLE = ("Range", "CascadePart")
"""Sections that the page gives on one row; a part of a cascade is a reward like any other."""
pytestmark = pytest.mark.skipif(
    find_spec("stars_guard.server.config") is None, reason="there is no server configuration"
)


def rows() -> dict[str, str]:
    """The settings of the page's table, with what it says of their defaults."""
    return dict(re.findall(r"^\| `([\w.]+)` \| ([^|]*?) \|", PAGE, flags=re.M))


def sections(annotation: Any) -> list[type[Settings]]:
    """Sections, of the server's file, that a setting may hold."""
    if inspect.isclass(annotation) and issubclass(annotation, Settings):
        of_the_file = annotation.__module__.startswith(("stars_guard.server", "stars_guard.loading.specs"))
        return [annotation] if of_the_file and annotation.__name__ not in WHOLE else []
    return [section for part in get_args(annotation) for section in sections(part)]


def settings(section: type[Settings], place: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting by its place in the file."""
    for name, field in section.model_fields.items():
        inner = sections(field.annotation)
        for part in inner:
            yield from settings(part, f"{place}{name}.")
        if not inner:
            yield f"{place}{name}", field


def default(field: FieldInfo) -> str:
    """Default of a setting as the table says it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "none"
    if type(value).__name__ == "Range":
        if value.least is None:
            return f"up to {value.most:g}"
        return f"{value.least:g} to {value.most:g}" if value.most is not None else f"from {value.least:g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_every_setting_is_on_the_page_with_its_default() -> None:
    config = importlib.import_module("stars_guard.server.config")
    defaults: dict[str, set[str]] = {}
    for place, field in settings(config.ServerConfig):
        defaults.setdefault(place, set()).add(default(field))
    documented = {place: value for place, value in rows().items() if place.partition(".")[0] in top(defaults)}
    assert set(documented) == set(defaults)
    wrong = {
        place: (documented[place], values)
        for place, values in defaults.items()
        if place not in ELSEWHERE and documented[place] not in values
    }
    assert not wrong


def top(places: dict[str, set[str]]) -> set[str]:
    """The sections themselves."""
    return {place.partition(".")[0] for place in places}


def test_every_error_code_is_on_the_page() -> None:
    source = "".join(path.read_text("utf-8") for path in (files.ROOT / "stars_guard/server").rglob("*.py"))
    faults = importlib.import_module("stars_guard.server.openai.faults")
    assert faults.Fault(429, "").body()["error"].keys() == {"message", "type", "param", "code"}
    table = re.findall(r"^\| (\d{3}) \| (.*?) \|", PAGE, flags=re.M)
    documented = {code for _, codes in table for code in re.findall(r"`(\w+)`", codes)}
    assert len(documented) > 8
    for code in documented:
        assert f'"{code}"' in source, code
    given = set(re.findall(r'code="(\w+)"', source))
    assert given <= documented


def test_every_guarantee_is_on_the_page() -> None:
    assert all(f"| `{level.value}` |" in PAGE for level in Guarantee)


def test_the_fields_of_the_extension_are_on_the_page() -> None:
    wire = importlib.import_module("stars_guard.server.openai.wire")
    (shown,) = re.findall(r'"stars": \{(".*?)\}', PAGE)
    assert set(re.findall(r'"(\w+)":', shown)) == set(wire.Stars.model_fields)


def test_what_a_request_may_do_is_on_the_page_field_by_field() -> None:
    wire = importlib.import_module("stars_guard.server.openai.wire")
    limits = importlib.import_module("stars_guard.server.openai.limits").RequestLimits()
    table = dict(re.findall(r'^\| `"([\w.]+)"` \| ([\w ]+) \|', PAGE, flags=re.M))
    requests = {*wire.ChatRequest.model_fields, *wire.CompletionRequest.model_fields} - {"stars"}
    assert set(table) == requests | {f"stars.{name}" for name in wire.Stars.model_fields}
    by_name = {field.removeprefix("stars."): word for field, word in table.items()}
    defaults = {name: default(field) for name, field in type(limits).model_fields.items()}
    assert {name: by_name[name] for name in defaults} == defaults


def test_what_is_no_field_of_a_request_is_named_as_the_operators() -> None:
    translate = importlib.import_module("stars_guard.server.openai.translate")
    unserved = re.search(r"^\| all other fields .*$", PAGE, flags=re.M)[0]
    for name in ("logit_bias", "presence_penalty", "min_tokens", "chat_template"):
        assert f"`{name}`" in unserved
        assert name in translate.NEUTRAL


def test_the_endpoints_of_the_page_exist() -> None:
    source = "".join(path.read_text("utf-8") for path in (files.ROOT / "stars_guard/server").rglob("*.py"))
    documented = set(re.findall(r"(?<![\w.])/(?:v1|health)/[a-z/]+", PAGE))
    assert len(documented) >= 6
    assert all(f'"{path.rstrip("/")}' in source for path in documented), documented
