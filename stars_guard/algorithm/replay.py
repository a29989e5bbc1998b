"""Whether a trace is what the algorithm decides, recomputed from its rewards, draws and settings."""

from __future__ import annotations

from stars_guard.algorithm.acceptance import AcceptanceDraws
from stars_guard.algorithm.run import Run
from stars_guard.algorithm.trace import Attempt, SegmentTrace, Trace
from stars_guard.errors import ConfigurationError, TraceError
from stars_guard.types import Candidate, Channel, Guarantee, Reward, StopReason

_OUTSIDE_THE_RULE = frozenset(
    (
        None,
        StopReason.TOKEN_BUDGET,
        StopReason.REWARD_BUDGET,
        StopReason.DEADLINE,
        StopReason.CANCELLED,
        StopReason.GENERATION_ERROR,
        StopReason.SCORING_ERROR,
    )
)


def replay(trace: Trace) -> list[str]:
    """Recompute every plan and every decision of a trace from its rewards, draws and settings.

    Draws follow from the seed. Those of a key that the operator holds are taken as they are recorded.

    What was drawn is held against the plan, too: how long each candidate is, and how many there were.

    Returns:
        One line per difference; empty when the trace is what the algorithm decides.
    """
    try:
        run = Run(trace.config, trace.sampling, _recorded_draws(trace) if trace.keyed else None)
    except ConfigurationError as error:
        return [str(error)]
    for channel in {attempt.channel for segment in trace.segments for attempt in segment.attempts}:
        if trace.config.rules(channel).needs_base_reward and channel not in trace.base_rewards:
            return [f"the reward of the bare prompt is missing (channel {channel})"]
    run.base_rewards = trace.base_rewards
    most_attempts = []
    for recorded in trace.segments:
        # Which text came before is not in a trace, so that what it says of openings is taken as it stands.
        if trace.config.openings and not recorded.takes_openings and run.stop_reason is None:
            run.close_to_openings()
        most_attempts.append(run.most_attempts)
        for attempt in recorded.attempts:
            if run.stop_reason is not None:
                return [f"segment {recorded.index} goes on after the answer ended ({run.stop_reason})"]
            run.offer(*_stand_in(attempt))
    differences = _differences(trace, run)
    for recorded, most in zip(trace.segments, most_attempts, strict=True):
        differences += _beyond_the_rounds(recorded, most)
        if trace.guarantee is not Guarantee.WHOLE:  # there a segment is an answer, however long
            differences += _too_long(recorded)
    if not _same_end(run.stop_reason, trace.stop_reason):
        differences.append(f"stop reason: recorded {trace.stop_reason}, recomputed {run.stop_reason}")
    return differences


def _recorded_draws(trace: Trace) -> AcceptanceDraws:
    in_order = (attempt.uniform for segment in trace.segments for attempt in segment.attempts)
    return lambda segment, attempt, candidate: next(in_order)


def verify(trace: Trace) -> None:
    """Raise unless the trace replays.

    Raises:
        TraceError: with the first differences.
    """
    differences = replay(trace)
    if differences:
        raise TraceError(f"trace {trace.run_id} does not replay: " + "; ".join(differences[:5]))


def _same_end(recomputed: StopReason | None, recorded: StopReason | None) -> bool:
    if recomputed is None:
        return recorded in _OUTSIDE_THE_RULE
    # The rule may have ended an answer whose last segment the backend then failed to take over.
    return recorded in (recomputed, StopReason.GENERATION_ERROR)


def _stand_in(attempt: Attempt) -> tuple[Candidate, Reward, Channel]:
    # The algorithm reads only lengths, finish and reward, so blanks of the right length will do.
    ids, text = (0,) * attempt.tokens, " " * attempt.text_length
    candidate = Candidate(ids, text, attempt.finish, opening_tokens=attempt.opening_tokens)
    return candidate, Reward(attempt.reward, attempt.truncated_tokens, attempt.components), attempt.channel


def _differences(trace: Trace, run: Run) -> list[str]:
    differences = []
    if len(trace.segments) != len(run.segments):
        differences.append(f"{len(trace.segments)} segments recorded, {len(run.segments)} recomputed")
    for recorded, recomputed in zip(trace.segments, run.segments, strict=False):
        ours, theirs = (_comparable(segment, trace.version) for segment in (recomputed, recorded))
        differences += [
            f"segment {recorded.index} {key}: recorded {theirs[key]}, recomputed {ours[key]}"
            for key in ours
            if ours[key] != theirs[key]
        ]
    return differences


def _too_long(segment: SegmentTrace) -> list[str]:
    """The attempts at a segment that are longer than its plan allows."""
    where, longest = f"segment {segment.index}", segment.max_tokens
    return [
        f"{where} attempt {attempt.index}: {attempt.tokens} tokens, but max_tokens is {longest}"
        for attempt in segment.attempts
        if attempt.tokens > longest
    ]


def _beyond_the_rounds(segment: SegmentTrace, most_attempts: int) -> list[str]:
    """What is wrong with the number of candidates drawn for a segment."""
    where, judged = f"segment {segment.index}", len(segment.attempts)
    # Of the last round at least one was judged. A run that nobody drew for counts no candidates.
    most = min(judged + segment.candidates - 1, most_attempts)
    if segment.drawn and not judged <= segment.drawn <= most:
        return [f"{where} drawn: recorded {segment.drawn}, the plan allows {judged} to {most}"]
    return []


def _comparable(segment: SegmentTrace, version: int) -> dict[str, object]:
    drawn = {"drawn"} if version > 3 else {"drawn", "candidates"}
    return segment.model_dump(exclude={**dict.fromkeys(drawn, True), "attempts": {"__all__": {"text"}}})
