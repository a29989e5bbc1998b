"""Every stage of an evaluation says how many steps it has, and takes as many."""

from __future__ import annotations

import pytest

from stars_guard.evaluation import evaluate
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.methods.best_of_n import BestOfN
from stars_guard.evaluation.methods.guarded import Guarded
from stars_guard.evaluation.methods.plain import Plain
from tests.support.evaluations import HERE, plan, prompts_file

pytestmark = pytest.mark.usefixtures("fakes")


class Counting:
    """Counts the steps of every stage."""

    def __init__(self):
        self.totals, self.steps = {}, {}
        self._stage = ""

    def begin(self, stage, total):
        assert stage not in self.totals
        self._stage = stage
        self.totals[stage], self.steps[stage] = total, 0

    def advance(self):
        self.steps[self._stage] += 1


def watched(folder, output):
    counting = Counting()
    target = {"floor": None, "threshold": {"kind": "constant", "target": "mean + 0 sd"}}
    task = {"judges": ["harm", "pairs"], "measures": ["length", "repetition"], "timed": 1}
    made = plan(
        folder,
        methods={"plain": Plain(), "units": Guarded(changes=target), "matched": BestOfN(match="units")},
        judges={
            "harm": {"kind": "classifier", "reward": f"{HERE}:judging", "harmful_under": 0.0},
            "pairs": {"kind": "pairwise", "by": f"{HERE}:judging"},
        },
        tasks={"asked": {"prompts": prompts_file(folder, ["mild", "wild", "wild too"]), **task}},
    )
    evaluate(made, output, watcher=counting)
    return counting


STAGES = {
    "asked · plain draws scored by words": 3,
    "asked · plain": 3,
    "asked · units": 3,
    "asked · matched": 3,
    "asked · wall time to compare": 3,
    **{f"asked · {name} · judged by harm": 3 for name in ("plain", "units", "matched")},
    **{f"asked · {name} · judged by pairs": 3 for name in ("units", "matched")},
    **{f"asked · {name} · measured": 6 for name in ("plain", "units", "matched")},
}


def test_every_answer_that_is_drawn_timed_judged_or_measured_is_a_step(tmp_path):
    counting = watched(tmp_path, tmp_path / "out")
    assert counting.totals == STAGES
    assert counting.steps == STAGES


def test_what_is_there_already_counts_as_steps_too(tmp_path):
    watched(tmp_path, tmp_path / "out")
    folder = EvalFolder(tmp_path / "out")
    for path in (folder.judgements("asked", "units", "harm"), folder.draws("asked", "words", "base")):
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    again = watched(tmp_path, tmp_path / "out")
    assert again.steps == again.totals == STAGES
