"""Which fields of somebody's rows hold what a prompt needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from stars_guard.errors import ConfigurationError, PromptError
from stars_guard.evaluation.tasks.prompts import EvalPrompt
from stars_guard.settings import Settings


class SourceRow(NamedTuple):
    """One row of a source.

    Attributes:
        place: where it stands, for messages: file and line, or folder and row.
        values: its fields.
    """

    place: str
    values: Mapping[str, Any]


class SourceFields(Settings):
    """Options of a file or a folder: the names of its fields. Other fields are not read."""

    prompt: str | None = None
    """Field that holds a text, or chat turns; None: ``prompt`` or ``messages``, whichever a row has."""
    id: str = "id"
    """Field that tells prompts apart; a row without it goes by its number."""
    category: str = "category"
    """Field that says what kind of prompt it is."""
    reference: str = "reference"
    """Field that holds an answer to compare with."""
    injections: str = "injections"
    """Field that holds the instructions in the prompt that are not the user's, as a list of tables with a
    ``text`` and ``phrases``: see :class:`stars_guard.evaluation.tasks.prompts.Injection`."""
    split: str | None = None
    """Split of a folder of ``datasets``; None: the only one."""

    def read(self, row: SourceRow, number: int) -> EvalPrompt:
        """The prompt in a row.

        Args:
            row: of the source.
            number: of the row, from 1.

        Raises:
            ConfigurationError: naming the row and the field that is wrong, and quoting no text.
        """
        identity = row.values.get(self.id)
        category = row.values.get(self.category)
        given = {
            "id": str(number) if identity is None else str(identity),
            "category": "" if category is None else str(category),
            "reference": row.values.get(self.reference),
            "injections": row.values.get(self.injections) or (),
        }
        prompt = EvalPrompt.found_at(row.place, {**given, **self._asked(row)})
        try:
            _ = prompt.as_prompt
        except PromptError as error:
            raise ConfigurationError(f"{row.place}: {error}") from error
        return prompt

    def _asked(self, row: SourceRow) -> dict[str, Any]:
        names = [self.prompt] if self.prompt else ["prompt", "messages"]
        there = [row.values[name] for name in names if row.values.get(name) is not None]
        if len(there) != 1:
            raise ConfigurationError(
                f"{row.place}: a prompt stands in {' or '.join(map(repr, names))}, and this row has "
                f"{'both' if there else 'none'}; name its field: options: {{prompt: FIELD}}. "
                f"It has: {', '.join(map(str, row.values))}"
            )
        if not isinstance(there[0], str | list | tuple):
            kind = type(there[0]).__name__
            raise ConfigurationError(f"{row.place}: a prompt is a text or a list of chat turns, not {kind}")
        is_conversation = not isinstance(there[0], str)
        return {"messages" if is_conversation else "prompt": there[0]}
