"""Attempts and lengths from what a guard did: traces, or the summary of a calibration."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from stars_guard.algorithm.trace import Trace, Verdict, read_jsonl
from stars_guard.errors import ConfigurationError
from stars_guard.settings import parsed_json


@dataclass(frozen=True)
class MeasuredTraffic:
    """What was measured.

    Attributes:
        attempts: candidates judged a segment, by how often.
        answer_tokens: lengths of answers, by how often; None where the file does not say.
    """

    attempts: dict[int, float]
    answer_tokens: dict[int, float] | None = None


def measured(path: Path) -> MeasuredTraffic:
    """Read ``summary.json`` of ``stars-guard calibrate``, or a file of traces.

    Raises:
        ConfigurationError: it is neither, or has no decided segment.
        TraceError: it is neither.
    """
    try:
        summary = parsed_json(path.read_bytes())
    except ValueError:
        summary = None  # several lines of JSON
    if isinstance(summary, dict) and "fitted" in summary:
        return _from_summary(path, summary)
    return _from_traces(path)


def _from_summary(path: Path, summary: dict[str, Any]) -> MeasuredTraffic:
    """What was delivered, if it was verified, or else what is promised; patience is in both."""
    try:
        rates = summary.get("delivered") or summary["fitted"]["promised"]
        made = [float(chance) for chance in rates["made"]]
        ends = {n: now - after for n, (now, after) in enumerate(pairwise([*made, 0.0]), start=1)}
        return MeasuredTraffic({attempts: share for attempts, share in ends.items() if share > 0})
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{path} is not a summary that calibrate wrote") from error


def _from_traces(path: Path) -> MeasuredTraffic:
    attempts: Counter[int] = Counter()
    lengths: Counter[int] = Counter()
    for trace in read_jsonl(path):
        decided = [segment for segment in trace.segments if segment.verdict is not Verdict.OPEN]
        attempts.update(len(segment.attempts) for segment in decided)
        lengths[_tokens(trace)] += 1
    del lengths[0]  # refused at once
    if not attempts or not lengths:
        raise ConfigurationError(f"{path} has no trace of an answer; give one, or --acceptance")
    return MeasuredTraffic(*({n: float(many) for n, many in each.items()} for each in (attempts, lengths)))


def _tokens(trace: Trace) -> int:
    kept = [segment for segment in trace.segments if segment.verdict in (Verdict.ACCEPTED, Verdict.FORCED)]
    return sum(segment.attempts[segment.chosen].tokens for segment in kept if segment.chosen is not None)
