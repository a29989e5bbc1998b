"""The key of acceptance draws: beside the output, and the same for a run that goes on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stars_guard import AcceptanceKey, ConfigurationError, GuardConfig
from stars_guard.algorithm.random_numbers import ACCEPTANCE, uniform
from stars_guard.algorithm.rules import Constant, Refuse, Soft
from stars_guard.batch.keys import key_beside
from stars_guard.batch.rows import Row
from stars_guard.batch.runner import answers_here
from stars_guard.testing import KeywordReward
from tests.support.batch_guard import KEY
from tests.support.guards import guarded

SOFT = GuardConfig(
    threshold=Constant(target=1.0), acceptance=Soft(beta=1.0), max_attempts=1, exhaustion=Refuse()
)
SEED = min(range(3000), key=lambda seed: uniform(seed, 0, 0, ACCEPTANCE))


def test_a_key_is_drawn_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    first = key_beside(tmp_path / "answers.jsonl")
    assert first.fingerprint == key_beside(tmp_path / "answers.jsonl").fingerprint
    assert first.fingerprint != key_beside(tmp_path / "others.jsonl").fingerprint
    if os.name == "posix":
        assert (tmp_path / "answers.jsonl.key").stat().st_mode & 0o077 == 0


def test_a_file_without_a_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "answers.jsonl.key").write_text("")
    with pytest.raises(ConfigurationError, match=r"answers\.jsonl\.key holds no key; remove it"):
        key_beside(tmp_path / "answers.jsonl")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        key_beside(tmp_path / "nowhere" / "answers.jsonl")


def shown(**parts: object) -> int:
    """Of 200 rows whose author chose the seed, those whose text of reward -3 is shown."""
    llm = guarded(lambda prompt: [["bad"]], KeywordReward(["bad"], bad=-3.0), SOFT, **parts)
    rows = [Row(id=str(number), prompt=f"p{number}", seed=SEED) for number in range(200)]
    return sum("bad" in (done.answer.text or "") for done in answers_here(llm, rows, 8))


def test_the_author_of_a_row_does_not_choose_its_acceptance_draws() -> None:
    assert uniform(SEED, 0, 0, ACCEPTANCE) < 0.018  # what would show it: exp(-4)
    for count in (shown(), shown(acceptance_key=KEY)):
        assert count < 15  # 3.7 on average; all 200 if the seed told the draws


def test_the_same_key_repeats_a_batch() -> None:
    def draws(key: AcceptanceKey) -> list[float]:
        llm = guarded(lambda prompt: [["bad"]], KeywordReward(["bad"]), SOFT)
        traces = [done.trace for done in answers_here(llm, [Row(id="a", prompt="p", seed=1)], 1, key)]
        return [trace.segments[0].attempts[0].uniform for trace in traces if trace is not None]

    assert draws(KEY) == draws(KEY) != draws(AcceptanceKey.fresh())
