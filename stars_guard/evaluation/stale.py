"""What was kept of answers that are no longer there: it must not count for those that are drawn anew."""

from __future__ import annotations

from stars_guard.evaluation.cells import Cell
from stars_guard.evaluation.config import EvalPlan
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.judges.pairwise import compared_with
from stars_guard.evaluation.timing import forget_timings


def drop_stale(evaluation: EvalPlan, folder: EvalFolder, cell: Cell) -> None:
    """Drop judgements, measurements and timings of a cell whose answers somebody removed.

    They go by the ids of rows, so that they would pass for those of other answers.

    Args:
        evaluation: says which judges compare other answers with those of the cell.
        folder: its output.
        cell: whose answers may be gone.
    """
    if folder.answers(cell.task, cell.name).exists():
        return
    compared = [name for name, judge in evaluation.judges.items() if compared_with(judge) == cell.name]
    for path in folder.judgements_of(cell.task).glob("*/*.jsonl"):
        if path.parent.name == cell.name or path.stem in compared:
            path.unlink()
    folder.measurements(cell.task, cell.name).unlink(missing_ok=True)
    forget_timings(folder, cell)
