"""Answers with traces that no loop made."""

from __future__ import annotations

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Constant
from stars_guard.algorithm.trace import Attempt, SegmentTrace, Trace, Verdict
from stars_guard.batch.answers import RowResult
from stars_guard.evaluation.profiles.traced import TracedAnswer
from stars_guard.result import Seconds, Usage
from stars_guard.types import StopReason

CONFIG = GuardConfig(threshold=Constant(target=1.0), max_attempts=3)


def segment(
    index: int,
    rewards: list[float],
    verdict: Verdict = Verdict.ACCEPTED,
    *,
    tokens: int = 4,
    threshold: float = 1.0,
) -> SegmentTrace:
    """A segment whose last candidate was chosen, unless the verdict says that none was."""
    chosen = verdict in (Verdict.ACCEPTED, Verdict.FORCED, Verdict.WITHDRAWN)
    attempts = [
        Attempt(
            index=number,
            tokens=tokens,
            text_length=9,
            finish=None,
            temperature=1.0,
            reward=reward,
            components={},
            truncated_tokens=0,
            threshold=threshold,
            probability=float(reward >= threshold),
            uniform=0.5,
            accepted=reward >= threshold,
        )
        for number, reward in enumerate(rewards)
    ]
    return SegmentTrace(
        index=index,
        prefix_tokens=index * tokens,
        candidates=1,
        max_tokens=tokens,
        threshold_shift=0.0,
        attempts=attempts,
        verdict=verdict,
        chosen=len(rewards) - 1 if chosen else None,
    )


def traced(prompt: str, *segments: SegmentTrace, usage: Usage | None = None) -> TracedAnswer:
    """An answer of these segments; it is refused where the last one was."""
    refused = bool(segments) and segments[-1].verdict is Verdict.REFUSED
    reason = StopReason.REFUSED if refused else StopReason.EOS
    trace = Trace(
        run_id=prompt,
        model="m",
        reward="w",
        config=CONFIG,
        sampling=SamplingParams(),
        segments=list(segments),
        stop_reason=reason,
    )
    drawn = sum(attempt.tokens for item in segments for attempt in item.attempts)
    kept = sum(
        item.attempts[item.chosen].tokens
        for item in segments
        if item.chosen is not None and item.verdict is not Verdict.WITHDRAWN
    )
    row = RowResult(
        id=f"{prompt}#0",
        seed=0,
        text="",
        stop_reason=reason,
        refused=refused,
        usage=usage or Usage(proposed_tokens=drawn, kept_tokens=kept),
        run_id=prompt,
    )
    return TracedAnswer(prompt, row, trace)


def alone(seconds: float, first: float | None = None) -> Usage:
    """Usage of an answer that took so long."""
    return Usage(seconds=Seconds(total=seconds, first_segment=first))
