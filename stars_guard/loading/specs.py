"""Which model and which reward: every name, section of settings and object becomes a typed description here.

=================================  ====================================================================
name of a model                    what it names
=================================  ====================================================================
``FOLDER_OR_HUB_ID``               a causal language model for transformers, in this process
``ENGINE@URL``, ``...#MODEL``      an inference engine, such as ``vllm@http://localhost:8000``
``vllm:FOLDER_OR_HUB_ID``          a model for vLLM's engine, in this process
=================================  ====================================================================

=================================  ====================================================================
name of a reward                   what it names
=================================  ====================================================================
``FOLDER_OR_HUB_ID``               a sequence classifier, or a probe where the folder holds one
``path/to/file.py:attribute``      something in a Python file, which is run
``package.module:attribute``       something in a module that can be imported, which is run
``judge:PRESET@FOLDER_OR_HUB_ID``  a causal language model that is asked, by a known prompt
``embedded:probe``                 the probe of the embedded language model
=================================  ====================================================================

None is the embedded one. Instead of a name: a folder as a :class:`pathlib.Path`, a description of this
module, or an object in hand, which is a language model, a reward model or a function
``f(prompt, response) -> float``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, Field

from stars_guard import embedded
from stars_guard.errors import ConfigurationError
from stars_guard.models.base import LanguageModel
from stars_guard.rewards.base import RewardModel
from stars_guard.rewards.function import RewardFunction
from stars_guard.rewards.readout import Scale
from stars_guard.rewards.servers.remote import HttpOptions
from stars_guard.settings import Settings

PROBE_FILE = "probe.json"
"""What makes a folder a probe, as in :mod:`stars_guard.rewards.classifiers.probe`, which needs torch."""

_IN_PROCESS, _JUDGE = "vllm:", "judge:"


class EmbeddedModel(Settings):
    """The language model that comes with the package."""

    kind: Literal["embedded"] = "embedded"


class LocalModel(Settings):
    """A folder or hub id, loaded by transformers in this process."""

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
    """Name of the model there."""
    engine: str = "vllm"
    """Which engine it is, for what its API is like."""
    tokenizer: str | None = None
    """Folder or hub id of its tokenizer, where prompts are made here."""
    api_key_env: str | None = None
    """Environment variable with the engine's key."""


class EngineInProcess(Settings):
    """A folder or hub id, for vLLM's engine in this process."""

    kind: Literal["vllm"]
    path: str
    tokenizer: str | None = None
    """Folder or hub id of its tokenizer, if it is not beside it."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of :class:`stars_guard.models.VLLMModel`, those of the engine included."""


class ReadyModel(Settings):
    """A language model in hand."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    kind: Literal["object"] = "object"
    model: LanguageModel


class EmbeddedReward(Settings):
    """The harmlessness reward that comes with the package."""

    kind: Literal["embedded"] = "embedded"

    @property
    def name(self) -> str:
        """Name for traces."""
        return "harmlessness"


class LocalReward(Settings):
    """A folder, hub id or spec, as ``--reward`` takes it; a spec that names code has it run."""

    kind: Literal["local"]
    path: str
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of :meth:`stars_guard.rewards.ClassifierReward.load`."""

    @property
    def name(self) -> str:
        """What was written to name it."""
        return self.path


class LocalProbe(Settings):
    """A folder with a probe."""

    kind: Literal["probe"] = "probe"
    path: str
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of :meth:`stars_guard.rewards.ProbeReward.load`."""

    @property
    def name(self) -> str:
        """What was written to name it."""
        return self.path


class LocalJudge(Settings):
    """A folder or hub id of a causal language model that is asked by a prompt with a name."""

    kind: Literal["judge"] = "judge"
    preset: str
    path: str
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of :meth:`stars_guard.rewards.JudgeReward.load`."""

    @property
    def name(self) -> str:
        """What was written to name it."""
        return f"{_JUDGE}{self.preset}@{self.path}"


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
    format: str
    model: str | None = None
    inputs: str | None = None
    labels: tuple[str, ...] = ()
    good: str | tuple[str, ...] | None = None
    bad: str | tuple[str, ...] | None = None
    multi_label: bool = False
    scale: Scale | None = None
    http: HttpOptions = HttpOptions()

    @property
    def name(self) -> str:
        """What it serves, if that is known."""
        return self.model or self.format


class ReadyReward(Settings):
    """A reward model in hand."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    kind: Literal["object"] = "object"
    reward: RewardModel

    @property
    def name(self) -> str:
        """Name that the reward model gives itself."""
        return self.reward.name


class RewardCallable(Settings):
    """A function in hand, ``f(prompt, response) -> float``."""

    kind: Literal["function"] = "function"
    function: Callable[..., Any]

    @property
    def name(self) -> str:
        """Name for traces: the function's own, if it has one."""
        function = getattr(self.function, "func", self.function)  # what a functools.partial is of
        name = str(getattr(function, "__name__", type(function).__name__))
        return "function" if name == "<lambda>" else name


ModelSection: TypeAlias = Annotated[
    EmbeddedModel | LocalModel | EngineServer | EngineInProcess, Field(discriminator="kind")
]
"""The models that a file of settings can say."""
ModelSpec: TypeAlias = EmbeddedModel | LocalModel | EngineServer | EngineInProcess | ReadyModel
"""Which language model, told apart by ``kind``."""
ModelLike: TypeAlias = str | Path | LanguageModel | ModelSpec | None
"""What :func:`model_spec` takes."""

RewardSection: TypeAlias = Annotated[
    EmbeddedReward | LocalReward | ScoringServer, Field(discriminator="kind")
]
"""The rewards that a file of settings can say."""
RewardSpec: TypeAlias = (
    EmbeddedReward
    | LocalReward
    | LocalProbe
    | LocalJudge
    | RewardCode
    | ScoringServer
    | ReadyReward
    | RewardCallable
)
"""Which reward model, told apart by ``kind``."""
RewardLike: TypeAlias = str | Path | RewardModel | RewardFunction | RewardSpec | None
"""What :func:`reward_spec` takes."""


def model_spec(model: ModelLike) -> ModelSpec:
    """Which language model is meant. Nothing is loaded.

    Raises:
        ConfigurationError: it is nothing that names or is a language model.
    """
    if model is None:
        return EmbeddedModel()
    if isinstance(model, str):
        return _named_model(model)
    if isinstance(model, Path):
        return LocalModel(kind="transformers", path=str(model))
    if isinstance(model, ModelSpec):
        return model
    if not inspect.isclass(model) and isinstance(model, LanguageModel):
        return ReadyModel(model=model)
    raise ConfigurationError(
        f"model is {_shown(model)}; pass a folder, a hub id, an engine (ENGINE@URL or vllm:FOLDER_OR_ID), "
        "a language model with name, start and propose, or None for the embedded one"
    )


def reward_spec(reward: RewardLike) -> RewardSpec:
    """Which reward model is meant. Nothing is loaded, and no code is run.

    Raises:
        ConfigurationError: it is nothing that names or is a reward model.
    """
    if reward is None:
        return EmbeddedReward()
    if isinstance(reward, str):
        return _named_reward(reward, {})
    if isinstance(reward, Path):
        return _folder(str(reward), {})
    if isinstance(reward, LocalReward):
        return _named_reward(reward.path, reward.options)
    if isinstance(reward, RewardSpec):
        return reward
    if not inspect.isclass(reward):
        if isinstance(reward, RewardModel):
            return ReadyReward(reward=reward)
        if callable_with(reward, "prompt", "response"):
            return RewardCallable(function=reward)
    raise ConfigurationError(
        f"reward is {_shown(reward)}; pass a folder, a hub id, code (path/to/file.py:attribute), a judge "
        "(judge:PRESET@FOLDER_OR_ID), a reward model with name, score and release, a function "
        "f(prompt, response) -> float, or None for the embedded one"
    )


def is_embedded(reward: RewardSpec) -> bool:
    """Whether a reward comes with this package, for which ``embedded.CONFIG`` is made."""
    return isinstance(reward, EmbeddedReward) or (
        isinstance(reward, LocalProbe) and reward.path == str(embedded.PROBE)
    )


def callable_with(value: Any, *arguments: str) -> bool:
    """Whether it can be called with just these."""
    try:
        inspect.signature(value).bind(*arguments)
    except (TypeError, ValueError):
        return False
    return True


def _named_model(name: str) -> ModelSpec:
    engine, _, place = name.partition("@")
    if "/" not in engine and place.startswith(("http://", "https://")):
        url, _, served = place.partition("#")
        return EngineServer(kind="openai", url=url, name=served or None, engine=engine)
    if name.startswith(_IN_PROCESS):
        return EngineInProcess(kind="vllm", path=name.removeprefix(_IN_PROCESS))
    return LocalModel(kind="transformers", path=name)


def _named_reward(name: str, options: dict[str, Any]) -> RewardSpec:
    if name == embedded.PROBE_NAME:
        return LocalProbe(path=str(embedded.PROBE), options=options)
    if name.startswith(_JUDGE) and "@" in name:
        preset, _, path = name.removeprefix(_JUDGE).partition("@")
        return LocalJudge(preset=preset, path=path, options=options)
    place, _, attribute = name.rpartition(":")
    has_form = _is_dotted(attribute) and (place.endswith(".py") or _is_dotted(place))
    if has_form and not Path(name).expanduser().is_dir():
        return RewardCode(place=place, attribute=attribute, options=options)
    return _folder(name, options)


def _folder(path: str, options: dict[str, Any]) -> LocalReward | LocalProbe:
    if (Path(path).expanduser() / PROBE_FILE).is_file():
        return LocalProbe(path=path, options=options)
    return LocalReward(kind="local", path=path, options=options)


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _shown(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
