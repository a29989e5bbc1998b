"""From options to settings and a loaded guard."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from stars_guard import embedded
from stars_guard.algorithm.candidates import Adaptive, Drawing, Fixed
from stars_guard.algorithm.config import Budget, GuardConfig, SamplingParams
from stars_guard.algorithm.escalation import Backtrack, Escalation, SafetyHint, TemperatureLadder
from stars_guard.algorithm.rules import (
    Acceptance,
    Best,
    Constant,
    Exhaustion,
    FrontLoaded,
    Hard,
    Last,
    LinearInSegments,
    LinearInTokens,
    Raise,
    Refuse,
    Soft,
    Threshold,
)
from stars_guard.algorithm.segments import CLAUSE_MARKS, Boundary, EntropyCut, FixedLength, Segments
from stars_guard.cli.options import GuardOptions, LimitOptions, ModelOptions, SamplingOptions
from stars_guard.errors import ConfigurationError, boundary
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading import parts
from stars_guard.loading.calibrated import read_config
from stars_guard.loading.code import is_code, is_spec
from stars_guard.loading.engine_servers import is_remote
from stars_guard.models.engines.vllm import SPEC, is_in_process
from stars_guard.rewards.base import RewardModel

_OF_CLASSIFIERS = "--reward-preset, --reward-format, --good, --bad and --scale"
PROBE_FILE = "probe.json"
"""What makes a folder a probe, as in :mod:`stars_guard.rewards.classifiers.probe`, which needs torch."""

_OTHER_PLACES = {
    "--reward": ", or name code: path/to/file.py:attribute",
    "--model": ", or name an engine: vllm@http://localhost:8000 or vllm:FOLDER_OR_HUB_ID",
}

_POLICIES: dict[str, type[Last | Refuse | Raise]] = {"last": Last, "refuse": Refuse, "raise": Raise}


def load_guard(
    console: Console,
    models: ModelOptions,
    guard: GuardOptions,
    sampling: SamplingOptions,
    limits: LimitOptions,
) -> StarsGuardedLLM:
    """Check every option, then load the models.

    Raises:
        ConfigurationError: an option is wrong, or nothing usable is there.
    """
    params, budget = sampling_params(sampling), Budget(**asdict(limits))
    config = guard_config(guard, sampling.max_tokens, models.reward)
    return load_with(console, models, config, params, budget)


def load_with(
    console: Console,
    models: ModelOptions,
    config: GuardConfig,
    sampling: SamplingParams,
    budget: Budget | None = None,
) -> StarsGuardedLLM:
    """Load the models, to be guarded with these settings.

    Raises:
        ConfigurationError: an option is wrong, or nothing usable is there.
    """
    for flag, place in (("--model", models.model), ("--reward", models.reward)):
        _check_place(flag, place)
    # A bad --device or --dtype surfaces as whatever torch raises.
    with console.status("loading the models"), boundary(ConfigurationError, "loading the models"):
        return StarsGuardedLLM.load(
            models.model,
            models.reward,
            config,
            model_options=_model_options(models),
            reward_options=_reward_options(models),
            sampling=sampling,
            budget=budget,
        )


def load_reward_alone(console: Console, models: ModelOptions) -> RewardModel:
    """The reward model without a guard; a probe gets the language model it reads texts with.

    Raises:
        ConfigurationError: an option is wrong, or nothing usable is there.
    """
    options = _reward_options(models)
    for flag, place in (("--model", models.model), ("--reward", models.reward)):
        _check_place(flag, place)
    with console.status("loading the reward model"), boundary(ConfigurationError, "loading the reward model"):
        return parts.load_reward(models.reward, options | _reader(models))


def _reader(models: ModelOptions) -> dict[str, Any]:
    """What a probe reads texts with: the states of ``--model``, or of the embedded one."""
    if not _is_probe(models.reward):
        _refuse("--model", models.model, "a reward model that is no probe")
        return {}
    if models.model and (is_remote(models.model) or is_in_process(models.model)):
        raise ConfigurationError(
            f"a probe reads the states of a model in this process that no engine runs, not of {models.model}"
        )
    language_model: Any = parts.load_model(models.model, _model_options(models))
    return {"read": language_model.read_states}


def _model_options(models: ModelOptions) -> dict[str, Any]:
    """Those of a language model on a server, in vLLM's engine here, or in this process."""
    if models.model and is_remote(models.model):
        return _given(tokenizer=models.tokenizer, api_key_env=models.api_key_env)
    _refuse("--api-key-env", models.api_key_env, "a --model that is not on a server")
    if models.model and is_in_process(models.model):
        return _given(tokenizer=models.tokenizer, dtype=models.dtype)
    _refuse("--tokenizer", models.tokenizer, "a --model that no engine runs")
    return _given(dtype=models.dtype, device=models.device)


def _is_probe(reward: str | None) -> bool:
    named = reward == embedded.PROBE_NAME
    return named or (reward is not None and (Path(reward).expanduser() / PROBE_FILE).is_file())


def sampling_params(options: SamplingOptions) -> SamplingParams:
    """How to propose."""
    return SamplingParams(**asdict(options) | {"stop": tuple(options.stop or ())})


def guard_config(options: GuardOptions, max_tokens: int, reward: str | None) -> GuardConfig:
    """How to guard: the file's settings, or the embedded reward's, with the given options in their place.

    Args:
        options: None leaves a setting as it is.
        max_tokens: longest answer; a ramp in segments reaches the target there.
        reward: a reward model of the user's own, for which there are no settings to start from.

    Raises:
        ConfigurationError: an option is missing, or has no effect beside the others.
    """
    base = _base(options, reward)
    acceptance, segments = _acceptance(options, base), _segments(options, base)
    return base.changed(
        threshold=_threshold(options, base, acceptance, math.ceil(max_tokens / segments.max_tokens)),
        acceptance=acceptance,
        segments=segments,
        drawing=_drawing(options.candidates) if options.candidates else base.drawing,
        max_attempts=base.max_attempts if options.max_attempts is None else options.max_attempts,
        exhaustion=_exhaustion(options, base),
        escalation=_escalation(options, base),
        keep_rejected_text=options.keep_rejected_text or base.keep_rejected_text,
    )


def _base(options: GuardOptions, reward: str | None) -> GuardConfig:
    if options.config is not None:
        return read_config(options.config)
    if embedded.is_embedded(reward):
        return embedded.CONFIG
    if options.target is None:
        raise ConfigurationError(
            f"--reward {reward} needs --target or --config: rewards differ in scale, "
            "so say which reward to aim at"
        )
    return GuardConfig(threshold=LinearInTokens(target=options.target))


def _threshold(options: GuardOptions, base: GuardConfig, acceptance: Acceptance, segments: int) -> Threshold:
    if not _given(schedule=options.schedule, target=options.target, alpha=options.alpha, start=options.start):
        return base.threshold
    kind = options.schedule or base.threshold.kind
    if kind == "table":
        raise ConfigurationError(f"{options.config} has a table of thresholds; add --schedule to replace it")
    target = base.threshold.target if options.target is None else options.target
    if kind in ("constant", "front_loaded"):
        _refuse("--alpha", options.alpha, f"--schedule {kind}")
    if kind != "front_loaded":
        _refuse("--start", options.start, f"--schedule {kind}")
    if kind == "constant":
        return Constant(target=target)
    if kind == "front_loaded":
        beta = acceptance.beta if isinstance(acceptance, Soft) else Soft().beta
        return FrontLoaded(target=target, start=target + 2 * beta if options.start is None else options.start)
    alpha = _given(alpha=getattr(base.threshold, "alpha", None) if options.alpha is None else options.alpha)
    if kind == "linear_in_segments":
        return LinearInSegments(target=target, segments=segments, **alpha)
    return LinearInTokens(target=target, **alpha)


def _acceptance(options: GuardOptions, base: GuardConfig) -> Acceptance:
    if options.rule == "hard":
        _refuse("--beta", options.beta, "--rule hard")
        return Hard()
    if options.beta is not None:
        return Soft(beta=options.beta)
    return Soft() if options.rule == "soft" and isinstance(base.acceptance, Hard) else base.acceptance


def _segments(options: GuardOptions, base: GuardConfig) -> Segments:
    longest = _given(max_tokens=options.segment_tokens)
    if options.segments is None and not longest:
        return base.segments
    if options.segments in (None, "fixed"):
        return FixedLength(**longest)
    # Segments shorter than the usual minimum must have been meant.
    shortest = {"min_tokens": min(4, longest["max_tokens"])} if longest else {}
    if options.segments == "entropy":
        return EntropyCut(**longest, **shortest)
    marks = {"marks": CLAUSE_MARKS} if options.segments == "clause" else {}
    return Boundary(**longest, **shortest, **marks)


def _drawing(candidates: str) -> Drawing:
    if candidates == "adaptive":
        return Adaptive()
    if not candidates.isdecimal():
        raise ConfigurationError(f"--candidates {candidates!r} must be a number or 'adaptive'")
    return Fixed(candidates=int(candidates))


def _exhaustion(options: GuardOptions, base: GuardConfig) -> Exhaustion:
    if options.exhaustion is not None and options.exhaustion != "best":
        _refuse("--floor", options.floor, f"--exhaustion {options.exhaustion}")
        return _POLICIES[options.exhaustion]()
    if options.floor is not None:
        return Best(floor=options.floor)
    return Best() if options.exhaustion and not isinstance(base.exhaustion, Best) else base.exhaustion


def _escalation(options: GuardOptions, base: GuardConfig) -> tuple[Escalation, ...]:
    """With their defaults; a hint beside a ladder begins where the ladder has begun to fail."""
    if options.escalate is None:
        return base.escalation
    both = {"ladder", "hint"} <= set(options.escalate)
    policies: dict[str, Escalation] = {
        "ladder": TemperatureLadder(),
        "hint": SafetyHint(after=2 * TemperatureLadder().after) if both else SafetyHint(),
        "backtrack": Backtrack(),
    }
    if unknown := set(options.escalate) - set(policies):
        raise ConfigurationError(f"--escalate {min(unknown)} is none of {', '.join(policies)}")
    return tuple(policies[one] for one in dict.fromkeys(options.escalate))


def _reward_options(models: ModelOptions) -> dict[str, Any]:
    options = _given(
        preset=models.reward_preset,
        format=models.reward_format,
        good=tuple(models.good or ()) or None,
        bad=tuple(models.bad or ()) or None,
        scale=models.scale,
    )
    if options and models.reward is None:
        raise ConfigurationError(f"{_OF_CLASSIFIERS} describe a reward model of your own; add --reward")
    if options and models.reward and is_spec(models.reward):
        raise ConfigurationError(
            f"{_OF_CLASSIFIERS} have no effect with --reward {models.reward}; they describe a classifier"
        )
    if models.reward and is_code(models.reward):
        return {}  # --dtype and --device are the language model's, then
    return options | _given(dtype=models.dtype, device=models.device)


def _check_place(flag: str, place: str | None) -> None:
    """A path that is not there must not be looked for on the hub, which takes long and misleads."""
    if flag == "--model" and place is not None and is_in_process(place):
        place = place.removeprefix(SPEC)
    if place is None or Path(place).expanduser().is_dir():
        return
    if is_spec(place) if flag == "--reward" else is_remote(place):
        return
    if place.startswith((".", "/", "~")) or place.count("/") > 1 or Path(place).exists():
        raise ConfigurationError(
            f"{flag} {place} is not a folder; give one with config.json and weights, or a hub id"
            + _OTHER_PLACES[flag]
        )


def _refuse(flag: str, value: object, beside: str) -> None:
    if value is not None:
        raise ConfigurationError(f"{flag} {value} has no effect with {beside}; leave one of them out")


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}
