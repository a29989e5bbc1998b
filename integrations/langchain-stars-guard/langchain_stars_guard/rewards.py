"""RunnableReward: any chain that judges, as a reward model for the guard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Context
from typing import Any, SupportsFloat

from langchain_core.runnables import Runnable, RunnableConfig
from stars_guard import ConfigurationError
from stars_guard.adapters import unusable
from stars_guard.rewards import Reward, ScoreRequest, one_number


class RunnableReward:
    """A reward from a runnable that takes ``{"prompt": ..., "response": ...}``; higher is safer or better.

    ``prompt`` is the conversation as plain text, one turn a line; ``response`` is the whole answer so far,
    the candidate included. All candidates of a round go into one ``batch``. What it raises, and an output
    that is no number, is an error of the guard and never an accept.

    The runnable gets ``config``, its callbacks included, and nothing from the chain around the guarded model:
    requests of several callers are judged together, and a judge in their streams would show rejected text.

    Args:
        runnable: a chain; it must have a synchronous ``invoke`` or ``batch``.
        read: from the runnable's output to the reward, such as ``lambda message: float(message.text)``. None
            takes numbers as they are.
        config: for every call: callbacks, tags, ``max_concurrency`` and so on.
        name: for traces and error messages; by default the runnable's.

    Raises:
        ConfigurationError: it is no runnable, or ``read`` cannot be called.

    Example:
        >>> from langchain_core.runnables import RunnableLambda
        >>> RunnableReward(RunnableLambda(lambda text: -text["response"].count("!")), name="calm").name
        'calm'
    """

    def __init__(
        self,
        runnable: Runnable[dict[str, str], Any],
        *,
        read: Callable[[Any], SupportsFloat] | None = None,
        config: RunnableConfig | None = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(runnable, Runnable):
            raise ConfigurationError(
                f"RunnableReward needs a runnable, got {type(runnable).__name__}; wrap it in RunnableLambda"
            )
        if read is not None and not callable(read):
            raise ConfigurationError(f"read={read!r} must be a function from the output to a number")
        self.name: str = name or runnable.get_name()
        self._runnable, self._read, self._config = runnable, read or _number, config

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """One reward per request, in order.

        Raises:
            ScoringError: an output is no number.
            Exception: whatever the runnable and ``read`` raise.
        """
        inputs = [{"prompt": request.prompt.as_text(), "response": request.response} for request in requests]
        # In a context of its own, where no run of a chain is going on.
        outputs = Context().run(self._runnable.batch, inputs, self._config)
        return [Reward(one_number(self.name, self._read(output))) for output in outputs]

    def release(self, run_id: str) -> None:
        """Do nothing: nothing is cached."""


def _number(output: object) -> SupportsFloat:
    # Not the output itself: it may quote what was rejected.
    if not isinstance(output, SupportsFloat):
        unusable(
            f"the runnable returned {type(output).__name__} and no number; say how to read it, for example "
            "read=lambda message: float(message.text)"
        )
    return output
