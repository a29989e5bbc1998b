"""The prompts of a task, and where they come from."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field, model_validator

from stars_guard.prompts import Prompt
from stars_guard.settings import Settings


class EvalPrompt(Settings):
    """One prompt of a task. Messages about a wrong one quote none of its texts."""

    model_config = ConfigDict(hide_input_in_errors=True)

    id: str = Field(min_length=1)
    """Unique in its task."""
    prompt: str | None = None
    """A text; it or ``messages``."""
    messages: tuple[dict[str, Any], ...] | None = None
    """Chat turns, each with ``role`` and ``content``."""
    category: str = ""
    """What kind of prompt it is, for tables by kind."""
    reference: str | None = None
    """An answer to compare with, if there is one."""

    original: EvalPrompt | None = None
    """The prompt before an attack changed it, which is what judges are shown; None: it is as it was."""

    @model_validator(mode="after")
    def _asks_once(self) -> EvalPrompt:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either 'prompt' or 'messages'")
        return self

    @property
    def as_prompt(self) -> Prompt:
        """What is asked.

        Raises:
            PromptError: it is empty or malformed.
        """
        content: Any = self.prompt if self.messages is None else list(self.messages)
        return Prompt.of(content)
