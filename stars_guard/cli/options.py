"""The options that commands share, in groups. What they mean is in ``build`` and ``guard_settings``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypeAlias, get_args

from typer import Option

from stars_guard.algorithm.config import SamplingParams
from stars_guard.errors import ConfigurationError
from stars_guard.rewards.readout import Scale

ScheduleName: TypeAlias = Literal["linear_in_tokens", "linear_in_segments", "constant", "front_loaded"]
Cut: TypeAlias = Literal["fixed", "entropy", "sentence", "clause"]
Policy: TypeAlias = Literal["best", "last", "refuse", "write_refusal", "raise"]

_SHOWN_DEFAULTS = ("max_tokens", "temperature", "top_p")
_Models = partial(Option, rich_help_panel="Models")
_Guard = partial(Option, rich_help_panel="Guard (default: the settings of the embedded reward)")
_Sampling = partial(
    Option,
    rich_help_panel="Sampling (default: the settings of the file, or "
    + ", ".join(f"{name} {SamplingParams.model_fields[name].default}" for name in _SHOWN_DEFAULTS)
    + ")",
)
_Limits = partial(Option, rich_help_panel="Limits")


@dataclass(frozen=True)
class ModelOptions:
    """Which models to load, and how."""

    model: Annotated[
        str | None,
        _Models(
            help="Folder or hub id of the language model; or ENGINE@URL, such as vllm@http://localhost:8000; "
            "or vllm:FOLDER_OR_ID, for vLLM's engine in this process."
        ),
    ] = None
    engine_model: Annotated[
        str | None,
        _Models(metavar="NAME", help="What the engine of --model calls the model; as ENGINE@URL#NAME."),
    ] = None
    tokenizer: Annotated[
        str | None, _Models(help="Folder or hub id of the tokenizer of a --model in an engine.")
    ] = None
    revision: Annotated[
        str | None, _Models(metavar="COMMIT", help="Commit, tag or branch of --model, or of --tokenizer.")
    ] = None
    api_key_env: Annotated[
        str | None, _Models(metavar="NAME", help="Environment variable with the key of that server.")
    ] = None
    states: Annotated[
        str | None,
        _Models(
            metavar="FOLDER:LAYERS",
            help="Where a vLLM server writes hidden states for a probe, and of which layers: "
            "/dev/shm/states:0,15,18.",
        ),
    ] = None
    reward: Annotated[
        str | None,
        _Models(
            help="Folder or hub id of a sequence classifier; or FILE.py:NAME or MODULE:NAME, which is run; "
            "or judge:PRESET@FOLDER_OR_ID."
        ),
    ] = None
    reward_revision: Annotated[
        str | None, _Models(metavar="COMMIT", help="Commit, tag or branch of --reward, if it is a hub id.")
    ] = None
    reward_preset: Annotated[
        str | None,
        _Models(help="Known classifier whose labels and format --reward has; see stars-guard presets."),
    ] = None
    reward_format: Annotated[
        str | None, _Models(help="How the classifier reads prompt and answer: pair, chat, text, ...")
    ] = None
    good: Annotated[list[str] | None, _Models(help="Label that means good; may be repeated.")] = None
    bad: Annotated[list[str] | None, _Models(help="Label that means bad; may be repeated.")] = None
    scale: Annotated[
        Scale | None, _Models(metavar="UNIT", help=f"Of the reward: {', '.join(get_args(Scale))}.")
    ] = None
    dtype: Annotated[str | None, _Models(help="Precision of the weights, such as bfloat16.")] = None
    device: Annotated[str | None, _Models(help="cpu, cuda, mps, ...; both models.")] = None


@dataclass(frozen=True)
class GuardOptions:
    """How to guard. None leaves a setting as it is: the embedded reward's, or the library's default."""

    config: Annotated[
        Path | None,
        _Guard(
            help="File of settings, or of those of a guard alone, as calibrate writes it; options beside it "
            "win. Without it: STARS_GUARD_CONFIG, or stars-guard.toml here."
        ),
    ] = None
    target: Annotated[
        float | None, _Guard(help="Target reward; this or --config is required with --reward.")
    ] = None
    alpha: Annotated[
        float | None,
        _Guard(help="Start of a linear schedule: 0 at the bare prompt's reward, 1 at target."),
    ] = None
    beta: Annotated[float | None, _Guard(help="Acceptance temperature of the soft rule.")] = None
    schedule: Annotated[
        ScheduleName | None,
        _Guard(metavar="KIND", help=f"How the threshold moves: {', '.join(get_args(ScheduleName))}."),
    ] = None
    start: Annotated[
        float | None, _Guard(help="First threshold of front_loaded; two beta over the target by default.")
    ] = None
    horizon: Annotated[
        int | None, _Guard(help="Tokens after which linear_in_tokens reaches the target.", min=1)
    ] = None
    rule: Annotated[Literal["soft", "hard"] | None, _Guard(help="Acceptance rule.")] = None
    segment_tokens: Annotated[int | None, _Guard(help="Most tokens in a segment.")] = None
    segments: Annotated[
        Cut | None, _Guard(metavar="KIND", help=f"Where segments end: {', '.join(get_args(Cut))}.")
    ] = None
    candidates: Annotated[
        str | None,
        _Guard(
            help="Candidates drawn at once: a number, or adaptive, for least time or tokens.",
            metavar="N|adaptive|time|tokens",
        ),
    ] = None
    max_attempts: Annotated[int | None, _Guard(help="Candidates judged per segment.")] = None
    escalate: Annotated[
        list[str] | None,
        _Guard(
            metavar="POLICY",
            help="When a position keeps failing: ladder, hint, opening, backtrack (repeatable), or none.",
        ),
    ] = None
    exhaustion: Annotated[
        Policy | None,
        _Guard(metavar="POLICY", help=f"When all were rejected: {', '.join(get_args(Policy))}."),
    ] = None
    floor: Annotated[
        float | None, _Guard(help="Reward under which nothing is shown, accepted or forced.")
    ] = None
    keep_rejected_text: Annotated[
        bool, _Guard("--keep-rejected-text", help="Keep rejected texts in the trace.")
    ] = False


@dataclass(frozen=True)
class SamplingOptions:
    """How the language model proposes: fields of :class:`stars_guard.SamplingParams`; None: not given."""

    max_tokens: Annotated[int | None, _Sampling(help="Most tokens in the answer.")] = None
    temperature: Annotated[float | None, _Sampling(help="Sampling temperature.")] = None
    top_p: Annotated[float | None, _Sampling(help="Mass of the likeliest tokens kept.")] = None
    top_k: Annotated[int | None, _Sampling(help="Likeliest tokens kept; 0 keeps all.")] = None
    min_p: Annotated[float | None, _Sampling(help="Least share of the likeliest token.")] = None
    repetition_penalty: Annotated[float | None, _Sampling(help="Over 1 discourages repetition.")] = None
    seed: Annotated[int | None, _Sampling(help="Makes the answer repeatable.")] = None
    stop: Annotated[list[str] | None, _Sampling(help="Text that ends the answer; may be repeated.")] = None


@dataclass(frozen=True)
class LimitOptions:
    """What an answer may cost; the fields of :class:`stars_guard.Budget`."""

    max_proposed_tokens: Annotated[int | None, _Limits(help="Most tokens drawn, kept or not.")] = None
    max_reward_calls: Annotated[int | None, _Limits(help="Most texts scored.")] = None
    max_seconds: Annotated[float | None, _Limits(help="Most seconds.")] = None


def make_folder(folder: Path) -> None:
    """Make the folder of ``--output``, before the work whose result it is for.

    Raises:
        ConfigurationError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"--output {folder} is not a folder that can be made: {error}") from error
