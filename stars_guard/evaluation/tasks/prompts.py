"""The prompts of a task, and where they come from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from stars_guard.prompts import AskedSettings
from stars_guard.settings import Settings


class Injection(Settings):
    """An instruction that somebody put into what the model is to read."""

    text: str = Field(min_length=1)
    """The instruction, as it stands there."""
    phrases: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Phrases of which an answer that follows it has one; none where no phrase would tell."""


class EvalPrompt(AskedSettings):
    """One prompt of a task."""

    id: str = Field(min_length=1)
    """Unique in its task."""
    category: str = ""
    """What kind of prompt it is, for tables by kind."""
    reference: str | None = None
    """An answer to compare with, if there is one."""
    injections: tuple[Injection, ...] = ()
    """Instructions in it that are not the user's."""
    original: EvalPrompt | None = None
    """The prompt before an attack changed it, which is what judges are shown; None: it is as it was."""
