"""From descriptions to loaded models and rewards. Imports torch only when something needs it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar
from weakref import WeakValueDictionary

from stars_guard import embedded
from stars_guard.algorithm.config import GuardConfig
from stars_guard.errors import ConfigurationError, MissingExtraError, boundary
from stars_guard.loading.calibrated import corrected, read_config
from stars_guard.loading.code import load_code
from stars_guard.loading.engine_servers import load_engine_server
from stars_guard.loading.specs import (
    EmbeddedModel,
    EmbeddedReward,
    EngineInProcess,
    EngineServer,
    LocalJudge,
    LocalModel,
    LocalProbe,
    LocalReward,
    ModelLike,
    ModelSpec,
    ReadyModel,
    ReadyReward,
    RewardCallable,
    RewardCode,
    RewardLike,
    RewardSpec,
    ScoringServer,
    is_embedded,
    model_spec,
    reward_spec,
)
from stars_guard.loop.loop import Loop
from stars_guard.models.base import LanguageModel
from stars_guard.models.engines.vllm import VLLMModel
from stars_guard.rewards.base import RewardModel
from stars_guard.rewards.corrected import CorrectedReward
from stars_guard.rewards.function import FunctionReward
from stars_guard.rewards.servers.remote import RemoteReward

Options: TypeAlias = Mapping[str, Any] | None


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Part = TypeVar("_Part", bound=_Named)

_SHARED: dict[str, Loop] = {}
"""What was loaded by name stays for the life of the process."""
_SHARED_OBJECTS: WeakValueDictionary[str, Loop] = WeakValueDictionary()
"""Around objects in hand, which are known by their addresses: as long as a guard keeps them."""
_LOADING = threading.Lock()


def shared_loop(
    model: ModelSpec, reward: RewardSpec, config: GuardConfig, model_options: Options, reward_options: Options
) -> Loop:
    """The one loop of this process for these parts and options; loaded when it is first asked for.

    Settings with a correction get the one loop with that correction, around the same weights.

    Args:
        model: which language model.
        reward: which reward model.
        config: the STARS settings, for their correction.
        model_options: how to load the model.
        reward_options: how to load the reward.
    """
    # repr, since options may hold what cannot be hashed, such as a quantisation config.
    options = [sorted((given or {}).items()) for given in (model_options, reward_options)]
    key = repr((_identity(model), _identity(reward), options))
    in_hand = isinstance(model, ReadyModel) or isinstance(reward, ReadyReward | RewardCallable)
    loops = _SHARED_OBJECTS if in_hand else _SHARED
    with _LOADING:
        plain = loops.get(key) or Loop(
            *load_parts(model, reward, model_options=model_options, reward_options=reward_options)
        )
        loops[key] = plain
        return _corrected_loop(loops, key, plain, config)


def _corrected_loop(loops: MutableMapping[str, Loop], key: str, plain: Loop, config: GuardConfig) -> Loop:
    reward = corrected(config, plain.rounds.reward)
    if not isinstance(reward, CorrectedReward) or reward is plain.rounds.reward:
        return plain
    key = repr((key, reward.correction, sorted(reward.channels)))
    loop = loops.get(key) or Loop(plain.rounds.proposers.model, reward)
    loops[key] = loop
    return loop


def _identity(spec: ModelSpec | RewardSpec) -> str:
    """What tells a part from others in this process: an object in hand is itself, whatever it says it is."""
    match spec:
        case ReadyModel():
            return f"model {id(spec.model)}"
        case ReadyReward():
            return f"reward {id(spec.reward)}"
        case RewardCallable():
            return f"function {id(spec.function)}"
        case _:
            return repr(spec)


def load_parts(
    model: ModelLike, reward: RewardLike, *, model_options: Options = None, reward_options: Options = None
) -> tuple[LanguageModel, RewardModel]:
    """The language model and the reward model; the reward first, which is smaller and fails sooner.

    Args:
        model: which language model, as for :func:`load_model`.
        reward: which reward model, as for :func:`load_reward`.
        model_options: how to load the model.
        reward_options: how to load the reward.
    """
    # In a thread that ends: torch keeps its workers per thread, and those left behind slow all others.
    with ThreadPoolExecutor(max_workers=1) as loader:
        reward_model = loader.submit(load_reward, reward, reward_options or {}).result()
        return loader.submit(load_model, model, model_options or {}).result(), reward_model


def load_model(model: ModelLike, options: Options = None) -> LanguageModel:
    """A language model; the embedded one is in int8 on a CPU unless ``dtype`` is set.

    Args:
        model: a name as in :mod:`stars_guard.loading.specs`, a description or an object; None is the
            embedded one.
        options: for :meth:`stars_guard.models.TransformersModel.load`, or of the model of an engine; they win
            over those of a description.

    Raises:
        ConfigurationError: there is no such model, or an option does not fit it.
    """
    given = options or {}
    match model_spec(model):
        case ReadyModel() as spec:
            return _in_hand(spec.model, given)
        case EngineServer() as spec:
            return load_engine_server(spec, **given)
        case EngineInProcess() as spec:
            return VLLMModel(spec.path, **{**spec.options, **_stated(spec, "tokenizer"), **given})
        case spec:
            return _local_model(spec, given)


def load_reward(reward: RewardLike, options: Options = None) -> RewardModel:
    """A reward model. Where ``reward`` names code, that is run.

    Args:
        reward: a name as in :mod:`stars_guard.loading.specs`, a description or an object; None is the
            embedded harmlessness reward.
        options: for :meth:`stars_guard.rewards.ClassifierReward.load`, or of a judge, probe or scoring
            server; they win over those of a description. Code and objects take none.

    Raises:
        ConfigurationError: there is no such reward, or an option does not fit it.
    """
    given = options or {}
    match reward_spec(reward):
        case ReadyReward() as spec:
            return _in_hand(spec.reward, given)
        case RewardCallable() as spec:
            return _in_hand(FunctionReward(spec.function, spec.name), given)
        case RewardCode() as spec:
            return load_code(spec.changed(options={**spec.options, **given}))
        case ScoringServer() as spec:
            fields = spec.model_dump(exclude={"kind", "url", "format", "http"})
            return RemoteReward(spec.url, spec.format, **{"http": spec.http, **fields, **given})
        case spec:
            return _local_reward(spec, given)


def load_config(config: GuardConfig | str | Path | None, reward: RewardLike) -> GuardConfig:
    """The settings, read if they are in a file; only an embedded reward comes with its own.

    Raises:
        ConfigurationError: a reward model of the user's own, and no settings for it; or a wrong file.
    """
    if isinstance(config, str | Path):
        return read_config(config)
    if config is not None:
        return config
    spec = reward_spec(reward)
    if is_embedded(spec):
        return embedded.CONFIG
    raise ConfigurationError(
        f"no config for the reward model {spec.name!r}: rewards differ in scale, so say what to aim at, "
        "for example config=GuardConfig(threshold=LinearInTokens(target=...))"
    )


def _local_model(spec: EmbeddedModel | LocalModel, options: Mapping[str, Any]) -> LanguageModel:
    try:
        from stars_guard.models.local.int8 import int8_linears, is_available
        from stars_guard.models.local.transformers import TransformersModel
    except ImportError as error:
        raise MissingExtraError(str(error.name), "transformers") from error
    if isinstance(spec, LocalModel):
        return TransformersModel.load(spec.path, **{**_stated(spec, "dtype", "device"), **options})
    free = options.get("device", "cpu") == "cpu" and "dtype" not in options
    fast = {"device": "cpu", "prepare": int8_linears} if free and is_available() else {}
    return TransformersModel.load(str(embedded.chat_model()), **{**fast, **options})


def _local_reward(
    spec: EmbeddedReward | LocalReward | LocalProbe | LocalJudge, options: Mapping[str, Any]
) -> RewardModel:
    try:
        from stars_guard.rewards.classifiers.classifier import ClassifierReward
        from stars_guard.rewards.classifiers.formats import pair, prompt_tail
        from stars_guard.rewards.classifiers.probe import ProbeReward
        from stars_guard.rewards.judges.judge import JudgeReward
    except ImportError as error:
        raise MissingExtraError(str(error.name), "transformers") from error
    match spec:
        case LocalReward():
            return ClassifierReward.load(spec.path, **{**spec.options, **options})
        case LocalProbe():
            return ProbeReward.load(spec.path, **_probe_options(spec, options))
        case LocalJudge():
            with boundary(ConfigurationError, f"loading {spec.name}"):
                return JudgeReward.load(spec.path, **{"prompt": spec.preset, **spec.options, **options})
        case _:
            reads = {"name": spec.name, "format": prompt_tail(pair, embedded.PROMPT_TOKENS)}
            return ClassifierReward.load(str(embedded.harmlessness_reward()), **{**reads, **options})


def _probe_options(spec: LocalProbe, options: Mapping[str, Any]) -> dict[str, Any]:
    """How to load a probe, whose few numbers need no precision or device of their own."""
    given = {**spec.options, **options}
    if unknown := sorted(set(given) - {"read", "dtype", "device"}):
        raise ConfigurationError(
            f"the probe in {spec.path} takes no {', '.join(unknown)}; leave out options of classifiers"
        )
    return {key: given[key] for key in given if key == "read"}


def _stated(spec: LocalModel | EngineInProcess, *names: str) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(spec, name))}


def _in_hand(part: _Part, options: Mapping[str, Any]) -> _Part:
    if options:
        raise ConfigurationError(
            f"{part.name} is ready made and takes no options, but got {', '.join(sorted(options))}; "
            "set them where it is made"
        )
    return part
