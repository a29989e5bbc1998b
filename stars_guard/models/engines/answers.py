"""What an engine answered, checked: nothing is taken for a candidate that is not one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stars_guard.errors import GenerationError
from stars_guard.text.dialects import Dialect
from stars_guard.types import Finish


def choices_of(answer: Any, place: str | None, count: int) -> list[Mapping[str, Any]]:
    """The choices of an answer, in the order of their numbers.

    Args:
        answer: parsed.
        place: field that holds them; None: the answer is a list of them, or the only one.
        count: how many were asked for.

    Raises:
        GenerationError: there are others than these.
    """
    if place is not None:
        answer = answer.get(place) if isinstance(answer, dict) else None
    choices = answer if isinstance(answer, list) else [answer]
    if len(choices) != count or not all(isinstance(choice, dict) for choice in choices):
        raise GenerationError(f"the answer does not hold {count} choices; check the engine's profile")
    return sorted(choices, key=lambda choice: _number(choice.get("index")))


def finish_of(choice: Mapping[str, Any], field: str, finishes: Mapping[str, Finish]) -> Finish:
    """Why a choice ended.

    Args:
        choice: of an answer.
        field: where it says so.
        finishes: what the values of that field mean.

    Raises:
        GenerationError: for no reason that a candidate may end for.
    """
    reason = choice.get(field)
    if not isinstance(reason, str) or reason not in finishes:
        raise GenerationError(
            f"a candidate ended with a {field} other than {', '.join(finishes)}; look at the engine"
        )
    return finishes[reason]


def drawn_tokens(answer: Any) -> int:
    """How many tokens the one choice of an answer has.

    Raises:
        GenerationError: the engine does not say.
    """
    usage = answer.get("usage") if isinstance(answer, dict) else None
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if type(tokens) is int and tokens >= 0:
        return tokens
    raise GenerationError("the answer has no usage.completion_tokens; check the engine's version")


def message_of(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    """The message of a choice.

    Raises:
        GenerationError: it has none.
    """
    message = choice.get("message")
    if isinstance(message, dict):
        return message
    raise GenerationError("a choice has no message; check the engine's profile")


def checked_text(text: Any) -> str:
    """The text of a choice.

    Raises:
        GenerationError: it is none.
    """
    if isinstance(text, str):
        return text
    raise GenerationError(f"a choice has no text but {type(text).__name__}; check the engine's profile")


def reasoning_of(message: Mapping[str, Any]) -> str:
    """The reasoning that an engine keeps apart, under the names that it has."""
    return checked_text(message.get("reasoning_content") or message.get("reasoning") or "")


def calls_of(message: Mapping[str, Any], dialect: Dialect) -> str:
    """The calls of a message, as a model of that dialect writes them.

    Raises:
        GenerationError: they are none.
    """
    functions = [call.get("function") for call in _dicts(message.get("tool_calls") or [])]
    return "".join(_written(function, dialect) for function in _dicts(functions))


def _written(function: Mapping[str, Any], dialect: Dialect) -> str:
    # The arguments stay as they are: whether they are JSON is seen where calls are read.
    before, after = dialect.wrap(checked_text(function.get("name")))
    arguments = checked_text(function.get("arguments"))
    return dialect.call_open + before + arguments + after + (dialect.call_close or "")


def _dicts(values: Any) -> list[Mapping[str, Any]]:
    if isinstance(values, list) and all(isinstance(value, dict) for value in values):
        return values
    raise GenerationError("a choice has tool calls that cannot be read; check the engine's version")


def _number(index: Any) -> int:
    return index if isinstance(index, int) else 0
