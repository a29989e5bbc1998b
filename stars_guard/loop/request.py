"""One guarded request in flight: its run, its sessions, its costs, and where its events go."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace

from stars_guard.algorithm.random_numbers import fresh_seed
from stars_guard.algorithm.rules import Best
from stars_guard.algorithm.run import Decision, Run
from stars_guard.algorithm.trace import Trace, Verdict
from stars_guard.errors import kind_and_places
from stars_guard.loop.events import Event, Failed, Finished, Judged, Request
from stars_guard.loop.sources import Sessions, Source
from stars_guard.loop.usage import UsageRecorder
from stars_guard.models.base import Order, Session
from stars_guard.result import GuardedResult
from stars_guard.rewards.base import ScoreRequest
from stars_guard.text.dialects import PLAIN, Dialect
from stars_guard.text.transcript import Piece, Shown, Transcript, View
from stars_guard.types import (
    Candidate,
    Channel,
    Guarantee,
    HiddenStates,
    InvalidToolCall,
    Reward,
    StopReason,
    ToolCall,
)

log = logging.getLogger("stars_guard")


class RequestInFlight:
    """One request from submission to its end. One thread at a time works on it; any thread may cancel it.

    Args:
        request: a missing seed is drawn here.
        emit: takes each event, in order; the last is ``Finished`` or ``Failed``.

    Attributes:
        run: the algorithm's state of this answer.
        sessions: where its candidates are drawn from.
        costs: what it has cost so far.
        deadline: ``time.monotonic()`` value at which the budget's seconds are over; None without a bound.
        started: whether the prompt was read.
        ended: whether the last event was emitted.
        latest: the candidate that was last made part of the answer; None where segments were withdrawn since.
    """

    def __init__(self, request: Request, emit: Callable[[Event], None]) -> None:
        sampling, self.config, self.budget = request.sampling, request.config, request.budget
        seed = fresh_seed() if sampling.seed is None else sampling.seed
        self.prompt = request.prompt
        self.sampling = sampling.model_copy(update={"seed": seed})
        self.run_id = uuid.uuid4().hex
        self.costs = UsageRecorder()
        key = request.acceptance_key
        self._keyed = key is not None
        draws = key.draws(self.prompt, self.sampling, self.config.segments) if key else None
        self.run = Run(self.config, self.sampling, draws)
        self.sessions = Sessions()
        seconds = self.budget.max_seconds
        self.deadline = None if seconds is None else self.costs.submitted + seconds
        self.started = False
        self.ended = False
        self.latest: Candidate | None = None
        self._emit = emit
        self._cancelled = threading.Event()
        self._kept: list[int] = []
        self._texts: list[str] = []
        self._write_in(PLAIN)

    def begin(self, session: Session) -> None:
        """Begin the answer: the prompt was read."""
        self.started = True
        self.costs.prompt_measured(session.prompt_tokens)
        if session.dialect is not PLAIN:
            self._write_in(session.dialect)

    def _write_in(self, dialect: Dialect) -> None:
        tools = self.prompt.tools
        self._channels = dialect.channels(tools=tools is not None)
        is_json = self.sampling.response_schema is not None
        self._transcript = Transcript(dialect, tools, self.sampling.stop, self.run_id[:7], is_json=is_json)

    @property
    def text(self) -> str:
        """The whole answer so far, what is held back included."""
        return self._texts[-1] if self._texts else ""

    def cancel(self) -> None:
        """Stop at the next token step. Safe from any thread, and after the end."""
        self._cancelled.set()

    def alive(self) -> bool:
        """Whether anybody still wants tokens of this request."""
        return self.interruption() is None

    def interruption(self) -> StopReason | None:
        """Why the answer must end now, if it was cancelled or is out of time."""
        if self._cancelled.is_set():
            return StopReason.CANCELLED
        if self.deadline is not None and time.monotonic() >= self.deadline:
            return StopReason.DEADLINE
        return None

    def bare_texts(self, hidden: HiddenStates | None = None) -> list[ScoreRequest]:
        """The bare prompt to be scored, in each channel whose schedule starts there."""
        needed = [channel for channel in self._channels if self.run.needs_base_reward(channel)]
        self.costs.reward_asked(len(needed))
        bare = Candidate((), "", hidden=hidden)
        return [self._to_score(View(channel, "", finished=False), bare) for channel in needed]

    def texts(self, candidates: Sequence[Candidate]) -> list[list[ScoreRequest]]:
        """What to score of each candidate; fewer candidates than given where the budget ends."""
        most = self.budget.max_reward_calls
        texts: list[list[ScoreRequest]] = []
        asked_for = 0
        for candidate in candidates:
            views = self._transcript.views(candidate)
            asked_for += len(views)
            if most is not None and self.costs.usage.reward_calls + asked_for > most:
                break
            texts.append([self._to_score(view, candidate) for view in views])
        self.costs.reward_asked(sum(map(len, texts)))
        return texts

    def _to_score(self, view: View, candidate: Candidate) -> ScoreRequest:
        return ScoreRequest(
            prompt=self.prompt,
            response=view.text,
            finished=view.finished,
            run_id=self.run_id,
            deadline=self.deadline,
            channel=view.channel,
            tokens=len(self.run.token_ids) + len(candidate.token_ids),
            hidden=candidate.hidden,
        )

    def affordable(self, share: int) -> int | StopReason:
        """How many candidates the next round may have, at most ``share``, or the bound that forbids it."""
        run, budget, usage = self.run, self.budget, self.costs.usage
        count = min(run.plan.candidates, run.attempts_left, share)
        if budget.max_proposed_tokens is not None:
            count = min(count, (budget.max_proposed_tokens - usage.proposed_tokens) // run.plan.max_tokens)
            if count < 1:
                return StopReason.TOKEN_BUDGET
        if budget.max_reward_calls is not None:
            count = min(count, budget.max_reward_calls - usage.reward_calls)
            if count < 1:
                return StopReason.REWARD_BUDGET
        return run.alike(count)

    def order(self, session: Session, candidates: int, temperature: float | None) -> Order:
        """What to draw in the next round.

        Args:
            session: of the source that draws.
            candidates: how many to draw.
            temperature: to draw at, instead of the session's own; None leaves it.
        """
        run = self.run
        longest = run.plan.max_tokens
        return Order(
            session=session,
            segment=run.segment.index,
            first_attempt=len(run.segment.attempts),
            candidates=candidates,
            cut=self.config.segments.model_copy(update={"max_tokens": longest}),
            ends_answer=len(run.token_ids) + longest >= self.sampling.max_tokens,
            alive=self.alive,
            temperature=temperature,
        )

    def order_after(self, order: Order, candidate: Candidate, session: Session, share: int) -> Order:
        """The first round of the next segment, if the first candidate of ``order`` is accepted.

        Args:
            order: the round whose candidates are being scored.
            candidate: the first of them.
            session: with it accepted.
            share: most candidates.
        """
        plan = self.run.plan_after(candidate, order.first_attempt)
        tokens = len(self.run.token_ids) + len(candidate.token_ids)
        return replace(
            order,
            session=session,
            segment=order.segment + 1,
            first_attempt=0,
            candidates=self.run.alike(min(plan.candidates, self.run.most_attempts, share), first=0),
            cut=self.config.segments.model_copy(update={"max_tokens": plan.max_tokens}),
            ends_answer=tokens + plan.max_tokens >= self.sampling.max_tokens,
            temperature=None,  # policies draw later attempts only
        )

    def judge(
        self,
        source: Source,
        candidates: Sequence[Candidate],
        rewards: Sequence[Sequence[tuple[Channel, Reward]]],
    ) -> None:
        """Offer the candidates in index order until the segment is decided; show what was accepted.

        Args:
            source: where the candidates were drawn.
            candidates: in the order of their attempts.
            rewards: for each candidate, one reward per channel that it adds to; shorter than ``candidates``
                where the budget ended.
        """
        segment = self.run.segment
        segment.drawn += len(candidates)
        self.sessions.drew(source, len(segment.attempts), len(candidates))
        for candidate, by_channel in zip(candidates, rewards, strict=False):
            channel, reward = self.run.hardest(candidate, by_channel)
            decision = self.run.offer(candidate, reward, channel)
            self._emit(Judged(segment.index, decision.attempt, segment.verdict, segment.chosen))
            if decision.chosen is not None:
                self.sessions.accept(decision.chosen, segment.chosen or 0)
                self._accepted(decision, decision.chosen)
                self._kept.extend(decision.chosen.token_ids)
                self.latest = decision.chosen
            if decision.verdict is Verdict.BACKTRACKED:
                self._withdraw()
            if decision.verdict is not Verdict.OPEN:
                return
        if self.run.best is not None and isinstance(self.config.exhaustion, Best):
            self.sessions.hold(self.run.best, self.run.best_attempt)

    def _accepted(self, decision: Decision, chosen: Candidate) -> None:
        self.costs.segment_accepted()
        if decision.verdict is Verdict.FORCED:
            log.warning(
                "run %s: segment %d forced after %d attempts (threshold %.4g not reached)",
                self.run_id,
                decision.segment.index,
                len(decision.segment.attempts),
                decision.attempt.threshold,
            )
        self._texts.append(chosen.text)
        visible = self._texts[: len(self._texts) - self.run.held]
        self._show(self._transcript.accept(chosen.text, visible[-1] if visible else ""))

    def _withdraw(self) -> None:
        """Forget the segments that were held back; the sessions are opened anew when they are needed."""
        del self._texts[self.run.kept :], self._kept[len(self.run.token_ids) :]
        self._show(self._transcript.accept(self.text))
        self.latest = None
        self._close_sessions()

    def trace(self, model: str, reward: str, guarantee: Guarantee, reason: StopReason | None) -> Trace:
        """The decisions so far.

        Args:
            model: name of the language model.
            reward: name of the reward model.
            guarantee: how exactly the language model continues.
            reason: why the answer ended, or None.
        """
        return Trace(
            run_id=self.run_id,
            model=model,
            reward=reward,
            config=self.config,
            sampling=self.sampling,
            base_rewards=self.run.base_rewards,
            segments=self.run.segments,
            stop_reason=reason,
            keyed=self._keyed,
            guarantee=guarantee,
        )

    def finish(self, trace: Trace, reason: StopReason) -> None:
        """Show what was held back, then the refusal text if it is one, and end with a result."""
        self._show(self._transcript.flush(_incomplete(reason)))
        text = self._transcript.text
        if reason is StopReason.REFUSED:
            log.warning("run %s: refused after %d tokens", self.run_id, len(self.run.token_ids))
            refusal = ("\n\n" if text else "") + self.config.refusal_text
            self._emit(Piece(refusal))
            text += refusal
        self._settle()
        self._end(Finished(self._result(text, trace, reason)))

    def fail(self, error: Exception) -> None:
        """End with an error."""
        self._settle()
        self._end(Failed(error))

    def _result(self, text: str, trace: Trace, reason: StopReason) -> GuardedResult:
        calls = self._transcript.calls
        return GuardedResult(
            text=text,
            reasoning=self._transcript.reasoning,
            tool_calls=tuple(call for call in calls if isinstance(call, ToolCall)),
            invalid_tool_calls=tuple(call for call in calls if isinstance(call, InvalidToolCall)),
            token_ids=list(self._kept),
            stop_reason=reason,
            usage=self.costs.usage,
            trace=trace,
        )

    def _show(self, shown: Sequence[Shown]) -> None:
        for event in shown:
            self._emit(event)

    def _end(self, event: Finished | Failed) -> None:
        self.ended = True
        self._emit(event)

    def _settle(self) -> None:
        self.costs.answer_ended(len(self._kept))
        self._close_sessions()
        self.costs.sessions_closed(self.sessions.forward_passes)

    def _close_sessions(self) -> None:
        for error in self.sessions.close():
            # A session that cannot be freed must not keep the answer from the caller.
            log.error("run %s: a session could not be closed: %s", self.run_id, kind_and_places(error))


def _incomplete(reason: StopReason) -> str | None:
    """Why an open tool call is not to be made, if the answer ended before its end."""
    if reason in (StopReason.EOS, StopReason.STOP):
        return None
    return f"the answer ended first ({reason})"
