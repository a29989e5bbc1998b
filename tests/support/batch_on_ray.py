"""Run by a test in a process of its own: a batch on two local workers, of which one is killed on the way."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import ray

from stars_guard import Budget, SamplingParams
from stars_guard.batch.manifest import Manifest
from stars_guard.batch.ray import answers_on_ray
from stars_guard.batch.rows import read_rows
from stars_guard.batch.storage import Output
from tests.support.batch_guard import CONFIG, KEY, guard_that_dies_once


def main(folder: Path) -> None:
    ray.init(
        num_cpus=2,
        object_store_memory=80 * 2**20,
        include_dashboard=False,
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )
    source = folder / "prompts.jsonl"
    wanted = Manifest.of(source, {}, CONFIG, SamplingParams(seed=11), Budget(), KEY)
    load = partial(guard_that_dies_once, folder / "killed")
    with Output(folder / "answers.jsonl", folder / "traces.jsonl", wanted) as output:
        rows = [row for row in read_rows(source) if row.id not in output.ids]
        for done in answers_on_ray(load, rows, concurrency=2, batch_size=4, in_flight=2):
            assert output.write(done)
    ray.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
