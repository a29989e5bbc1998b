"""What an operator sets: which models, how to guard, who may ask, and how much. One file, TOML or YAML.

Every section may be left out; without a file, the embedded models are served without keys on the loopback
interface.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from stars_guard.algorithm.config import Budget, SamplingParams
from stars_guard.loading.calibrated import CalibratedConfig, read_config
from stars_guard.loading.specs import EmbeddedModel, EmbeddedReward, ModelSection, RewardSection
from stars_guard.server.entry.admission import QueueLimits
from stars_guard.server.entry.body import BodyLimits
from stars_guard.server.entry.connections import ConnectionLimits
from stars_guard.server.entry.hosts import HostName, Origin
from stars_guard.server.entry.keys import ApiKey
from stars_guard.server.openai.limits import RequestLimits, SizeLimits
from stars_guard.server.readiness import HealthSettings
from stars_guard.server.telemetry.observers import ObservabilitySettings
from stars_guard.server.telemetry.shadow_records import ShadowSettings
from stars_guard.server.telemetry.trace_store import Traces
from stars_guard.settings import Settings


# Limits stand where they are enforced. Fields come in the order of the bases, read from the right.
class Limits(QueueLimits, SizeLimits, BodyLimits, ConnectionLimits):
    """How much is taken on."""

    max_seconds: float = Field(default=300.0, gt=0)
    """Most seconds that an answer takes once it is begun."""
    keep_alive_seconds: float = Field(default=5.0, gt=0)
    """Seconds in which a stream has nothing to show, and after which it sends a line that clients skip."""
    drain_seconds: float = Field(default=30.0, ge=0)
    """Most seconds that running requests may take on after SIGTERM."""
    requests: RequestLimits = RequestLimits()
    """What a request may set for itself."""

    @property
    def rows(self) -> int:
        """``max_rows`` of the guard: every choice that runs has a row."""
        return max(64, self.running)


_OF_REQUESTS = {"max_tokens", "seed", "response_schema"}
"""Sampling parameters that are a request's own, or those of :class:`Limits`."""


class ServerConfig(Settings):
    """Everything that ``stars-guard serve`` needs to know."""

    served_name: str = Field(default="stars-guard", min_length=1)
    """What clients call the model."""
    model: ModelSection = EmbeddedModel()
    reward: RewardSection = EmbeddedReward()
    guard: CalibratedConfig | None = None
    """The settings of :class:`stars_guard.GuardConfig`, or ``{file = "..."}`` with those of calibration.
    None: those of the embedded reward."""
    sampling: SamplingParams = SamplingParams()
    """What a request leaves out."""
    budget: Budget = Budget()
    """What every request may cost at most."""
    limits: Limits = Limits()
    keys: tuple[ApiKey, ...] = ()
    """Who may ask; empty: everybody who reaches the server."""
    hosts: tuple[HostName, ...] = ("*",)
    """Names that requests may ask for in their header ``Host``."""
    cors_origins: tuple[Origin, ...] = ()
    """Web pages of other origins whose scripts may ask; empty: none."""
    acceptance_key_env: str | None = None
    """Environment variable with the secret that acceptance draws are hashed with, so that no client can
    choose them by its ``seed``; None: ``STARS_GUARD_ACCEPTANCE_KEY``. Without a secret, one is drawn at every
    start; with the same one, the same request and seed repeat the answer, on any replica."""
    traces: Traces = Traces()
    health: HealthSettings = HealthSettings()
    shadow: ShadowSettings = ShadowSettings()
    observability: ObservabilitySettings = ObservabilitySettings()

    @property
    def most(self) -> Budget:
        """What a choice may cost at most."""
        budget, limits = self.budget, self.limits
        return budget.changed(
            max_seconds=min(budget.max_seconds or limits.max_seconds, limits.max_seconds),
            max_reward_calls=min(budget.max_reward_calls or limits.max_reward_calls, limits.max_reward_calls),
        )

    @model_validator(mode="before")
    @classmethod
    def _guard_from_file(cls, values: Any) -> Any:
        guard = values.get("guard") if isinstance(values, dict) else None
        if isinstance(guard, dict) and "file" in guard:
            if len(guard) > 1:
                raise ValueError("guard.file stands alone: the file holds all settings of the guard")
            return {**values, "guard": read_config(guard["file"])}
        return values

    @model_validator(mode="after")
    def _fits(self) -> ServerConfig:
        if self.guard is None and self.reward.kind != "embedded":
            raise ValueError("a reward of your own needs a section guard: rewards differ in scale")
        if idle := self.sampling.model_fields_set & _OF_REQUESTS:
            raise ValueError(
                f"sampling.{min(idle)} has no effect: every request has its own; see limits.default_tokens"
            )
        names = [key.name for key in self.keys]
        if len(set(names)) < len(names):
            raise ValueError(f"two keys have the same name ({', '.join(names)})")
        if len({key.sha256 for key in self.keys}) < len(names):
            raise ValueError("two keys have the same hash; give everybody a key of his own")
        return self


def read_server_config(path: str | Path) -> ServerConfig:
    """Read a configuration; files that it names are relative to the working directory.

    Raises:
        ConfigurationError: naming the file and what is wrong with it.
    """
    return ServerConfig.of_file(path)
