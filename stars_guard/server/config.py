"""What an operator sets: which models, how to guard, who may ask, and how much. One file, TOML or YAML.

Every section may be left out; without a file, the embedded models are served without keys on the loopback
interface.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, model_validator

from stars_guard.algorithm.config import Budget, SamplingParams
from stars_guard.errors import ConfigurationError
from stars_guard.loading.calibrated import CalibratedConfig, read_config
from stars_guard.rewards.classifiers.outputs import Scale
from stars_guard.rewards.servers.remote import HttpOptions
from stars_guard.server.entry.admission import QueueLimits
from stars_guard.server.entry.body import BodyLimits
from stars_guard.server.entry.keys import ApiKey
from stars_guard.server.openai.limits import RequestLimits, SizeLimits
from stars_guard.server.telemetry.observers import ObservabilitySettings
from stars_guard.server.telemetry.shadow_records import ShadowSettings
from stars_guard.server.telemetry.trace_store import Traces
from stars_guard.settings import Settings
from stars_guard.settings_file import read_settings


class EmbeddedModel(Settings):
    """The language model that comes with the package."""

    kind: Literal["embedded"] = "embedded"


class LocalModel(Settings):
    """A folder or hub id, loaded by transformers in the server's own process."""

    kind: Literal["transformers"]
    path: str
    dtype: str | None = None
    device: str | None = None


class EngineServer(Settings):
    """An inference engine that speaks the OpenAI API."""

    kind: Literal["openai"]
    url: str
    """Base URL of the engine, without the path of an endpoint."""
    name: str | None = None
    """The model's name there."""
    engine: str = "vllm"
    """Which engine it is, for what its API is like."""
    tokenizer: str | None = None
    """Folder or hub id of its tokenizer, where prompts are made here."""
    api_key_env: str | None = None
    """Environment variable with the engine's key."""


class EngineInProcess(Settings):
    """A folder or hub id, for vLLM's engine in the server's own process."""

    kind: Literal["vllm"]
    path: str
    tokenizer: str | None = None
    """Folder or hub id of its tokenizer, if it is not beside it."""
    options: dict[str, Any] = Field(default_factory=dict)
    """As for :class:`stars_guard.models.VLLMModel`, those of the engine included."""


Model: TypeAlias = Annotated[
    EmbeddedModel | LocalModel | EngineServer | EngineInProcess, Field(discriminator="kind")
]


class EmbeddedReward(Settings):
    """The harmlessness reward that comes with the package."""

    kind: Literal["embedded"] = "embedded"


class LocalReward(Settings):
    """A folder, hub id or spec, as ``--reward`` takes it; a spec that names code has it run."""

    kind: Literal["local"]
    path: str
    options: dict[str, Any] = Field(default_factory=dict)
    """As for :meth:`stars_guard.rewards.ClassifierReward.load`."""


class ScoringServer(Settings):
    """A scoring server, as for :class:`stars_guard.rewards.RemoteReward`."""

    kind: Literal["remote"]
    url: str
    format: str
    model: str | None = None
    inputs: str | None = None
    labels: tuple[str, ...] = ()
    good: str | tuple[str, ...] | None = None
    bad: str | tuple[str, ...] | None = None
    multi_label: bool = False
    scale: Scale | None = None
    http: HttpOptions = HttpOptions()


Reward: TypeAlias = Annotated[EmbeddedReward | LocalReward | ScoringServer, Field(discriminator="kind")]


# Limits stand where they are enforced. Fields come in the order of the bases, read from the right.
class Limits(QueueLimits, SizeLimits, BodyLimits):
    """How much is taken on."""

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


_OF_REQUESTS = {"max_tokens", "seed", "response_schema"}
"""Sampling parameters that are a request's own, or those of :class:`Limits`."""


class ServerConfig(Settings):
    """Everything that ``stars-guard serve`` needs to know."""

    served_name: str = Field(default="stars-guard", min_length=1)
    """What clients call the model."""
    model: Model = EmbeddedModel(kind="embedded")
    reward: Reward = EmbeddedReward(kind="embedded")
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

    @property
    def most(self) -> Budget:
        """What a choice may cost at most."""
        seconds = min(self.budget.max_seconds or self.limits.max_seconds, self.limits.max_seconds)
        return self.budget.changed(max_seconds=seconds)

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
