"""Errors that reach whoever asked, through code of LlamaIndex that takes a ``ValueError`` for an answer.

Its response synthesizers and extractors understand every ``ValueError`` as output that cannot be parsed, and
say "Empty Response". Wrong settings and prompts that cannot be served are ``ValueError`` s elsewhere.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import aclosing, contextmanager
from functools import wraps
from typing import Any, TypeVar

from stars_guard import StarsGuardError

_Class = TypeVar("_Class", bound=type)


class CallError(StarsGuardError):
    """A call that cannot be answered: what it needs cannot be loaded, or its prompt cannot be served.

    Its ``__cause__`` is the error of :mod:`stars_guard` that says so, and its words are those. The endpoints
    of an LLM (``chat``, ``complete``, ``chat_with_tools``, ...) raise that error itself.
    """


@contextmanager
def reaching() -> Iterator[None]:
    """Raise errors of the guard that are ``ValueError`` s, too, as a :class:`CallError`."""
    try:
        yield
    except StarsGuardError as error:
        if not isinstance(error, ValueError):
            raise
        reached = CallError(str(error))
        reached.__dict__.update(error.__dict__)
        raise reached from error


def errors_reach_users(*names: str) -> Callable[[_Class], _Class]:
    """A class whose methods of these names raise :class:`CallError`, whatever they return."""

    def changed(kind: _Class) -> _Class:
        for name in names:
            setattr(kind, name, _reaching(getattr(kind, name)))
        return kind

    return changed


def _reaching(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def called(*args: Any, **kwargs: Any) -> Any:
        with reaching():
            return _watched(method(*args, **kwargs))

    return called


def _watched(result: Any) -> Any:
    if inspect.isawaitable(result):
        return _awaited(result)
    if isinstance(result, Generator):
        return _generated(result)
    return _agenerated(result) if isinstance(result, AsyncGenerator) else result


async def _awaited(result: Awaitable[Any]) -> Any:
    with reaching():
        return _watched(await result)


def _generated(items: Generator[Any, None, None]) -> Generator[Any, None, None]:
    with reaching():
        yield from items


async def _agenerated(items: AsyncGenerator[Any, None]) -> AsyncGenerator[Any, None]:
    with reaching():
        async with aclosing(items):
            async for item in items:
                yield item
