"""What a batch writes: one answer, or one error, a row."""

from __future__ import annotations

from typing import Any

from stars_guard.algorithm.trace import Trace
from stars_guard.errors import StarsGuardError
from stars_guard.result import GuardedResult, Usage
from stars_guard.settings import Record, StoredRecord
from stars_guard.types import StopReason


class RowError(StoredRecord):
    """Why a row has no answer."""

    type: str
    """Name of the error's class in :mod:`stars_guard.errors`."""
    message: str


class RowResult(StoredRecord):
    """One line of a batch's output: an answer, or an error in place of everything but ``id`` and ``seed``."""

    id: str
    """Id of the row."""
    seed: int
    """Seed that the answer was drawn with."""
    text: str | None = None
    reasoning: str | None = None
    """Reasoning text, where the model reasoned."""
    stop_reason: StopReason | None = None
    refused: bool | None = None
    usage: Usage | None = None
    summary: dict[str, Any] | None = None
    """What :attr:`stars_guard.GuardedResult.summary` says."""
    run_id: str | None = None
    """Id of its trace, if there is one."""
    error: RowError | None = None

    def line(self) -> str:
        """The answer as one line of JSON, without what is not there."""
        return self.model_dump_json(exclude_none=True) + "\n"


class Done(Record):
    """A row that is over, and its trace."""

    answer: RowResult
    trace: Trace | None


def answered(row_id: str, seed: int, result: GuardedResult) -> Done:
    """A row that has its answer.

    Args:
        row_id: of the row.
        seed: that the answer was drawn with.
        result: the answer.
    """
    answer = RowResult(
        id=row_id,
        seed=seed,
        text=result.text,
        reasoning=result.reasoning or None,
        stop_reason=result.stop_reason,
        refused=result.refused,
        usage=result.usage,
        summary=result.summary,
        run_id=result.trace.run_id,
    )
    return Done(answer=answer, trace=result.trace)


def failed(row_id: str, seed: int, error: StarsGuardError) -> Done:
    """A row that has no answer.

    Args:
        row_id: of the row.
        seed: that the answer would have had.
        error: why there is none; its trace goes with it.
    """
    reason = RowError(type=type(error).__name__, message=str(error))
    run_id = error.trace.run_id if error.trace else None
    return Done(answer=RowResult(id=row_id, seed=seed, run_id=run_id, error=reason), trace=error.trace)
