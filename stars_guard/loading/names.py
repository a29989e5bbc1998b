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
``FOLDER_OR_HUB_ID``               a sequence classifier; a probe or a Qwen3Guard-Stream where it is one
``path/to/file.py:attribute``      something in a Python file, which is run
``package.module:attribute``       something in a module that can be imported, which is run
``judge:PRESET@FOLDER_OR_HUB_ID``  a causal language model that is asked, by a known prompt
``embedded:probe``                 the probe of the embedded language model, which is that model's default
``embedded:encoder``               the embedded reward that reads texts, the default with other models
``embedded:judge``                 the judge of harm that comes with this package, to measure answers with
=================================  ====================================================================

None is the embedded one. Instead of a name: a folder as a :class:`pathlib.Path`, a description of
:mod:`stars_guard.loading.specs`, or an object in hand, which is a language model, a reward model or a
function ``f(prompt, response) -> float``.
"""

from __future__ import annotations

import inspect
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeAlias

from stars_guard import embedded
from stars_guard.algorithm.config import GuardConfig
from stars_guard.errors import ConfigurationError
from stars_guard.loading import specs
from stars_guard.loading.specs import ModelSpec, RewardSpec
from stars_guard.models.base import LanguageModel
from stars_guard.rewards.base import RewardModel
from stars_guard.rewards.function import RewardFunction
from stars_guard.settings import parsed_json

ModelLike: TypeAlias = str | Path | LanguageModel | ModelSpec | None
"""What :func:`model_spec` takes."""
RewardLike: TypeAlias = str | Path | RewardModel | RewardFunction | RewardSpec | None
"""What :func:`reward_spec` takes."""
PROBE_FILE = "probe.json"
"""What makes a folder a probe, as in :mod:`stars_guard.rewards.classifiers.probe`, which needs torch."""
STREAM_GUARD = "Qwen3ForGuardModel"
"""Architecture of a stream guard, as in :mod:`stars_guard.rewards.classifiers.stream_guard`; also torch."""
STREAM_GUARD_IDS = tuple(f"Qwen/Qwen3Guard-Stream-{size}" for size in ("0.6B", "4B", "8B"))
"""Hub ids of the published ones; of a folder its config.json says so."""

_IN_PROCESS, _JUDGE = "vllm:", "judge:"


def model_spec(model: ModelLike) -> ModelSpec:
    """Which language model is meant. Nothing is loaded.

    Raises:
        ConfigurationError: it is nothing that names or is a language model.
    """
    if model is None:
        return specs.EmbeddedModel()
    if isinstance(model, str):
        return _named_model(model)
    if isinstance(model, Path):
        return specs.LocalModel(kind="transformers", path=str(model))
    if isinstance(model, ModelSpec):
        return model
    if not inspect.isclass(model) and isinstance(model, LanguageModel):
        return specs.ReadyModel(part=model)
    raise ConfigurationError(
        f"model is {_shown(model)}; pass a folder, a hub id, an engine (ENGINE@URL or vllm:FOLDER_OR_ID), "
        "a language model with name, start and propose, or None for the embedded one"
    )


def reward_spec(reward: RewardLike, model: ModelSpec | None = None) -> RewardSpec:
    """Which reward model is meant. Nothing is loaded, and no code is run.

    Args:
        reward: what names or is one; None is the embedded one.
        model: the language model whose answers it judges. The embedded one has a probe, which is then the
            embedded reward; None, and every other, the encoder, which reads texts of any model.

    Raises:
        ConfigurationError: it is nothing that names or is a reward model.
    """
    if reward is None:
        return _named_reward(
            embedded.PROBE_NAME if isinstance(model, specs.EmbeddedModel) else embedded.ENCODER_NAME, {}
        )
    if isinstance(reward, str):
        return _named_reward(reward, {})
    if isinstance(reward, Path):
        return _folder(str(reward), {})
    if isinstance(reward, specs.LocalReward):
        return _named_reward(reward.path, reward.options, reward.revision)
    if isinstance(reward, RewardSpec):
        return reward
    if not inspect.isclass(reward):
        if isinstance(reward, RewardModel):
            return specs.ReadyReward(part=reward)
        if callable_with(reward, "prompt", "response"):
            return specs.RewardCallable(part=reward)
    raise ConfigurationError(
        f"reward is {_shown(reward)}; pass a folder, a hub id, code (path/to/file.py:attribute), a judge "
        "(judge:PRESET@FOLDER_OR_ID), a reward model with name, score and release, a function "
        "f(prompt, response) -> float, or None for the embedded one"
    )


def embedded_config(reward: RewardSpec) -> GuardConfig | None:
    """The settings that come with a reward of this package; None where a reward comes with none.

    The judge comes with none: what guides must not measure itself.
    """
    if isinstance(reward, specs.EmbeddedReward):
        return embedded.ENCODER_CONFIG
    is_probe = isinstance(reward, specs.LocalProbe) and reward.path == str(embedded.PROBE)
    return embedded.CONFIG if is_probe else None


def with_parts(reward: RewardSpec) -> list[RewardSpec]:
    """A description, and those of the parts that it names, theirs included."""
    if not isinstance(reward, specs.CascadeReward):
        return [reward]
    parts = (reward_spec(part.reward) for part in (reward.first, reward.second))
    return [reward, *(inner for part in parts for inner in with_parts(part))]


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
        return specs.EngineServer(kind="openai", url=url, name=served or None, engine=engine)
    if name.startswith(_IN_PROCESS):
        return specs.EngineInProcess(kind="vllm", path=name.removeprefix(_IN_PROCESS))
    return specs.LocalModel(kind="transformers", path=name)


def _named_reward(name: str, options: dict[str, Any], revision: str | None = None) -> RewardSpec:
    if name == embedded.PROBE_NAME:
        return specs.LocalProbe(path=str(embedded.PROBE), options=options)
    if name == embedded.ENCODER_NAME:
        return specs.EmbeddedReward(options=options)
    if name == embedded.JUDGE_NAME:
        return specs.EmbeddedJudge(options=options)
    if name.startswith(_JUDGE) and "@" in name:
        preset, _, path = name.removeprefix(_JUDGE).partition("@")
        return specs.LocalJudge(preset=preset, path=path, options=options, revision=revision)
    place, _, attribute = name.rpartition(":")
    has_form = _is_dotted(attribute) and (place.endswith(".py") or _is_dotted(place))
    if has_form and not Path(name).expanduser().is_dir():
        return specs.RewardCode(place=place, attribute=attribute, options=options)
    return _folder(name, options, revision)


def _folder(
    path: str, options: dict[str, Any], revision: str | None = None
) -> specs.LocalReward | specs.LocalProbe | specs.LocalStreamGuard:
    if (Path(path).expanduser() / PROBE_FILE).is_file():
        return specs.LocalProbe(path=path, options=options)
    if path in STREAM_GUARD_IDS or STREAM_GUARD in _architectures(path):
        return specs.LocalStreamGuard(path=path, options=options, revision=revision)
    return specs.LocalReward(kind="local", path=path, options=options, revision=revision)


def _architectures(folder: str) -> list[Any]:
    """What the config.json of a folder says it is; nothing where there is none that can be read."""
    with suppress(OSError, ValueError, AttributeError):
        named = parsed_json((Path(folder).expanduser() / "config.json").read_bytes()).get("architectures")
        return named if isinstance(named, list) else []
    return []


def _is_dotted(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _shown(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
