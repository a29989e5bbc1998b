"""What an operator sets: which models, how to guard, who may ask, and how much. One file, TOML or YAML.

Every section may be left out; without a file, the embedded models are served without keys on the loopback
interface.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from stars_guard.algorithm.config import Budget
from stars_guard.loading.configuration import Configuration
from stars_guard.loading.names import embedded_config, reward_spec
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
    keep_alive_seconds: float = Field(default=2.0, gt=0)
    """Seconds in which a stream has nothing to show, and after which it sends a line that clients skip."""
    drain_seconds: float = Field(default=30.0, ge=0)
    """Most seconds that running requests may take on after SIGTERM."""
    requests: RequestLimits = RequestLimits()
    """What a request may set for itself."""

    @property
    def rows(self) -> int:
        """``max_rows`` of the guard: every choice that runs has a row."""
        return max(64, self.running)


_OF_REQUESTS = ("seed", "response_schema")
"""Sampling parameters that are a request's own."""


class Listening(Settings):
    """Where the server listens."""

    host: str = "127.0.0.1"
    """Name or address; ``--host`` wins."""
    port: int = Field(default=8080, ge=0, le=65535)
    """0 takes a free one; ``--port`` wins."""


class ServerConfig(Configuration):
    """Everything that ``stars-guard serve`` needs to know."""

    served_name: str = Field(default="stars-guard", min_length=1)
    """What clients call the model."""
    server: Listening = Listening()
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

    @property
    def without_effect(self) -> list[str]:
        """Settings of the same file that only other commands heed: every request has its own."""
        return [f"sampling.{name}" for name in _OF_REQUESTS if name in self.sampling.model_fields_set]

    @model_validator(mode="before")
    @classmethod
    def _length_where_a_request_asks_for_none(cls, values: Any) -> Any:
        """``sampling.max_tokens`` is ``limits.default_tokens``, so that one file does for all commands."""
        sections = values if isinstance(values, dict) else {}
        sampling, limits = sections.get("sampling"), sections.get("limits", {})
        if not (isinstance(sampling, dict) and isinstance(limits, dict) and "max_tokens" in sampling):
            return values
        return {**values, "limits": {"default_tokens": sampling["max_tokens"], **limits}}

    @model_validator(mode="after")
    def _fits(self) -> ServerConfig:
        if self.guard is None and embedded_config(reward_spec(self.reward)) is None:
            raise ValueError("a reward of your own needs a section guard: rewards differ in scale")
        lengths = {self.sampling.max_tokens, self.limits.default_tokens}
        if "max_tokens" in self.sampling.model_fields_set and len(lengths) > 1:
            raise ValueError("sampling.max_tokens and limits.default_tokens mean the same; leave one out")
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
