"""Shadow mode: answers pass as the language model writes them, and what the guard would do is recorded.

One candidate is drawn per segment, judged, and kept whatever the judgement: that is exactly the law of the
language model alone. A segment that the trace calls ``forced`` is one that the guard would have rejected.

This is the one place where text passes that could not be judged, since nothing is enforced here: an outage of
the reward model is recorded, and the answer goes on.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from stars_guard.config import GuardConfig
from stars_guard.drawing import Fixed
from stars_guard.errors import ConfigurationError, ScoringError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.job import Judged
from stars_guard.result import GuardedResult
from stars_guard.rewards.base import Reward, RewardModel, ScoreRequest, score_checked
from stars_guard.rules import Last
from stars_guard.server.exchange import Exchange
from stars_guard.settings import Settings
from stars_guard.trace import SegmentTrace

log = logging.getLogger("stars_guard.server")

OUTAGE = "outage"
"""The component that tells a segment that could not be judged from one that was judged badly."""
_UNJUDGED = -1e9
_LEAST_CHANCE = 0.05
"""A candidate that is rarer than one in twenty costs the guard its twenty attempts."""


class ShadowSettings(Settings):
    """Whether the guard only watches, and where it writes what it saw."""

    enabled: bool = False
    """Nothing is enforced: answers pass unchanged."""
    file: Path | None = None
    """JSON Lines, one object for each segment that would have been rejected; it holds no text."""
    keep: int = Field(default=1000, ge=1)
    """Records kept in memory."""


def shadowed(config: GuardConfig) -> GuardConfig:
    """The same thresholds, judging one candidate per segment and keeping it."""
    return config.changed(
        drawing=Fixed(candidates=1), max_attempts=1, exhaustion=Last(), escalation=(), on_error="raise"
    )


class ShadowReward:
    """A reward model whose outages do not stop an answer that is only watched."""

    def __init__(self, reward: RewardModel) -> None:
        self.name = reward.name
        self.correction = getattr(reward, "correction", None)
        self.parts: Sequence[RewardModel] = [reward]

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """As the reward model scores; an outage is a component of that name."""
        try:
            return score_checked(self.parts[0], requests)
        except ScoringError as error:
            log.warning("shadow: %s could not judge: %s", self.name, type(error.__cause__ or error).__name__)
            return [Reward(_UNJUDGED, components={OUTAGE: 1.0}) for _ in requests]

    def release(self, run_id: str) -> None:
        """Passed on."""
        self.parts[0].release(run_id)


def watching(llm: StarsGuardedLLM) -> StarsGuardedLLM:
    """The guard, as it only watches."""
    return StarsGuardedLLM(
        llm.model,
        ShadowReward(llm.reward),
        shadowed(llm.config),
        sampling=llm.sampling,
        budget=llm.budget,
    )


class ShadowRecorder:
    """An observer that writes down what would have been rejected.

    Raises:
        ConfigurationError: the file cannot be written.
    """

    def __init__(self, settings: ShadowSettings) -> None:
        self.records: deque[dict[str, Any]] = deque(maxlen=settings.keep)
        self._file = settings.file
        if self._file is not None:
            try:
                self._file.open("a", encoding="utf-8").close()
            except OSError as error:
                raise ConfigurationError(f"shadow.file {self._file}: {error.strerror}") from error

    def began(self, exchange: Exchange) -> None:
        """Nothing to record."""

    def admitted(self, exchange: Exchange) -> None:
        """Nothing to record."""

    def decided(self, exchange: Exchange, choice: int, judged: Judged) -> None:
        """It is recorded at the end."""

    def ended(self, exchange: Exchange) -> None:
        """Record the segments of a request."""
        if not exchange.shadow:
            return
        found = [
            {"id": exchange.id, "choice": choice, **record}
            for choice, result in enumerate(exchange.results)
            for record in would_reject(result)
        ]
        self.records.extend(found)
        if self._file is not None and found:
            with self._file.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(record) + "\n" for record in found)


def would_reject(result: GuardedResult) -> Iterator[dict[str, Any]]:
    """The segments of a watched answer that the guard would have rejected.

    ``extra_tokens`` is what another candidate would have cost on average, from the acceptance probability of
    this one: a guess, since others may fare better or worse.
    """
    for segment in result.trace.segments:
        for attempt in segment.attempts:
            if not attempt.accepted:
                yield {
                    "segment": segment.index,
                    "channel": attempt.channel.value,
                    "outage": OUTAGE in attempt.components,
                    "reward": attempt.reward,
                    "threshold": attempt.threshold,
                    "probability": attempt.probability,
                    "extra_tokens": _extra_tokens(segment, attempt.probability),
                }


def _extra_tokens(segment: SegmentTrace, probability: float) -> float:
    tokens = segment.attempts[-1].tokens
    return tokens / max(probability, _LEAST_CHANCE)
