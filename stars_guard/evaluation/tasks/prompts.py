"""The prompts of a task, and where they come from."""

from __future__ import annotations

from pydantic import Field

from stars_guard.prompts import AskedSettings


class EvalPrompt(AskedSettings):
    """One prompt of a task."""

    id: str = Field(min_length=1)
    """Unique in its task."""
    category: str = ""
    """What kind of prompt it is, for tables by kind."""
    reference: str | None = None
    """An answer to compare with, if there is one."""
    original: EvalPrompt | None = None
    """The prompt before an attack changed it, which is what judges are shown; None: it is as it was."""
