"""Shadow mode: answers pass as the language model writes them, and what the guard would have done is known.

One candidate is drawn per segment, judged, and kept whatever the judgement. Nothing that is judged has a say
in what is drawn, so the answer follows the law of the language model alone. A segment that the trace calls
``forced`` is one whose candidate the guard would have rejected.

Up to its first rejection, a guarded answer with the same seed is the same, since every random number is
addressed by seed, segment and attempt. The first rejection is therefore exactly what a guard would have done;
later ones are judged after text that it would not have let stand.

This is the one place where text passes that could not be judged, because nothing is enforced here: an outage
of the reward model is recorded, and the answer goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from stars_guard.algorithm.config import GuardConfig
from stars_guard.algorithm.rules import Watch, expected_attempts
from stars_guard.algorithm.trace import Attempt, Trace, Verdict
from stars_guard.errors import ScoringError
from stars_guard.loop.events import Request
from stars_guard.rewards.base import RewardModel, ScoreRequest, WrappedReward, score_checked
from stars_guard.rewards.halves import ByHalves
from stars_guard.types import Channel, Reward

log = logging.getLogger("stars_guard")

OUTAGE = "outage"
"""The component that tells a candidate which could not be judged from one that was judged badly."""
_UNJUDGED = -1e9


def shadowed(config: GuardConfig) -> GuardConfig:
    """Settings with the same thresholds that judge one candidate per segment and keep it.

    How segments are cut and how that adapts stays, so that a guard would have drawn the same candidates.
    """
    return config.changed(max_attempts=1, exhaustion=Watch(), escalation=())


def shadowed_request(request: Request) -> Request:
    """The request as it is only watched: what judging may cost must not end an answer either."""
    budget = request.budget.changed(max_reward_calls=None)
    return replace(request, config=shadowed(request.config), budget=budget)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A candidate that the guard would have rejected."""

    segment: int
    """Segment number, from 0."""
    channel: Channel
    """The part of the answer that decided."""
    start: int
    """Where it begins, in characters of the answer as it was drawn."""
    end: int
    """Where it ends."""
    tokens: int
    reward: float
    threshold: float
    probability: float
    """Probability with which a guard accepts it, in [0, 1]."""
    components: dict[str, float]
    """What the reward was combined from."""


def judged(trace: Trace) -> Iterator[tuple[int, Attempt]]:
    """Segment number and candidate of each segment of a watched answer that was decided."""
    for segment in trace.segments:
        if segment.verdict is not Verdict.OPEN:
            yield segment.index, segment.attempts[0]


def unjudged(attempt: Attempt) -> bool:
    """Whether an outage kept it from being judged."""
    return OUTAGE in attempt.components


def rejections(trace: Trace) -> list[Rejection]:
    """What the guard would have rejected of a watched answer, in order."""
    rejected, start = [], 0
    for number, attempt in judged(trace):
        if not attempt.accepted and not unjudged(attempt):
            rejected.append(_rejection(number, attempt, start))
        start = attempt.text_length
    return rejected


def _rejection(number: int, attempt: Attempt, start: int) -> Rejection:
    return Rejection(
        segment=number,
        channel=attempt.channel,
        start=start,
        end=attempt.text_length,
        tokens=attempt.tokens,
        reward=attempt.reward,
        threshold=attempt.threshold,
        probability=attempt.probability,
        components=attempt.components,
    )


def expected_extra_tokens(trace: Trace, max_attempts: int) -> float:
    """Tokens that a guard with so many attempts would have drawn beside those of the answer, on average.

    One candidate is known per segment, so its acceptance probability stands for that of the position, and
    its length for theirs. Attempts are convex in that probability: the mean over many answers is too high
    rather than too low, and a guarded answer with the same seed is the exact number.
    """
    known = [attempt for _, attempt in judged(trace) if not unjudged(attempt)]
    return sum(
        attempt.tokens * (expected_attempts(attempt.probability, max_attempts) - 1) for attempt in known
    )


class ShadowReward(WrappedReward):
    """A reward model whose outages do not stop an answer that is only watched.

    What cannot be judged gets a reward that no rule accepts, with the component ``outage``. A reward model
    that fails slowly must not hold up answers either: after a failure that took ``patience`` seconds it is
    not asked for ``pause`` seconds.

    A text that is no part of an answer, without ``run_id``, is not let pass: its outage is raised.

    Args:
        reward: judges.
        patience: seconds.
        pause: seconds.
        clock: seconds on any monotonic scale.
    """

    def __init__(
        self,
        reward: RewardModel,
        *,
        patience: float = 1.0,
        pause: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(reward)
        self._patience, self._pause, self._clock = patience, pause, clock
        self._paused_until = float("-inf")
        self._without_base: set[str] = set()

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """One :class:`Reward` per request, in order.

        Raises:
            ScoringError: a text that is no part of an answer could not be judged.
        """
        runs = [list(run) for _, run in groupby(requests, lambda request: request.run_id)]
        return ByHalves(self._together, self._unjudged).results(runs)

    def release(self, run_id: str) -> None:
        """Forget an answer, and have the reward model forget it."""
        self._without_base.discard(run_id)
        super().release(run_id)

    def _together(self, runs: Sequence[Sequence[ScoreRequest]]) -> list[Reward]:
        """The rewards of several answers.

        Raises:
            ScoringError: an outage, or one that is known of.
        """
        begun = self._clock()
        known = begun < self._paused_until or any(run[0].run_id in self._without_base for run in runs)
        if known and (len(runs) > 1 or runs[0][0].run_id):
            raise ScoringError(f"{self.name} is not asked")
        try:
            return score_checked(self.reward, [request for run in runs for request in run])
        except ScoringError as error:
            log.warning("shadow: %s cannot judge: %s", self.name, type(error.__cause__ or error).__name__)
            if self._clock() - begun >= self._patience:
                self._paused_until = self._clock() + self._pause
            raise

    def _unjudged(self, run: Sequence[ScoreRequest], error: BaseException) -> list[Reward]:
        """The rewards of an answer that cannot be judged."""
        run_id = run[0].run_id
        if not run_id or not isinstance(error, ScoringError):
            raise error
        if not run[0].tokens:
            # Thresholds that start at the bare prompt's reward mean nothing without it.
            self._without_base.add(run_id)
        return [Reward(_UNJUDGED, components={OUTAGE: 1.0}) for _ in run]
