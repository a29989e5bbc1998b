"""Rows answered by several processes of this machine, each with models of its own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from stars_guard.algorithm.acceptance import AcceptanceKey
from stars_guard.batch.answers import Done
from stars_guard.batch.rows import Row
from stars_guard.batch.runner import answers_here
from stars_guard.errors import GenerationError
from stars_guard.guarded import StarsGuardedLLM


class WorkerProcesses:
    """Processes that answer blocks of rows. Seeds follow from the ids of rows, and so do the answers.

    Args:
        workers: processes, 1 or more, which share the processors.
        block: rows that a process takes at once.
    """

    def __init__(self, workers: int, block: int = 8) -> None:
        # A fork of a process whose libraries run threads can hang, so that workers begin anew.
        self._pool = ProcessPoolExecutor(
            workers, multiprocessing.get_context("spawn"), initializer=_share_processors, initargs=(workers,)
        )
        self._block = block

    def __enter__(self) -> WorkerProcesses:
        return self

    def __exit__(self, *raised: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __call__(
        self, load: Callable[[], StarsGuardedLLM], rows: Iterable[Row], in_flight: int, key: AcceptanceKey
    ) -> Iterator[Done]:
        """Answer rows; those of a block come together, in whatever order.

        Args:
            load: gives the guard in a worker, for every block anew: it keeps the models. Must pickle.
            rows: all are read before the first is answered.
            in_flight: most rows that a worker answers at the same time.
            key: what acceptance draws are hashed with.

        Raises:
            GenerationError: a worker ended in the midst of its work.
        """
        waiting = list(rows)
        blocks = [waiting[begin : begin + self._block] for begin in range(0, len(waiting), self._block)]
        try:
            answering = [self._pool.submit(_answered, load, block, in_flight, key) for block in blocks]
            for block_answers in as_completed(answering):
                yield from block_answers.result()
        except BrokenProcessPool as error:
            raise GenerationError(
                "a worker process ended by itself, which is often for want of memory; try fewer workers"
            ) from error


def _answered(
    load: Callable[[], StarsGuardedLLM], rows: list[Row], in_flight: int, key: AcceptanceKey
) -> list[Done]:
    return list(answers_here(load(), rows, in_flight, key))


def _share_processors(workers: int) -> None:
    """Runs in a worker before its libraries are there, which would take all processors each."""
    share = max(1, (os.cpu_count() or 1) // workers)
    os.environ.setdefault("OMP_NUM_THREADS", str(share))
