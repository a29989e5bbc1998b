"""``stars-guard presets``: the public classifiers and judges whose settings are known."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from stars_guard.rewards.classifiers.presets import CLASSIFIERS, UNSUPPORTED
from stars_guard.rewards.judges.prompts import JUDGE_PROMPTS


class ClassifierRow(BaseModel):
    """A classifier, as in :class:`stars_guard.rewards.classifiers.preset.ClassifierPreset`."""

    name: str
    kind: str
    models: list[str]
    format: str
    labels: list[str]
    good: list[str] | None
    bad: list[str] | None
    scale: str
    meaning: str
    checked: str
    licence: str


class JudgeRow(BaseModel):
    """A judge prompt: its name and its words for safe and unsafe."""

    name: str
    safe: list[str]
    unsafe: list[str]


class Presets(BaseModel):
    """All that is known; the object that ``--json`` prints."""

    classifiers: list[ClassifierRow]
    """For ``--reward ID --reward-preset NAME``."""
    judges: list[JudgeRow]
    """For ``--reward judge:NAME@ID``."""
    unsupported: dict[str, str]
    """Popular models that cannot be used, and why."""


def presets_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as one JSON object.")] = False,
) -> None:
    """List the classifiers (--reward-preset) and judges (--reward judge:NAME@ID) that are known by name."""
    known = _known()
    if as_json:
        typer.echo(known.model_dump_json())
        return
    screen = Console(highlight=False)
    for table in (_classifiers(known), _judges(known)):
        screen.print(table)
    for model, why in known.unsupported.items():
        screen.print(f"Not supported: {model}: {why}")


def _known() -> Presets:
    rows = [
        ClassifierRow(
            name=name, **{key: getattr(preset, key) for key in ClassifierRow.model_fields if key != "name"}
        )
        for name, preset in CLASSIFIERS.items()
    ]
    judges = [
        JudgeRow(name=name, safe=list(prompt.safe), unsafe=list(prompt.unsafe))
        for name, prompt in JUDGE_PROMPTS.items()
    ]
    return Presets(classifiers=rows, judges=judges, unsupported=dict(UNSUPPORTED))


def _classifiers(known: Presets) -> Table:
    table = _table("Classifiers", "name", "model", "a high reward means")
    for row in known.classifiers:
        others = len(row.models) - 1
        model = row.models[0] + (f" (+{others})" if others else "")
        table.add_row(row.name, model, row.meaning)
    return table


def _judges(known: Presets) -> Table:
    table = _table("Judges", "name", "safe", "unsafe")
    for row in known.judges:
        table.add_row(row.name, ", ".join(row.safe).strip(), ", ".join(row.unsafe).strip())
    return table


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="dim", pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold", no_wrap=heading == "name")
    return table
