"""The calls of one answer: which of what was written is made, and what is wrong with the rest."""

from __future__ import annotations

from stars_guard.prompts import Tools
from stars_guard.text.dialects import Dialect, read_calls, readable_call
from stars_guard.types import InvalidToolCall, ToolCall


class CallReader:
    """Reads calls in the order in which they were written, and gives each an id.

    Args:
        dialect: how the model writes calls.
        tools: what may be called, if anything.
        prefix: seven letters or digits that begin the id of each call.
    """

    def __init__(self, dialect: Dialect, tools: Tools | None, prefix: str) -> None:
        self._dialect = dialect
        self._tools = tools
        self._prefix = prefix
        self.calls: list[ToolCall | InvalidToolCall] = []
        """Every call so far."""

    def is_call(self, text: str) -> bool:
        """Whether a finished text between marks makes a call; any other is mere text that looks like one."""
        try:
            calls = read_calls(self._dialect, text, self._tools, partial=False)
        except ValueError:
            return False
        return any(self._problem(name, arguments) is None for name, arguments in calls)

    def read(self, text: str, cut_off: str | None) -> list[ToolCall | InvalidToolCall]:
        """Read the next text between marks.

        Args:
            text: what stands there.
            cut_off: why it has no end, if it has none; then no call of it is made.
        """
        try:
            calls = read_calls(self._dialect, text, self._tools, partial=cut_off is not None)
        except ValueError as error:
            return [self._invalid(None, text, cut_off or f"not a call: {error}")]
        return [self._call(name, arguments, text, cut_off) for name, arguments in calls]

    def _call(
        self, name: object, arguments: object, text: str, cut_off: str | None
    ) -> ToolCall | InvalidToolCall:
        problem = cut_off or self._one_too_many() or self._problem(name, arguments)
        if problem is not None or not isinstance(arguments, dict):
            return self._invalid(name if isinstance(name, str) else None, text, str(problem))
        call = ToolCall(self._next_id(), str(name), arguments)
        self.calls.append(call)
        return call

    def _problem(self, name: object, arguments: object) -> str | None:
        """Why a call is not made whatever came before it."""
        if self._tools is None or self._tools.choice == "none":
            return "the tool choice is none"
        if not isinstance(name, str) or name not in self._tools.names:
            # Not by repr(), whose escapes are not those that were judged.
            return f"there is no tool '{name}'" if isinstance(name, str) else "there is no tool None"
        if not isinstance(arguments, dict):
            return f"the arguments must be a JSON object, got {type(arguments).__name__}"
        return None

    def _one_too_many(self) -> str | None:
        several = self._tools is None or self._tools.parallel
        return "only one call was allowed" if self.calls and not several else None

    def _invalid(self, name: str | None, text: str, error: str) -> InvalidToolCall:
        # Not as it was written: what readable_call leaves out was not judged as a call.
        words = readable_call(self._dialect, text, self._tools)
        call = InvalidToolCall(self._next_id(), name, words, error)
        self.calls.append(call)
        return call

    def _next_id(self) -> str:
        return f"{self._prefix}{len(self.calls):02d}"
