"""The guard of these tests: cheap, strict, and always alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Constant, Hard, Last
from stars_guard.algorithm.segments import FixedLength
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.models.base import LanguageModel, Order
from stars_guard.models.engines.engine_model import EngineModel
from stars_guard.models.engines.session import EngineSession
from stars_guard.result import GuardedResult
from stars_guard.rewards.function import FunctionReward
from stars_guard.types import Candidate, Guarantee

QUESTION = "Name three colours, and say in a sentence what each of them reminds you of."
LONG = " ".join(f"{number}. {QUESTION}" for number in range(1, 13))
"""Several blocks of the prefix cache."""
SAMPLING = SamplingParams(seed=11, max_tokens=24)
CANDIDATES = 4


def few_vowels(prompt: str, response: str) -> float:
    """0, 1 or 2: as good as random, but the same for the same text."""
    return -sum(one in "aeiou" for one in response) % 3


def guarded(model: LanguageModel, **changes: Any) -> StarsGuardedLLM:
    """Accepts about a third of the candidates."""
    parts: dict[str, Any] = {
        "threshold": Constant(target=1.5),
        "acceptance": Hard(),
        "segments": FixedLength(max_tokens=8),
        "drawing": Fixed(candidates=CANDIDATES),
        "max_attempts": 2 * CANDIDATES,
        "exhaustion": Last(),
        "min_guarantee": Guarantee.TOKEN_IDS,
        **changes,
    }
    return StarsGuardedLLM(model, FunctionReward(few_vowels), GuardConfig(**parts))


def drawn(
    model: EngineModel, session: EngineSession, candidates: int = 1, *, first: int = 0, tokens: int = 12
) -> tuple[Candidate, ...]:
    """Candidates for the first segment."""
    order = Order(session, 0, first, candidates, FixedLength(max_tokens=tokens), False, lambda: True)
    (proposal,) = model.propose([order])
    assert proposal.tokens == sum(len(one.token_ids) for one in proposal.candidates)
    return proposal.candidates


def decisions(result: GuardedResult) -> list[list[tuple[float, bool]]]:
    """What was decided, and by which numbers."""
    return [[(one.reward, one.accepted) for one in segment.attempts] for segment in result.trace.segments]


def read_again(result: GuardedResult) -> Sequence[int]:
    """For every candidate, how many tokens came before it."""
    return [
        result.usage.prompt_tokens + segment.prefix_tokens
        for segment in result.trace.segments
        for _ in range(segment.drawn)
    ]


def wait_for(condition: Callable[[], bool]) -> None:
    """Until the counters of another process say so."""
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)  # they have no event
