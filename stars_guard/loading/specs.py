"""Descriptions of which language model and which reward model is meant, shared by every way to say so.

They say which part and hold the options that a file of settings can state; how else a part is to be loaded is
said beside them. :mod:`stars_guard.loading.names` makes them of names and objects.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from stars_guard.models.base import LanguageModel
from stars_guard.models.engines.written_states import WrittenStates
from stars_guard.rewards.base import RewardModel
from stars_guard.rewards.readout import Scale
from stars_guard.rewards.servers.remote import HttpOptions
from stars_guard.settings import Settings
from stars_guard.types import Guarantee


class InHand(Settings):
    """An object in hand, which is itself, whatever it says it is."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    kind: str
    part: Any

    def __repr__(self) -> str:
        return f"{type(self).__name__} {id(self.part)}"


class EmbeddedModel(Settings):
    """The language model that comes with the package."""

    kind: Literal["embedded"] = "embedded"


class LocalModel(Settings):
    """A folder or hub id, loaded by transformers in this process."""

    kind: Literal["transformers"]
    path: str
    """The folder or hub id."""
    revision: str | None = None
    """Commit, tag or branch of a hub id; a warning is logged without one."""
    dtype: str | None = None
    """Precision of the weights, such as ``bfloat16``."""
    device: str | None = None
    """Where they are: ``cpu``, ``cuda``, ``mps``, ..."""

    @field_validator("path")
    @classmethod
    def _is_run_here(cls, path: str) -> str:
        folder = Path(path).expanduser()
        alone = folder.is_dir() and not (folder / "config.json").exists() and any(folder.glob("*.gguf"))
        if alone or path.lower().endswith(".gguf"):
            raise ValueError(
                "GGUF weights are not run in this process: serve them with llama.cpp (llama-server -m "
                "FILE.gguf) and name that engine: llamacpp@http://localhost:8080; with Ollama or LM Studio: "
                "ollama@URL#NAME, lmstudio@URL#NAME; or name a folder or hub id with the original weights"
            )
        return path


class EngineServer(Settings):
    """An inference engine that speaks the OpenAI API."""

    kind: Literal["openai"]
    url: str
    """Base URL of the engine, without the path of an endpoint."""
    name: str | None = None
    """Name of the model there."""
    engine: str = "vllm"
    """Which engine it is, for what its API is like."""
    tokenizer: str | None = None
    """Folder or hub id of its tokenizer, where prompts are made here."""
    tokenizer_revision: str | None = None
    """Commit, tag or branch of the tokenizer's hub id."""
    api_key_env: str | None = None
    """Environment variable with the engine's key."""
    guarantee: Guarantee | None = None
    """How exactly to go on from what was accepted; None: as exactly as engine and tokenizer allow."""
    states: WrittenStates | None = None
    """Where it writes hidden states, for a probe; None: it hands out none."""


class EngineInProcess(Settings):
    """A folder or hub id, for vLLM's engine in this process."""

    kind: Literal["vllm"]
    path: str
    """The folder or hub id."""
    revision: str | None = None
    """Commit, tag or branch of a hub id; that of a tokenizer beside it is among the options."""
    tokenizer: str | None = None
    """Folder or hub id of its tokenizer, if it is not beside it."""
    hidden_layers: tuple[int, ...] = ()
    """Layers whose hidden states it hands out; none given: those that the reward reads, if it is a probe."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of :class:`stars_guard.models.VLLMModel`, those of the engine included."""


class ReadyModel(InHand):
    """A language model in hand."""

    kind: Literal["object"] = "object"
    part: LanguageModel


class EmbeddedReward(Settings):
    """The encoder that comes with the package, a harmlessness reward that reads texts of any model."""

    kind: Literal["embedded"] = "embedded"
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of :meth:`stars_guard.rewards.ClassifierReward.load`."""
    name: ClassVar[str] = "harmlessness"
    """Name for traces."""


class EmbeddedJudge(Settings):
    """The judge of harm that comes with the package, to measure answers that other rewards guided."""

    kind: Literal["embedded_judge"] = "embedded_judge"
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of :meth:`stars_guard.rewards.ClassifierReward.load`."""
    name: ClassVar[str] = "harm judge"
    """Name for traces."""


class _OnDisk(Settings):
    """A reward model in a folder or under a hub id."""

    kind: str
    path: str
    """The folder or hub id; in a file of settings also a spec, as ``--reward`` takes it."""
    revision: str | None = None
    """Commit, tag or branch of a hub id; a warning is logged without one."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the ``load`` of its class in :mod:`stars_guard.rewards`."""

    @property
    def name(self) -> str:
        """What was written to name it."""
        return self.path


class LocalReward(_OnDisk):
    """A folder, hub id or spec, as ``--reward`` takes it; a spec that names code has it run."""

    kind: Literal["local"]


class LocalProbe(_OnDisk):
    """A folder with a probe."""

    kind: Literal["probe"] = "probe"


class LocalStreamGuard(_OnDisk):
    """A folder or hub id of a Qwen3Guard-Stream, which judges every token."""

    kind: Literal["stream_guard"] = "stream_guard"


class LocalJudge(_OnDisk):
    """A folder or hub id of a causal language model that is asked by a prompt with a name."""

    kind: Literal["judge"] = "judge"
    preset: str

    @property
    def name(self) -> str:
        """What was written to name it."""
        return f"judge:{self.preset}@{self.path}"


class RewardCode(Settings):
    """An attribute of a Python file or module, which is run."""

    kind: Literal["code"] = "code"
    place: str
    """Path of a file that ends in ``.py``, or the dotted name of a module."""
    attribute: str
    """Name there, dotted if it is inside something."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Empty: code takes none, and what is here is refused when it is loaded."""

    @property
    def name(self) -> str:
        """What was written to name it."""
        return f"{self.place}:{self.attribute}"


class ScoringServer(Settings):
    """A scoring server, as for :class:`stars_guard.rewards.RemoteReward`."""

    kind: Literal["remote"]
    url: str
    """Whole address of the endpoint."""
    format: str
    """What kind of server it is: ``vllm_pooling``, ``tei_predict``, ..."""
    model: str | None = None
    """Name of the model there."""
    inputs: str | None = None
    """How prompt and answer are given; None: the format's first."""
    labels: tuple[str, ...] = ()
    """The model's labels, in order."""
    good: str | tuple[str, ...] | None = None
    """Labels whose probability is the reward."""
    bad: str | tuple[str, ...] | None = None
    """Labels whose absence is the reward."""
    multi_label: bool = False
    """Whether labels are independent of each other."""
    scale: Scale | None = None
    """Unit of the reward; None: the format's first."""
    http: HttpOptions = HttpOptions()
    """How the server is reached."""

    @property
    def name(self) -> str:
        """What it serves, if that is known."""
        return self.model or self.format


def named_section(section: Any) -> Any:
    """A reward in a file of settings; one that is only named there is a section of its own kind."""
    return LocalReward(kind="local", path=section) if isinstance(section, str) else section


class CascadePart(Settings):
    """A reward model of a cascade, and its scale: it counts as ``(reward - offset) / unit``."""

    reward: Annotated[
        Annotated[EmbeddedReward | LocalReward | ScoringServer, Field(discriminator="kind")],
        BeforeValidator(named_section),
    ] = EmbeddedReward()
    """A section with the reward's ``kind``, or a name, as ``--reward`` takes it."""
    offset: float = 0.0
    """The reward that counts as 0, which is even odds of being safe."""
    unit: float = Field(default=1.0, gt=0)
    """The difference in reward that counts as 1."""


class CascadeReward(Settings):
    """A reward model that judges every text, and another for those of which the first is unsure."""

    kind: Literal["cascade"] = "cascade"
    first: CascadePart
    """Judges every text."""
    second: CascadePart
    """Judges those whose first reward is from ``low`` to ``high``."""
    low: float
    """Scaled reward of the first from which on the second is asked."""
    high: float
    """The last one at which it is asked."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the ``load`` of those parts that are loaded from weights."""

    @model_validator(mode="after")
    def _is_a_band(self) -> CascadeReward:
        if self.low > self.high:
            raise ValueError(f"low={self.low} is over high={self.high}; exchange them")
        return self

    @property
    def name(self) -> str:
        """What was written to name its parts."""
        return f"cascade of {self.first.reward.name} and {self.second.reward.name}"


class ReadyReward(InHand):
    """A reward model in hand."""

    kind: Literal["object"] = "object"
    part: RewardModel

    @property
    def name(self) -> str:
        """Name that the reward model gives itself."""
        return self.part.name


class RewardCallable(InHand):
    """A function in hand, ``f(prompt, response) -> float``."""

    kind: Literal["function"] = "function"
    part: Callable[..., Any]

    @property
    def name(self) -> str:
        """Name for traces: the function's own, if it has one."""
        function = getattr(self.part, "func", self.part)  # what a functools.partial is of
        name = str(getattr(function, "__name__", type(function).__name__))
        return "function" if name == "<lambda>" else name


ModelSection: TypeAlias = Annotated[
    EmbeddedModel | LocalModel | EngineServer | EngineInProcess, Field(discriminator="kind")
]
"""The models that a file of settings can say."""
ModelSpec: TypeAlias = EmbeddedModel | LocalModel | EngineServer | EngineInProcess | ReadyModel
"""Which language model, told apart by ``kind``."""

RewardSection: TypeAlias = Annotated[
    EmbeddedReward | LocalReward | ScoringServer | CascadeReward, Field(discriminator="kind")
]
"""The rewards that a file of settings can say."""
LocalRewardSpec: TypeAlias = (
    EmbeddedReward | EmbeddedJudge | LocalReward | LocalProbe | LocalStreamGuard | LocalJudge
)
"""A reward model that is loaded into this process from weights."""
RewardSpec: TypeAlias = (
    LocalRewardSpec | RewardCode | ScoringServer | CascadeReward | ReadyReward | RewardCallable
)
"""Which reward model, told apart by ``kind``."""
