"""``stars-guard prepare``: make the embedded models ready."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import typer

from stars_guard import embedded
from stars_guard.cli.screen import notes


def prepare_command() -> None:
    """Prepare the embedded models now rather than at first use, and print their folders."""
    _prepare("language model", embedded.chat_model)
    _prepare("reward model", embedded.harmlessness_reward)


def _prepare(what: str, make: Callable[[], Path]) -> None:
    with notes().status(f"preparing the {what}"):
        folder = make()
    typer.echo(f"{what}: {folder}")
