"""A batch on the machines of a Ray cluster (extra ``ray``): a guard per worker, built once.

Ray answers a block of rows again when its worker dies. Seeds follow from the ids, so that the answers are the
same, and only the rows of a block that was finished come out.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stars_guard.algorithm.acceptance import AcceptanceKey
from stars_guard.algorithm.trace import Trace
from stars_guard.batch.answers import Done, RowResult
from stars_guard.batch.rows import Row
from stars_guard.batch.runner import answers_here
from stars_guard.errors import needs_extra
from stars_guard.guarded import StarsGuardedLLM

if TYPE_CHECKING:
    from pyarrow import Table
    from ray.data import Dataset

GuardFactory = Callable[[], StarsGuardedLLM]
"""Builds the guard, in the worker; must pickle."""

_NESTED = ("usage", "summary", "error")
"""Parts of an answer that are JSON texts in a dataset, whose columns have one type each."""


def guard_dataset(
    dataset: Dataset,
    load: GuardFactory,
    *,
    concurrency: int | tuple[int, int] = 1,
    batch_size: int = 32,
    in_flight: int = 16,
    acceptance_key: AcceptanceKey | None = None,
    **resources: Any,
) -> Dataset:
    """Answer every row of a dataset.

    Args:
        dataset: with the columns of :class:`stars_guard.batch.rows.Row`: ``id``, and ``prompt`` or
            ``messages``; or ``id`` and ``row``, such a row as JSON text.
        load: builds the guard, once a worker; the seed of its sampling is the batch's.
        concurrency: workers, or least and most.
        batch_size: rows that a worker takes at once, and that are answered again if it dies.
        in_flight: most rows that a worker answers at the same time.
        acceptance_key: what acceptance draws are hashed with, on all workers; None draws one.
        resources: for each worker, such as ``num_cpus`` and ``num_gpus``, as ``map_batches`` takes them.

    Returns:
        The dataset of answers, computed when it is read or written: the trace, and the fields of
        :class:`stars_guard.batch.answers.RowResult`, with usage, summary and error as JSON text.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    _check_installed()
    from ray.data import ActorPoolStrategy

    least, most = (concurrency, concurrency) if isinstance(concurrency, int) else concurrency
    return dataset.map_batches(
        Worker,
        fn_constructor_args=(load, in_flight, acceptance_key or AcceptanceKey.fresh()),
        batch_size=batch_size,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=least, max_size=most),
        **resources,
    )


class Worker:
    """What runs in a worker: holds the guard, and answers batch after batch."""

    def __init__(self, load: GuardFactory, in_flight: int, key: AcceptanceKey) -> None:
        self._llm = load()
        self._in_flight = in_flight
        self._key = key

    def __call__(self, batch: Table) -> Table:
        """Answer a batch."""
        rows = [_row(values) for values in batch.to_pylist()]
        return _table(answers_here(self._llm, rows, self._in_flight, self._key))


def answers_on_ray(
    load: GuardFactory,
    rows: Iterable[Row],
    *,
    address: str | None = None,
    concurrency: int = 1,
    batch_size: int = 32,
    in_flight: int = 16,
    acceptance_key: AcceptanceKey | None = None,
) -> Generator[Done, None, None]:
    """Answer rows on a cluster; those of a block come together, in whatever order.

    Args:
        load: as for :func:`guard_dataset`, like what follows.
        rows: at least one; all are read before the first is answered.
        address: of the cluster; None starts one on this machine, unless one was started.
        concurrency: workers.
        batch_size: rows that a worker takes at once.
        in_flight: rows that it answers at the same time.
        acceptance_key: as for :func:`guard_dataset`.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    _check_installed()
    import ray

    items = [{"id": row.id, "row": row.model_dump_json(exclude_none=True)} for row in rows]
    with _cluster(address):
        _quiet(ray.data.DataContext.get_current())
        blocks = -(-len(items) // batch_size)
        dataset = ray.data.from_items(items, override_num_blocks=blocks)
        sizes: Any = {"concurrency": concurrency, "batch_size": batch_size, "in_flight": in_flight}
        answers = guard_dataset(dataset, load, acceptance_key=acceptance_key, **sizes)
        for values in answers.iter_rows():
            yield _done(values)


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """A cluster that is there already, or one for as long as it is needed."""
    import ray

    if ray.is_initialized():
        yield
        return
    options: Any = {"include_dashboard": False} if address is None else {}
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    try:
        yield
    finally:
        ray.shutdown()


def _quiet(context: Any) -> None:
    """No progress bars of Ray's own."""
    context.enable_progress_bars = False
    context.print_on_execution_start = False


def _row(values: Mapping[str, Any]) -> Row:
    given = {name: value for name, value in values.items() if value is not None}
    if "row" in given:
        given |= json.loads(given.pop("row"))
    return Row.found_at(f"row {given.get('id')!r}", {"id": "", **given})


def _table(done: Iterable[Done]) -> Table:
    import pyarrow as pa

    types = {"seed": pa.int64(), "refused": pa.bool_()}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in (*RowResult.model_fields, "trace")])
    return pa.Table.from_pylist([_values(row) for row in done], schema=schema)


def _values(done: Done) -> dict[str, Any]:
    values = done.answer.model_dump(mode="json")
    for name in _NESTED:
        values[name] = None if values[name] is None else json.dumps(values[name])
    return {**values, "trace": done.trace and done.trace.model_dump_json()}


def _done(values: Mapping[str, Any]) -> Done:
    given = dict(values)
    trace = given.pop("trace")
    for name in _NESTED:
        given[name] = None if given[name] is None else json.loads(given[name])
    return Done(answer=RowResult(**given), trace=trace and Trace.model_validate_json(trace))


def _check_installed() -> None:
    with needs_extra("ray", "ray"):
        import ray.data  # noqa: F401
