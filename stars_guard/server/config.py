"""What an operator sets: which models, how to guard, who may ask, and how much. One file, TOML or YAML.

Every section may be left out; without a file, the embedded models are served without keys on the loopback
interface.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from stars_guard.algorithm.config import Budget, SamplingParams
from stars_guard.errors import ConfigurationError
from stars_guard.loading.calibrated import CalibratedConfig, read_config
from stars_guard.loading.specs import EmbeddedModel, EmbeddedReward, ModelSection, RewardSection
from stars_guard.server.telemetry.observers import ObservabilitySettings
from stars_guard.server.telemetry.shadow_records import ShadowSettings
from stars_guard.settings import Settings, read_settings

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Range(Settings):
    """The values that a request may choose; None is no bound."""

    least: float | None = None
    most: float | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> Range:
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"least={self.least:g} is over most={self.most:g}, so no value would do")
        return self

    def problem(self, value: float) -> str | None:
        """What is wrong with a value, if something is."""
        if self.least is not None and value < self.least:
            return f"at least {self.least:g} is allowed here"
        if self.most is not None and value > self.most:
            return f"at most {self.most:g} is allowed here"
        return None


class RequestLimits(Settings):
    """The STARS settings that a request may choose, and within which bounds. What is None, it may not."""

    target: Range | None = None
    beta: Range | None = None
    segment_tokens: Range | None = Range(least=1, most=256)
    max_attempts: Range | None = Range(least=1, most=20)
    max_seconds: Range | None = Range(least=0)
    max_proposed_tokens: Range | None = Range(least=1)
    max_reward_calls: Range | None = Range(least=1)


class Limits(Settings):
    """How much is taken on."""

    max_body_bytes: int = Field(default=4 * 2**20, ge=1)
    """Longest request body; a longer one is refused with 413, and not read to its end."""
    body_seconds: float = Field(default=60.0, gt=0)
    """Most seconds until a request's body has come; a slower one is refused with 408."""
    max_prompt_characters: int = Field(default=400_000, ge=1)
    """Longest prompt, all messages together."""
    max_tokens: int = Field(default=2048, ge=1)
    """Longest answer that a request may ask for."""
    default_tokens: int = Field(default=256, ge=1)
    """Longest answer where it does not ask."""
    max_choices: int = Field(default=8, ge=1)
    """Most choices (``n``) of one request."""
    running: int = Field(default=32, ge=1)
    """Most choices being served at the same time."""
    queued: int = Field(default=128, ge=0)
    """Most requests that wait; one more is refused with 429."""
    queue_seconds: float = Field(default=30.0, gt=0)
    """Most seconds that a request waits, before it is refused with 429."""
    max_seconds: float = Field(default=300.0, gt=0)
    """Most seconds that an answer takes once it is begun."""
    drain_seconds: float = Field(default=30.0, ge=0)
    """Most seconds that running requests may take on after SIGTERM."""
    requests: RequestLimits = RequestLimits()
    """What a request may set for itself."""

    @property
    def rows(self) -> int:
        """``max_rows`` of the guard: every choice that runs has a row."""
        return max(64, self.running)


class ApiKey(Settings):
    """Somebody who may ask. Only the hash of the key is known here."""

    name: str = Field(min_length=1)
    """Name for logs and metrics."""
    sha256: str
    """SHA-256 of the key, as ``stars-guard config hash-key`` prints it."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """Most requests begun in any 60 seconds; None is no limit."""
    concurrent: int | None = Field(default=None, ge=1)
    """Most requests at the same time."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Longest answer, if shorter than that of the server."""

    @model_validator(mode="before")
    @classmethod
    def _hashed(cls, values: Any) -> Any:
        # Here and not on the field, whose value would be repeated: it may be a key by mistake.
        given = values.get("sha256") if isinstance(values, dict) else None
        if given is not None and not (isinstance(given, str) and _SHA256.fullmatch(given)):
            raise ValueError(
                "sha256 is not the hash of a key, 64 of 0-9a-f; make one with stars-guard config hash-key"
            )
        return values


class Traces(Settings):
    """Full traces at ``/v1/traces/{id}``."""

    enabled: bool = False
    """Whether traces are kept."""
    keep: int = Field(default=1000, ge=1)
    """Number of traces that are kept, the latest ones."""


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
    traces: Traces = Traces()
    shadow: ShadowSettings = ShadowSettings()
    observability: ObservabilitySettings = ObservabilitySettings()

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
    values = read_settings(path)
    try:
        return ServerConfig(**values)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
