"""Any Python function as a reward model."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn, SupportsFloat, TypeAlias

from stars_guard.errors import ConfigurationError, ScoringError
from stars_guard.rewards.awaiting import Due, await_all
from stars_guard.rewards.base import ScoreRequest
from stars_guard.types import Named, Reward

Number: TypeAlias = SupportsFloat
RewardFunction: TypeAlias = Callable[[str, str], Number | Awaitable[Number]]


class FunctionReward(Named):
    """A reward from ``f(prompt, response) -> float``; higher is safer or better.

    ``prompt`` is the conversation as plain text, one turn a line; ``response`` is the whole answer so far. A
    coroutine function is awaited for all candidates at once, each until its deadline. All run in the one
    event loop that a process keeps for them, so a client may be made once and kept; what blocks that loop
    holds up every other. A forked process has a loop of its own, and needs clients of its own.

    Args:
        function: scores one text.
        name: for traces; by default the function's own.

    Raises:
        ConfigurationError: ``function`` cannot be called.
    """

    def __init__(self, function: RewardFunction, name: str | None = None) -> None:
        if not callable(function):
            raise ConfigurationError(
                f"FunctionReward needs a callable f(prompt, response), got {type(function).__name__}"
            )
        self.name = name or str(getattr(function, "__name__", type(function).__name__))
        self._function = function

    @property
    def function(self) -> RewardFunction:
        """What scores."""
        return self._function

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """One reward per request, in order.

        Raises:
            ScoringError: the function returned something that is not a number.
            Exception: whatever the function raised.
        """
        results = [self._function(request.prompt.as_text(), request.response) for request in requests]
        pending = [
            Due(result, request.deadline)
            for result, request in zip(results, requests, strict=True)
            if inspect.isawaitable(result)
        ]
        awaited = iter(await_all(pending, self.name))
        values = [next(awaited) if inspect.isawaitable(result) else result for result in results]
        return [Reward(one_number(self.name, value)) for value in values]

    def release(self, run_id: str) -> None:
        """Does nothing: no answer is cached."""


def one_number(name: str, value: object) -> float:
    """``value`` as a float, which may still be NaN or infinite.

    Raises:
        ScoringError: it is no number, naming the reward model it came from.
    """
    # An array of one number has a float() too, but a function that returns one is likely to be wrong.
    is_array = getattr(value, "ndim", 0) != 0
    if isinstance(value, bool) or is_array or not isinstance(value, SupportsFloat):
        raise ScoringError(f"{name} returned {type(value).__name__}; the function must return one number")
    return float(value)


def unusable(message: str) -> NoReturn:
    """Raise that a judge's output cannot be used.

    What code outside the package raises by itself is shown by its type alone, since its words may quote a
    candidate.

    Args:
        message: says the kind of the output and what to do, and quotes nothing of it.

    Raises:
        ScoringError: with that message.
    """
    raise ScoringError(message)
