"""Attempts and lengths from what a guard did: traces, or the summary of a calibration."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stars_guard.algorithm.trace import Trace, Verdict, read_jsonl
from stars_guard.errors import ConfigurationError
from stars_guard.planning.scenario import geometric


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        attempts: candidates judged a segment, by how often.
        answer_tokens: lengths of answers, by how often; None where the file does not say.
    """

    attempts: dict[int, float]
    answer_tokens: dict[int, float] | None = None


def measured(path: Path) -> Measured:
    """Read ``summary.json`` of ``stars-guard calibrate``, or a file of traces.

    Raises:
        ConfigurationError: it is neither, or has no decided segment.
        TraceError: it is neither.
    """
    try:
        summary = json.loads(path.read_bytes())
    except ValueError:
        summary = None  # several lines of JSON
    if isinstance(summary, dict) and "fitted" in summary:
        return _from_summary(path, summary)
    return _from_traces(path)


def _from_summary(path: Path, summary: dict[str, Any]) -> Measured:
    """The rate that was delivered, if it was verified, or else the promised one."""
    try:
        rates = summary.get("delivered") or summary["fitted"]["promised"]
        return Measured(
            geometric(float(rates["acceptance"]), int(summary["fitted"]["config"]["max_attempts"]))
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{path} is not a summary that calibrate wrote") from error


def _from_traces(path: Path) -> Measured:
    attempts: Counter[int] = Counter()
    lengths: Counter[int] = Counter()
    for trace in read_jsonl(path):
        decided = [one for one in trace.segments if one.verdict is not Verdict.OPEN]
        attempts.update(len(one.attempts) for one in decided)
        lengths[_tokens(trace)] += 1
    del lengths[0]  # refused at once
    if not attempts or not lengths:
        raise ConfigurationError(f"{path} has no trace of an answer; give one, or --acceptance")
    return Measured(*({one: float(many) for one, many in each.items()} for each in (attempts, lengths)))


def _tokens(trace: Trace) -> int:
    kept = [one for one in trace.segments if one.verdict in (Verdict.ACCEPTED, Verdict.FORCED)]
    return sum(one.attempts[one.chosen].tokens for one in kept if one.chosen is not None)
