"""Keeps any open LLM safe while it writes.

Importing this package costs no torch and next to no time: names are looked up when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from stars_guard.version import __version__

if TYPE_CHECKING:  # the same names for type checkers; a test holds the two lists together
    from stars_guard.algorithm.candidates import Adaptive as Adaptive
    from stars_guard.algorithm.candidates import Fixed as Fixed
    from stars_guard.algorithm.config import Budget as Budget
    from stars_guard.algorithm.config import ChannelRules as ChannelRules
    from stars_guard.algorithm.config import GuardConfig as GuardConfig
    from stars_guard.algorithm.config import SamplingParams as SamplingParams
    from stars_guard.algorithm.escalation import Backtrack as Backtrack
    from stars_guard.algorithm.escalation import SaferModel as SaferModel
    from stars_guard.algorithm.escalation import SafetyHint as SafetyHint
    from stars_guard.algorithm.escalation import TemperatureLadder as TemperatureLadder
    from stars_guard.algorithm.replay import replay as replay
    from stars_guard.algorithm.replay import verify as verify
    from stars_guard.algorithm.rules import Best as Best
    from stars_guard.algorithm.rules import Constant as Constant
    from stars_guard.algorithm.rules import FrontLoaded as FrontLoaded
    from stars_guard.algorithm.rules import Hard as Hard
    from stars_guard.algorithm.rules import Last as Last
    from stars_guard.algorithm.rules import LinearInSegments as LinearInSegments
    from stars_guard.algorithm.rules import LinearInTokens as LinearInTokens
    from stars_guard.algorithm.rules import Raise as Raise
    from stars_guard.algorithm.rules import Refuse as Refuse
    from stars_guard.algorithm.rules import Soft as Soft
    from stars_guard.algorithm.rules import Table as Table
    from stars_guard.algorithm.segments import Boundary as Boundary
    from stars_guard.algorithm.segments import EntropyCut as EntropyCut
    from stars_guard.algorithm.segments import FixedLength as FixedLength
    from stars_guard.algorithm.trace import Trace as Trace
    from stars_guard.errors import ConfigurationError as ConfigurationError
    from stars_guard.errors import GenerationError as GenerationError
    from stars_guard.errors import MissingExtraError as MissingExtraError
    from stars_guard.errors import NoAcceptableSegment as NoAcceptableSegment
    from stars_guard.errors import PromptError as PromptError
    from stars_guard.errors import ScoringError as ScoringError
    from stars_guard.errors import StarsGuardError as StarsGuardError
    from stars_guard.errors import TraceError as TraceError
    from stars_guard.guarded import StarsGuardedLLM as StarsGuardedLLM
    from stars_guard.loop.events import Judged as Judged
    from stars_guard.loop.streams import AsyncGuardedStream as AsyncGuardedStream
    from stars_guard.loop.streams import GuardedStream as GuardedStream
    from stars_guard.prompts import Message as Message
    from stars_guard.prompts import Prompt as Prompt
    from stars_guard.prompts import Tools as Tools
    from stars_guard.result import GuardedResult as GuardedResult
    from stars_guard.rewards.channels import ByChannel as ByChannel
    from stars_guard.rewards.combine import Constrained as Constrained
    from stars_guard.rewards.combine import Minimum as Minimum
    from stars_guard.rewards.combine import Part as Part
    from stars_guard.rewards.combine import WeightedSum as WeightedSum
    from stars_guard.rewards.function import FunctionReward as FunctionReward
    from stars_guard.rewards.veto import Veto as Veto
    from stars_guard.text.transcript import Called as Called
    from stars_guard.text.transcript import Piece as Piece
    from stars_guard.types import Channel as Channel
    from stars_guard.types import Guarantee as Guarantee
    from stars_guard.types import InvalidToolCall as InvalidToolCall
    from stars_guard.types import StopReason as StopReason
    from stars_guard.types import ToolCall as ToolCall

_HOMES = {
    "algorithm.replay": ("replay", "verify"),
    "algorithm.config": ("Budget", "ChannelRules", "GuardConfig", "SamplingParams"),
    "algorithm.candidates": ("Adaptive", "Fixed"),
    "errors": (
        "ConfigurationError",
        "GenerationError",
        "MissingExtraError",
        "NoAcceptableSegment",
        "PromptError",
        "ScoringError",
        "StarsGuardError",
        "TraceError",
    ),
    "algorithm.escalation": ("Backtrack", "SaferModel", "SafetyHint", "TemperatureLadder"),
    "guarded": ("StarsGuardedLLM",),
    "loop.events": ("Judged",),
    "result": ("GuardedResult",),
    "rewards.channels": ("ByChannel",),
    "rewards.combine": ("Constrained", "Minimum", "Part", "WeightedSum"),
    "rewards.function": ("FunctionReward",),
    "rewards.veto": ("Veto",),
    "algorithm.rules": (
        "Best",
        "Constant",
        "FrontLoaded",
        "Hard",
        "Last",
        "LinearInSegments",
        "LinearInTokens",
        "Raise",
        "Refuse",
        "Soft",
        "Table",
    ),
    "algorithm.segments": ("Boundary", "EntropyCut", "FixedLength"),
    "loop.streams": ("AsyncGuardedStream", "GuardedStream"),
    "algorithm.trace": ("Trace",),
    "text.transcript": ("Called", "Piece"),
    "prompts": ("Message", "Prompt", "Tools"),
    "types": ("Channel", "Guarantee", "InvalidToolCall", "StopReason", "ToolCall"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = ["__version__", *sorted(_HOME_OF)]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'stars_guard' has no attribute {name!r}")
    return getattr(import_module(f"stars_guard.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
