"""A guard as a server watches it: its reward model measured, its requests told to observers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stars_guard.guarded import StarsGuardedLLM
from stars_guard.server.config import ServerConfig
from stars_guard.server.entry.admission import Admission
from stars_guard.server.telemetry.exchange import Observer
from stars_guard.server.telemetry.logs import RequestLog
from stars_guard.server.telemetry.metrics import Metrics
from stars_guard.server.telemetry.observers import Observers
from stars_guard.server.telemetry.shadow_records import ShadowRecorder
from stars_guard.server.telemetry.spans import Spans
from stars_guard.server.telemetry.timed import TimedReward, rejudged
from stars_guard.shadow import ShadowReward


@dataclass(frozen=True)
class Observed:
    """What a server serves with, and what it tells of its requests."""

    llm: StarsGuardedLLM
    """To be used instead of the guard that was given."""
    metrics: Metrics
    observers: Observers
    recorder: ShadowRecorder | None
    """Only in shadow mode."""
    config: ServerConfig

    @classmethod
    def of(cls, llm: StarsGuardedLLM, config: ServerConfig, more: Sequence[Observer] = ()) -> Observed:
        """With the observers that the operator chose, after those in ``more``.

        Raises:
            ConfigurationError: the file for records cannot be written.
        """
        metrics = Metrics(config.observability)
        reward = TimedReward(llm.reward, metrics.scored)
        judges = ShadowReward(reward) if config.shadow.enabled else reward
        watched = rejudged(llm, judges, max_rows=config.limits.rows)
        recorder = None
        if config.shadow.enabled:
            recorder = ShadowRecorder(config.shadow, watched, metrics.registry)
        chosen: list[Observer | None] = [
            metrics,
            Spans() if config.observability.spans else None,
            RequestLog(config.observability) if config.observability.logs != "off" else None,
            recorder,
        ]
        told = Observers([*more, *(one for one in chosen if one is not None)])
        return cls(watched, metrics, told, recorder, config)

    def watch(self, admission: Admission) -> None:
        """Also show what runs and what waits."""
        limits, shadow = self.config.limits, self.config.shadow.enabled
        self.metrics.watch(admission, self.llm, running=limits.running, queued=limits.queued, shadow=shadow)

    async def aclose(self) -> None:
        """Write down what was recorded."""
        if self.recorder is not None:
            await self.recorder.aclose()
