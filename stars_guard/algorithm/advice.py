"""What the decisions of an answer say about its settings: here, that its target is out of reach.

The criterion is stated here alone. Of the segments that were decided, at least three, more than half found no
candidate that the rule accepts, whatever then became of them: forced, refused, or gone back from. A hostile
prompt that is refused at its first segment is what a guard is for, and says nothing of the settings. Nor does
shadow mode, where each segment has one candidate.
"""

from __future__ import annotations

from collections import Counter
from statistics import median

from pydantic import computed_field

from stars_guard.algorithm.config import ChannelRules, GuardConfig
from stars_guard.algorithm.rules import Floor, Watch
from stars_guard.algorithm.trace import Attempt, SegmentTrace, Trace, Verdict
from stars_guard.settings import Record
from stars_guard.types import Channel

LEAST_SEGMENTS = 3
"""Fewest decided segments of an answer that advice is given on."""


class Advice(Record):
    """Why most segments of an answer found no acceptable candidate, in numbers, and what to do."""

    decided: int
    """Segments that were decided, those that were withdrawn or gone back from included."""
    exhausted: int
    """Decided segments for which no candidate was accepted by the rule."""
    channel: Channel
    """The part of the answer that most of these failed in; all rewards here are on its scale."""
    reached: float
    """Median, over these segments, of the best candidate's reward."""
    asked: float
    """Median of the thresholds that these candidates were held against."""
    target: float
    """Target reward ``r*``."""
    floor: Floor
    """Reward under which nothing is shown."""
    max_attempts: int
    """Most candidates judged per segment."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def message(self) -> str:
        """The advice in words, with the settings' values and no text of a model or a user."""
        where = "" if self.channel is Channel.ANSWER else f" (channel {self.channel})"
        under = ", under the floor" if self.reached < self.floor else ""
        settings = f"target={self.target:.4g}, floor={self.floor:.4g}, max_attempts={self.max_attempts}"
        return (
            f"{self.exhausted} of {self.decided} segments found no candidate that the rule accepts{where}: "
            f"the best of each had a median reward of {self.reached:.4g}{under}, where {self.asked:.4g} was "
            f"asked ({settings}). Run `stars-guard calibrate` for settings that this model reaches, set a "
            "lower target, or a lower max_attempts, which spends less on what fails anyway"
        )


def advice_on(trace: Trace) -> Advice | None:
    """What the decisions of an answer say about its settings; None where they are in reach."""
    if isinstance(trace.config.exhaustion, Watch):
        return None
    decided = [segment for segment in trace.segments if segment.verdict is not Verdict.OPEN]
    exhausted = [segment for segment in decided if not any(attempt.accepted for attempt in segment.attempts)]
    if len(decided) < LEAST_SEGMENTS or 2 * len(exhausted) <= len(decided):
        return None
    return _out_of_reach(trace.config, len(decided), exhausted)


def _out_of_reach(config: GuardConfig, decided: int, exhausted: list[SegmentTrace]) -> Advice:
    rules = {channel: config.rules(channel) for channel in Channel}
    best = [_best(segment, rules) for segment in exhausted]
    # Channels may have scales of their own, which no median may mix.
    ((channel, _),) = Counter(attempt.channel for attempt in best).most_common(1)
    there = [attempt for attempt in best if attempt.channel is channel]
    return Advice(
        decided=decided,
        exhausted=len(exhausted),
        channel=channel,
        reached=median(attempt.reward for attempt in there),
        asked=median(attempt.threshold for attempt in there),
        target=rules[channel].threshold.target,
        floor=rules[channel].lowest,
        max_attempts=config.max_attempts,
    )


def _best(segment: SegmentTrace, rules: dict[Channel, ChannelRules]) -> Attempt:
    """The attempt that came closest to the target of its channel, as policy ``best`` compares them."""

    def closeness(attempt: Attempt) -> tuple[float, float]:
        return attempt.reward - rules[attempt.channel].threshold.target, attempt.reward

    return max(segment.attempts, key=closeness)
