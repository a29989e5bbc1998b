"""A scripted guard for tests of batches: importable, so that it can be built in another process."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from stars_guard import AcceptanceKey, SamplingParams, StarsGuardedLLM
from stars_guard.algorithm.random_numbers import uniform
from stars_guard.errors import GenerationError
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.types import Reward
from tests.support.guards import guarded, hard

CONFIG = hard()
KEY = AcceptanceKey("what only the operator knows")


class SeededReward:
    """Rejects half of the candidates, by prompt and text alone; refuses to score prompts with "broken"."""

    name = "seeded"

    def score(self, requests: list[ScoreRequest]) -> list[Reward]:
        return [Reward(self._value(one)) for one in requests]

    def _value(self, request: ScoreRequest) -> float:
        if "broken" in request.prompt.as_text():
            raise ValueError("cannot be scored")
        text = request.prompt.as_text() + request.response
        return 1.0 if "bad" not in text and uniform(sum(map(ord, text)), 0, 0, 0) < 0.9 else -1.0

    def release(self, run_id: str) -> None:
        """Nothing is kept."""


def script(prompt: Prompt) -> list[list[str]]:
    """Two segments that begin with the prompt, of four attempts each."""
    asked = prompt.as_text()
    if "outage" in asked:
        raise GenerationError("the engine is away")
    return [[f"{asked}{segment}{attempt}. " for attempt in range(4)] for segment in "ab"]


def guard() -> StarsGuardedLLM:
    return guarded(script, SeededReward(), sampling=SamplingParams(seed=11))


def guard_that_dies_once(marker: Path) -> StarsGuardedLLM:
    """Its process is killed in the middle of an answer, unless the marker is there."""

    def deadly(prompt: Prompt) -> list[list[str]]:
        if prompt.as_text() == "p17" and not marker.exists():
            marker.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return script(prompt)

    return guarded(deadly, SeededReward(), sampling=SamplingParams(seed=11))
