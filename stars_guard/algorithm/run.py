"""The algorithm: one guarded answer as a state machine. No torch, no clock, no I/O.

    run.plan            what to draw for the current segment
    run.offer(c, r)     judge one candidate, in index order -> Decision

Given the same candidates and rewards, a run always decides the same; :mod:`stars_guard.algorithm.replay` uses
exactly that to verify a trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stars_guard.algorithm.acceptance import AcceptanceDraws, seeded_draws
from stars_guard.algorithm.candidates import AttemptDraw, AttemptDraws, SegmentPlan, SegmentTally, backtrack
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.giving_up import further, gives_up
from stars_guard.algorithm.openings import RefusalOpening, WriteRefusal
from stars_guard.algorithm.retries import retry_temperature
from stars_guard.algorithm.rules import Best, Last, Position, Raise, Watch
from stars_guard.algorithm.standing import Seen, Standing
from stars_guard.algorithm.trace import Attempt, SegmentTrace, Verdict
from stars_guard.errors import ConfigurationError
from stars_guard.types import Candidate, Channel, Finish, Reward, StopReason


@dataclass(frozen=True, slots=True)
class Decision:
    """What offering one candidate led to.

    ``verdict`` stays ``OPEN`` after a rejection with attempts left. After ``BACKTRACKED``, the segments that
    were held back are no longer part of the answer; after ``DECLINED``, the next segment begins a refusal.
    ``chosen`` is the candidate that is now part of the answer: the one offered, or an earlier one when
    ``verdict`` is ``FORCED``.
    """

    verdict: Verdict
    segment: SegmentTrace
    attempt: Attempt
    chosen: Candidate | None = None


class Run:
    """One guarded answer.

    Args:
        config: the STARS settings.
        sampling: with ``seed`` set.
        draws: decide acceptance; None: those that follow from the seed.

    Attributes:
        base_rewards: reward of the bare prompt per channel; set those that a schedule needs before the first
            offer in that channel.
        token_ids: accepted response tokens.
        plan: the parameters of the current segment; its ``max_tokens`` never passes the answer's limit.
        segment: the segment being decided (after the end: the last one).
        segments: the trace so far: every try at a segment, withdrawn ones too, so that each has random
            numbers of its own.
        held: how many of the last segments may yet be withdrawn, and so must not be shown.
        refusing: whether the answer has become a refusal, which the model writes.
        stop_reason: None while the answer goes on.
        attempts_at_first: that are made at a segment before it may be given up, unless one is accepted.
    """

    segment: SegmentTrace

    def __init__(
        self, config: GuardConfig, sampling: SamplingParams, draws: AcceptanceDraws | None = None
    ) -> None:
        if sampling.seed is None:
            raise ConfigurationError("a run needs sampling.seed; draw one with fresh_seed()")
        self.config = config
        self.sampling = sampling
        self._uniform = draws or seeded_draws(sampling.seed)
        self._standing = Standing(config)
        self.base_rewards: dict[Channel, float] = {}
        self.token_ids: list[int] = []
        self.segments: list[SegmentTrace] = []
        self.stop_reason: StopReason | None = None
        retry = retry_temperature(config, sampling)
        self._draws = AttemptDraws(config.escalation, sampling.temperature, config.max_attempts, retry)
        self._retry = retry
        self.attempts_at_first = further(config.patience, self._draws, ())
        # Without retries, the same would be written again at temperature 0.
        goes_back = sampling.temperature > 0 or retry is not None
        self._backtrack = backtrack(config.escalation) if goes_back else None
        self._backtracks_left = self._backtrack.most if self._backtrack else 0
        self._kept: list[SegmentTrace] = []
        self.held = 0
        self.refusing = False
        self._best: Seen | None = None
        self._history: list[SegmentTally] = []
        self._begin_segment(self._draws)

    @property
    def kept(self) -> int:
        """Segments that are part of the answer."""
        return len(self._kept)

    @property
    def best(self) -> Candidate | None:
        """The best rejected candidate of the current segment, which policy ``best`` may yet force."""
        return self._best.candidate if self._best else None

    @property
    def best_attempt(self) -> int:
        """The attempt number of :attr:`best`; -1 without one."""
        return self._best.index if self._best else -1

    @property
    def attempts_left(self) -> int:
        """Candidates that may still be judged."""
        return self.most_attempts - len(self.segment.attempts)

    @property
    def attempts_ahead(self) -> int:
        """Candidates that are judged before the segment may be given up, unless one is accepted."""
        return further(self.config.patience, self._here, self.segment.attempts, anew=self._anew)

    @property
    def most_attempts(self) -> int:
        """Candidates that may be judged in this segment. Where all would be greedy, they are alike: one."""
        return self._here.count

    @property
    def draw(self) -> AttemptDraw:
        """How the next attempt is drawn."""
        return self._here.of(len(self.segment.attempts), anew=self._anew)

    def alike(self, most: int) -> int:
        """How many attempts from the next on are drawn alike, at most ``most``."""
        return self._here.alike(len(self.segment.attempts), most, anew=self._anew)

    def alike_after(self, most: int) -> int:
        """How many of the first attempts at the segment after this one are drawn alike, at most ``most``."""
        return self._draws.alike(0, min(most, self._draws.count))

    def close_to_openings(self) -> None:
        """No opening fits at the segment that begins now, by the text before it."""
        self.segment.takes_openings = False
        policies = tuple(one for one in self.config.escalation if not isinstance(one, RefusalOpening))
        self._here = AttemptDraws(policies, self.sampling.temperature, self.config.max_attempts, self._retry)

    def needs_base_reward(self, channel: Channel) -> bool:
        """Whether the bare prompt must be scored before the first offer in this channel."""
        return self._standing.rules(channel).needs_base_reward

    def hardest(
        self, candidate: Candidate, rewards: Sequence[tuple[Channel, Reward]]
    ) -> tuple[Channel, Reward]:
        """The one of a candidate's rewards, one per part that it adds to, that is least likely accepted.

        One under the floor of its channel is harder than any that is not: the candidate can then not be
        forced either.
        """
        if len(rewards) == 1:
            return rewards[0]

        def ease(by_channel: tuple[Channel, Reward]) -> tuple[bool, float, float]:
            channel, reward = by_channel
            probability = self._probability(reward, channel, self._threshold(candidate, channel))
            over_floor = self._standing.over_floor(reward.value, channel)
            return over_floor, probability, self._standing.excess(reward.value, channel)

        channel, reward = min(rewards, key=ease)
        parts = {part.value: judged.value for part, judged in sorted(rewards, key=ease, reverse=True)}
        return channel, replace(reward, components={**reward.components, **parts})

    def offer(self, candidate: Candidate, reward: Reward, channel: Channel = Channel.ANSWER) -> Decision:
        """Judge the next candidate of the current segment.

        Candidates must be offered in the order of their attempt index; that is what makes judging several
        drawn at once the same law as one at a time. One that adds to several parts of the answer is judged by
        its :meth:`hardest` reward, so that its probability is the lowest of theirs.

        Args:
            candidate: the next in order.
            reward: what it got.
            channel: the part of the answer on whose scale that is.
        """
        attempt = self._judged(candidate, reward, channel)
        seen = Seen(attempt.index, channel, reward.value, reward.components, candidate)
        if self._best is None or self._standing.rank(seen) > self._standing.rank(self._best):
            self._best = seen
        self.segment.attempts.append(attempt)
        if attempt.accepted:
            return self._take(Verdict.ACCEPTED, attempt, candidate, attempt.index)
        if self.attempts_left > 0 and not self._gives_up():
            return Decision(Verdict.OPEN, self.segment, attempt)
        return self._exhausted(attempt, candidate, self._best)

    def _gives_up(self) -> bool:
        return gives_up(self.config.patience, self._here, self.segment.attempts, anew=self._anew)

    def stop(self, reason: StopReason) -> None:
        """End the answer for a reason outside the rule: budget, deadline, cancellation, outage."""
        self.stop_reason = reason

    def plan_after(self, candidate: Candidate, attempt: int) -> SegmentPlan:
        """The plan of the next segment, if this candidate is accepted as that attempt."""
        history = [*self._history, SegmentTally(attempt + 1, accepted=True)]
        return self._planned(history, len(self.token_ids) + len(candidate.token_ids))

    def _planned(self, history: Sequence[SegmentTally], tokens: int) -> SegmentPlan:
        room = self.sampling.max_tokens - tokens
        plan = self._whole_plan(history)
        return SegmentPlan(plan.candidates, min(plan.max_tokens, room), plan.threshold_shift)

    def _whole_plan(self, history: Sequence[SegmentTally]) -> SegmentPlan:
        longest = self.config.segments.max_tokens
        return self.config.drawing.plan(history, longest, self.attempts_at_first)

    def _begin_segment(self, draws: AttemptDraws, *, anew: bool = False) -> None:
        self._here, self._anew = draws, anew
        self.plan = self._planned(self._history, len(self.token_ids))
        self._uncut = self._whole_plan(self._history).max_tokens
        self._best = None
        self.segment = SegmentTrace(
            index=len(self.segments),
            prefix_tokens=len(self.token_ids),
            candidates=self.plan.candidates,
            max_tokens=self.plan.max_tokens,
            threshold_shift=self.plan.threshold_shift,
        )
        self.segments.append(self.segment)

    def _judged(self, candidate: Candidate, reward: Reward, channel: Channel) -> Attempt:
        index, tokens = len(self.segment.attempts), len(candidate.token_ids)
        threshold = self._threshold(candidate, channel)
        probability = self._probability(reward, channel, threshold)
        draw = self._uniform(self.segment.index, index, candidate)
        accepted = draw < probability
        drawn = self.draw
        return Attempt(
            index=index,
            tokens=tokens,
            opening_tokens=candidate.opening_tokens,
            text_length=len(candidate.text),
            finish=candidate.finish,
            channel=channel,
            proposal=drawn.name,
            temperature=drawn.temperature,
            reward=reward.value,
            components=dict(reward.components),
            truncated_tokens=reward.truncated_tokens,
            threshold=threshold,
            probability=probability,
            uniform=draw,
            accepted=accepted,
            text=candidate.text if self.config.keep_rejected_text else None,
        )

    def _probability(self, reward: Reward, channel: Channel, threshold: float) -> float:
        return self._standing.rules(channel).probability(reward.value, threshold)

    def _threshold(self, candidate: Candidate, channel: Channel) -> float:
        position = Position(
            tokens=len(self.token_ids) + self._length(candidate),
            segment=len(self._kept) + 1,
            max_tokens=self.sampling.max_tokens,
            base_reward=self.base_rewards.get(channel),
            final=self.config.final_at_target and (candidate.finished or self._is_whole(candidate)),
        )
        threshold = self._standing.rules(channel).bar(position)
        shift = self.plan.threshold_shift
        if shift and self.config.own_rules(channel):
            shift = 0.0  # it is in units of the answer's reward, and these rules may have another scale
        return threshold + shift

    def _length(self, candidate: Candidate) -> int:
        """Tokens of a candidate; one that ``max_tokens`` cut counts as long as its segment might have been.

        What a request asks for must not move the bar.
        """
        tokens = len(candidate.token_ids)
        cut = candidate.finish is Finish.LENGTH and self.config.final_at_target
        return max(tokens, self._uncut) if cut else tokens

    def _is_whole(self, candidate: Candidate) -> bool:
        """Whether it is the whole answer of an engine that cannot go on with one, however that ended."""
        return candidate.finish is Finish.LENGTH and len(candidate.token_ids) > self.plan.max_tokens

    def _exhausted(self, attempt: Attempt, last: Candidate, best: Seen) -> Decision:
        if self.held:
            return self._go_back(attempt)
        policy = self.config.exhaustion
        if isinstance(policy, Best) and self._standing.may_be_forced(best):
            return self._take(Verdict.FORCED, attempt, best.candidate, best.index)
        last_counts = isinstance(policy, Last) and self._standing.over_floor(attempt.reward, attempt.channel)
        if last_counts or isinstance(policy, Watch):
            return self._take(Verdict.FORCED, attempt, last, attempt.index)
        if isinstance(policy, Raise):
            return self._end(Verdict.EXHAUSTED, attempt, StopReason.EXHAUSTED)
        if isinstance(policy, WriteRefusal) and self.segment.takes_openings and not self.refusing:
            return self._decline(policy, attempt)
        return self._end(Verdict.REFUSED, attempt, StopReason.REFUSED)

    def _go_back(self, attempt: Attempt) -> Decision:
        """Withdraw the segments that are held back, and decide their places anew."""
        withdrawn = self._kept[-self.held :]
        for segment in withdrawn:
            segment.verdict = Verdict.WITHDRAWN
        del self._kept[-self.held :], self.token_ids[withdrawn[0].prefix_tokens :]
        self.held = 0
        self._backtracks_left -= 1
        failed = self.segment
        failed.verdict = Verdict.BACKTRACKED
        self._history.append(SegmentTally(len(failed.attempts), accepted=False))
        self._begin_segment(self._draws, anew=True)
        return Decision(Verdict.BACKTRACKED, failed, attempt)

    def _decline(self, policy: WriteRefusal, attempt: Attempt) -> Decision:
        """Have the refusal written at the place of a segment that failed. Nothing of it is withdrawn."""
        self.refusing, self._backtracks_left = True, 0
        failed = self.segment
        failed.verdict = Verdict.DECLINED
        self._history.append(SegmentTally(len(failed.attempts), accepted=False))
        self._begin_segment(AttemptDraws.of_refusal(policy, self.sampling.temperature, self._retry))
        return Decision(Verdict.DECLINED, failed, attempt)

    def _end(self, verdict: Verdict, attempt: Attempt, reason: StopReason) -> Decision:
        self.segment.verdict = verdict
        self.stop_reason = reason
        return Decision(verdict, self.segment, attempt)

    def _take(self, verdict: Verdict, attempt: Attempt, candidate: Candidate, index: int) -> Decision:
        segment = self.segment
        segment.verdict, segment.chosen = verdict, index
        self._kept.append(segment)
        if self._backtrack and self._backtracks_left:
            self.held = min(self.held + 1, self._backtrack.segments)
        self.token_ids.extend(candidate.token_ids)
        self._history.append(SegmentTally(len(segment.attempts), verdict is Verdict.ACCEPTED))
        if candidate.finish is not None:
            self.stop_reason = StopReason.REFUSED if self.refusing else StopReason(candidate.finish.value)
        else:
            self._begin_segment(self._draws)
        return Decision(verdict, segment, attempt, candidate)
