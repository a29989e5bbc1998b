"""Errors of the guard under the names by which LangChain knows them, too."""

from __future__ import annotations

from langchain_core.exceptions import ContextOverflowError
from stars_guard import ContextLengthError


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
