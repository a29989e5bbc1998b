"""Everything that a server tells of its requests, and the guard around a reward model that is watched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stars_guard.guarded import StarsGuardedLLM
from stars_guard.rewards.base import RewardModel
from stars_guard.server.telemetry.exchange import Observer
from stars_guard.server.telemetry.logs import RequestLog
from stars_guard.server.telemetry.metrics import Metrics, TimedReward
from stars_guard.server.telemetry.observers import ObservabilitySettings, Observers
from stars_guard.server.telemetry.shadow_records import ShadowRecorder, ShadowSettings
from stars_guard.server.telemetry.spans import Spans
from stars_guard.shadow import ShadowReward


@dataclass(frozen=True)
class Telemetry:
    """What a server tells of its requests, and the guard that it serves with for that."""

    llm: StarsGuardedLLM
    """The guard with its reward model measured, to be used instead of the guard that was given."""
    metrics: Metrics
    reward: TimedReward
    """The reward model of the guard, as it is measured."""
    observers: Observers
    recorder: ShadowRecorder | None
    """What writes shadow records; only in shadow mode."""

    @classmethod
    def around(
        cls,
        llm: StarsGuardedLLM,
        settings: ObservabilitySettings,
        shadow: ShadowSettings,
        *,
        max_rows: int,
        observers: Sequence[Observer] = (),
    ) -> Telemetry:
        """The telemetry of a guard, as the operator chose it.

        Args:
            llm: the guard; it must not be used any more.
            settings: which metrics, spans and logs there are.
            shadow: whether the guard only watches, and what is recorded then.
            max_rows: most answers that the guard writes at the same time.
            observers: told of requests before those that the operator chose.

        Raises:
            ConfigurationError: the file for shadow records cannot be written.
        """
        metrics = Metrics(settings)
        reward = TimedReward(llm.reward, metrics.scored)
        watched = rejudged(llm, ShadowReward(reward) if shadow.enabled else reward, max_rows=max_rows)
        recorder = ShadowRecorder(shadow, watched, metrics.registry) if shadow.enabled else None
        chosen: list[Observer | None] = [
            metrics,
            Spans() if settings.spans else None,
            RequestLog(settings) if settings.logs != "off" else None,
            recorder,
        ]
        present = [observer for observer in chosen if observer is not None]
        return cls(watched, metrics, reward, Observers([*observers, *present]), recorder)

    async def aclose(self) -> None:
        """Write down what was recorded."""
        if self.recorder is not None:
            await self.recorder.aclose()


def rejudged(llm: StarsGuardedLLM, reward: RewardModel, **parts: Any) -> StarsGuardedLLM:
    """A guard like ``llm`` around another reward model, on the same scale.

    Args:
        llm: the guard; it must not be used any more, since two loops would draw from one language model.
        reward: judges instead.
        parts: ``max_rows`` and ``micro_batching``, if the guard was built with any.
    """
    return StarsGuardedLLM(
        llm.model,
        reward,
        llm.config,
        sampling=llm.sampling,
        budget=llm.budget,
        safer_model=llm.loop.rounds.proposers.safer_model,
        acceptance_key=llm.acceptance_key,
        **parts,
    )
