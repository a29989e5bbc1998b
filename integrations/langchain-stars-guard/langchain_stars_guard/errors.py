"""Errors of the guard under the names by which LangChain knows them, too."""

from __future__ import annotations

from typing import Any

import langchain_core.exceptions as core_exceptions
from langchain_core.exceptions import ContextOverflowError, OutputParserException
from langchain_core.messages import BaseMessage
from stars_guard import ContextLengthError

_ModelRefusal: Any = getattr(core_exceptions, "ModelRefusalError", OutputParserException)
"""What langchain-core from 1.7.5 on raises where data was wanted and the model refused."""
_BASES = tuple(dict.fromkeys((OutputParserException, _ModelRefusal)))


class PromptOverflowError(ContextLengthError, ContextOverflowError):
    """The prompt does not fit the model's context; middleware that shortens conversations waits for it."""


class OverflowNamed:
    """A block, for tasks too, out of which a prompt that is too long is a :class:`PromptOverflowError`."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ContextLengthError):
            overflow = PromptOverflowError(*error.args)
            overflow.__dict__.update(error.__dict__)
            raise overflow from error

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.__exit__(kind, error, trace)


class RefusedOutputError(*_BASES):  # type: ignore[misc]
    """Data was wanted, and the guard refused: no output that can be parsed, and a model's refusal.

    Args:
        message: the answer.

    Attributes:
        raw_message: the answer.
    """

    def __init__(self, message: BaseMessage) -> None:
        # The words of the refusal alone: what was accepted before them may end in a log.
        blocks = message.content if isinstance(message.content, list) else []
        words = [block["refusal"] for block in blocks if isinstance(block, dict) and "refusal" in block]
        said = (words or [message.additional_kwargs.get("refusal")])[0]
        super().__init__(f"the guard refused this answer (stop_reason 'refused'): there is no data; {said}")
        self.raw_message = message
