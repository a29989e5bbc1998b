"""From descriptions to loaded models and rewards. Imports torch only when something needs it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, MutableMapping
from pathlib import Path
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

from stars_guard import embedded
from stars_guard.algorithm.config import GuardConfig
from stars_guard.errors import ConfigurationError, failures_as, needs_extra
from stars_guard.forks import ForkedLock
from stars_guard.loading import specs
from stars_guard.loading.apart import done_apart
from stars_guard.loading.calibrated import corrected, read_config
from stars_guard.loading.code import load_code
from stars_guard.loading.engine_servers import load_engine_server
from stars_guard.loading.names import (
    ModelLike,
    RewardLike,
    embedded_config,
    model_spec,
    reward_spec,
    with_parts,
)
from stars_guard.loading.specs import ModelSpec, RewardSpec
from stars_guard.loop.loop import Loop
from stars_guard.models.base import LanguageModel, ReadsStates
from stars_guard.models.engines.observable import ObservableVLLM
from stars_guard.models.engines.vllm import VLLMModel
from stars_guard.rewards.base import ReadsTexts, RewardModel, hidden_state_readers
from stars_guard.rewards.cascade import Cascade
from stars_guard.rewards.combine import Part
from stars_guard.rewards.corrected import CorrectedReward
from stars_guard.rewards.function import FunctionReward
from stars_guard.rewards.servers.remote import RemoteReward
from stars_guard.settings import Settings

Options: TypeAlias = Mapping[str, Any] | None

_SHARED: dict[Hashable, Loop] = {}
"""What was loaded by name stays for the life of the process."""
_SHARED_OBJECTS: WeakValueDictionary[Hashable, Loop] = WeakValueDictionary()
"""Around objects in hand, which are known by their addresses: as long as a guard keeps them."""
_LOADING = ForkedLock()


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
    key = loading_key(model, reward, model_options, reward_options)
    loops = _SHARED_OBJECTS if any(isinstance(spec, specs.InHand) for spec in (model, reward)) else _SHARED
    with _LOADING:
        plain = loops.get(key) or Loop(
            *load_parts(model, reward, model_options=model_options, reward_options=reward_options)
        )
        loops[key] = plain
        return _corrected_loop(loops, key, plain, config)


def loading_key(
    model: ModelSpec, reward: RewardSpec, model_options: Options, reward_options: Options
) -> Hashable:
    """Equal for parts that load as the same; those in hand by their addresses, as long as they live.

    Args:
        model: which language model.
        reward: which reward model.
        model_options: how to load the model.
        reward_options: how to load the reward.
    """
    options = model_options or {}, reward_options or {}
    # repr, since options may hold what cannot be hashed, such as a quantisation config; but repr hides keys.
    access = [getattr(spec, "http", None) for spec in with_parts(reward)]
    access += [given.get("http") for given in options]
    return repr((model, reward, [sorted(given.items()) for given in options])), tuple(access)


def _corrected_loop(
    loops: MutableMapping[Hashable, Loop], key: Hashable, plain: Loop, config: GuardConfig
) -> Loop:
    reward = corrected(config, plain.rounds.reward)
    if not isinstance(reward, CorrectedReward) or reward is plain.rounds.reward:
        return plain
    key = key, repr((reward.correction, sorted(reward.channels)))
    loop = loops.get(key) or Loop(plain.rounds.proposers.model, reward)
    loops[key] = loop
    return loop


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

    def load() -> tuple[LanguageModel, RewardModel]:
        spec = model_spec(model)
        reward_model = load_reward(reward_spec(reward, spec), reward_options or {})
        language_model = load_model(observed_for(spec, reward_model), model_options or {})
        if isinstance(language_model, ReadsStates):
            _let_read(language_model, reward_model)
        return language_model, reward_model

    return done_apart(load)


def observed_for(model: ModelSpec, reward: RewardModel) -> ModelSpec:
    """The description of a model that hands out the states that a reward reads, where that is all it takes.

    Args:
        model: which language model; one in vLLM's engine in this process is told what to hand out.
        reward: may read hidden states.
    """
    if not isinstance(model, specs.EngineInProcess) or model.hidden_layers:
        return model
    layers = {layer for reader in hidden_state_readers(reward) for layer in reader.hidden_layers}
    return model.changed(hidden_layers=tuple(sorted(layers)))


def _let_read(model: ReadsStates, reward: RewardModel) -> None:
    """Have the probes of a guard read texts that come without states with the guard's own model."""
    for reader in hidden_state_readers(reward):
        if isinstance(reader, ReadsTexts):
            reader.read_with(model.identity, model.read_states)


def load_model(model: ModelLike, options: Options = None) -> LanguageModel:
    """A language model; the embedded one is in int8 on a CPU unless ``dtype`` is set.

    Args:
        model: a name as in :mod:`stars_guard.loading.names`, a description or an object; None is the
            embedded one.
        options: for :meth:`stars_guard.models.TransformersModel.load`, or of the model of an engine; they win
            over those of a description.

    Raises:
        ConfigurationError: there is no such model, or an option does not fit it.
    """
    given = options or {}
    match model_spec(model):
        case specs.ReadyModel() as spec:
            _check_no_options(spec.part.name, given)
            return spec.part
        case specs.EngineServer() as spec:
            return load_engine_server(spec, **given)
        case specs.EngineInProcess() as spec:
            stated = _stated(spec, "tokenizer", "revision", "hidden_layers")
            return _in_engine(spec.path, {**spec.options, **stated, **given})
        case spec:
            return _local_model(spec, given)


def load_reward(reward: RewardLike, options: Options = None) -> RewardModel:
    """A reward model. Where ``reward`` names code, that is run.

    Args:
        reward: a name as in :mod:`stars_guard.loading.names`, a description or an object; None is the
            embedded harmlessness reward.
        options: for :meth:`stars_guard.rewards.ClassifierReward.load`, or of a stream guard, judge, probe or
            scoring server; they win over those of a description. Code and objects take none.

    Raises:
        ConfigurationError: there is no such reward, or an option does not fit it.
    """
    given = options or {}
    match reward_spec(reward):
        case specs.ReadyReward() as spec:
            _check_no_options(spec.name, given)
            return spec.part
        case specs.RewardCallable() as spec:
            _check_no_options(spec.name, given)
            return FunctionReward(spec.part, spec.name)
        case specs.RewardCode() as spec:
            return load_code(spec.changed(options={**spec.options, **given}))
        case specs.ScoringServer() as spec:
            fields = spec.model_dump(exclude={"kind", "url", "format", "http"})
            return RemoteReward(spec.url, spec.format, **{"http": spec.http, **fields, **given})
        case specs.CascadeReward() as spec:
            return _cascade(spec, {**spec.options, **given})
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
    if (made_for_it := embedded_config(spec)) is not None:
        return made_for_it
    raise ConfigurationError(
        f"no config for the reward model {spec.name!r}: rewards differ in scale, so say what to aim at, "
        "for example config=GuardConfig(threshold=LinearInTokens(target=...))"
    )


def _prepared(prepare: Callable[[], Path]) -> str:
    """The folder of an embedded model, made if need be."""
    room = "which must be writable and have a gigabyte of room, or be moved by STARS_GUARD_CACHE,"
    with failures_as(ConfigurationError, f"preparing it in {embedded.cache_folder()}, {room}"):
        return str(prepare())


def _in_engine(path: str, options: Mapping[str, Any]) -> VLLMModel:
    """A model in vLLM's engine in this process, which may be one that hands out hidden states."""
    layers = options.get("hidden_layers")
    others = {name: value for name, value in options.items() if name != "hidden_layers"}
    return ObservableVLLM(path, hidden_layers=layers, **others) if layers else VLLMModel(path, **others)


def _local_model(spec: specs.EmbeddedModel | specs.LocalModel, options: Mapping[str, Any]) -> LanguageModel:
    with needs_extra("transformers"):
        from stars_guard.models.local.int8 import int8_linears, is_available
        from stars_guard.models.local.transformers import TransformersModel
    if isinstance(spec, specs.LocalModel):
        return TransformersModel.load(
            spec.path, **{**_stated(spec, "dtype", "device", "revision"), **options}
        )
    free = options.get("device", "cpu") == "cpu" and "dtype" not in options
    fast = {"device": "cpu", "prepare": int8_linears} if free and is_available() else {}
    return TransformersModel.load(_prepared(embedded.chat_model), **{**fast, **options})


def _local_reward(spec: specs.LocalRewardSpec, options: Mapping[str, Any]) -> RewardModel:
    with needs_extra("transformers"):
        from stars_guard.rewards.classifiers.classifier import ClassifierReward
        from stars_guard.rewards.classifiers.formats import pair, prompt_tail
        from stars_guard.rewards.classifiers.probe import ProbeReward
        from stars_guard.rewards.classifiers.stream_reward import StreamGuardReward
        from stars_guard.rewards.judges.judge import JudgeReward
    match spec:
        case specs.LocalReward():
            return ClassifierReward.load(
                spec.path, **{**spec.options, **_stated(spec, "revision"), **options}
            )
        case specs.LocalStreamGuard():
            return StreamGuardReward.load(
                spec.path, **{**spec.options, **_stated(spec, "revision"), **options}
            )
        case specs.LocalProbe():
            return ProbeReward.load(spec.path, **_probe_options(spec, options))
        case specs.LocalJudge():
            with failures_as(ConfigurationError, f"loading {spec.name}"):
                given = {"prompt": spec.preset, **spec.options, **_stated(spec, "revision")}
                return JudgeReward.load(spec.path, **{**given, **options})
        case specs.EmbeddedJudge():
            place, given = embedded.harm_judge, {**spec.options, **options}
        case _:
            place, given = embedded.harmlessness_reward, {**spec.options, **options}
    reads = {"name": spec.name, "format": prompt_tail(pair, embedded.PROMPT_TOKENS)}
    return ClassifierReward.load(_prepared(place), **{**reads, **given})


def _cascade(spec: specs.CascadeReward, options: Mapping[str, Any]) -> RewardModel:
    loaded = {
        name: Part(
            load_reward(part.reward, _part_options(reward_spec(part.reward), options)), part.offset, part.unit
        )
        for name, part in (("first", spec.first), ("second", spec.second))
    }
    return Cascade(loaded, low=spec.low, high=spec.high)


def _part_options(part: RewardSpec, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a cascade that are meant for a part: ``read`` for probes, the others for weights."""
    left_out: tuple[str, ...] = ("read",)
    match part:
        case specs.LocalProbe():
            return {key: options[key] for key in options if key == "read"}
        case specs.RewardCode() | specs.ScoringServer():
            left_out = ("read", "dtype", "device")  # no weights are loaded here that these could be about
    return {key: options[key] for key in options if key not in left_out}


def _probe_options(spec: specs.LocalProbe, options: Mapping[str, Any]) -> dict[str, Any]:
    """How to load a probe, whose few numbers need no precision or device of their own."""
    given = {**spec.options, **options}
    if unknown := sorted(set(given) - {"read", "dtype", "device"}):
        raise ConfigurationError(
            f"the probe in {spec.path} takes no {', '.join(unknown)}; leave out options of classifiers"
        )
    return {key: given[key] for key in given if key == "read"}


def _stated(spec: Settings, *names: str) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(spec, name))}


def _check_no_options(name: str, options: Mapping[str, Any]) -> None:
    if options:
        raise ConfigurationError(
            f"{name} is ready made and takes no options, but got {', '.join(sorted(options))}; "
            "set them where it is made"
        )
