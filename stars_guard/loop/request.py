"""One guarded request in flight: its run, its sessions, its costs, and where its events go."""

from __future__ import annotations

import copy
import logging
import threading
import uuid
from collections.abc import Callable, Sequence

from stars_guard.algorithm.random_numbers import fresh_seed
from stars_guard.algorithm.rules import Best
from stars_guard.algorithm.run import Decision, Run
from stars_guard.algorithm.trace import Trace, Verdict
from stars_guard.errors import StarsGuardError, kind_and_places
from stars_guard.loop.events import Event, Failed, Finished, Judged, Request
from stars_guard.loop.lifetime import Lifetime
from stars_guard.loop.openings import is_open_answer, meets_stop
from stars_guard.loop.sources import Sessions, Source
from stars_guard.loop.usage import UsageRecorder
from stars_guard.models.base import Session
from stars_guard.result import ForcedText, GuardedResult
from stars_guard.rewards.asking import askers
from stars_guard.rewards.base import ScoreRequest
from stars_guard.text.dialects import PLAIN, Dialect
from stars_guard.text.forced import forced_spans
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


class RequestInFlight(Lifetime):
    """One request from submission to its end. One thread at a time works on it; any thread may cancel it.

    Args:
        request: a missing seed is drawn here.
        emit: takes each event, in order; the last is ``Finished`` or ``Failed``.

    Attributes:
        run: the algorithm's state of this answer.
        sessions: where its candidates are drawn from.
        costs: what it has cost so far.
        askers: calls that wait for this answer, where a model or reward asked for it.
        lock: held by whoever changes what the answer is, and never while a model or reward is asked.
        awaits: what is asked for it now, for log lines.
        started: whether the prompt was read.
        ended: whether the last event was emitted.
        settled: whether what it kept was freed.
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
        super().__init__(self.costs.submitted, self.budget.max_seconds)
        self.askers = askers()
        self.lock = threading.RLock()
        self.awaits = "its turn"
        self.started = False
        self._takes_openings = False
        self.ended = False
        self.settled = False
        self.latest: Candidate | None = None
        self._emit = emit
        self._kept: list[int] = []
        self._texts: list[str] = []
        self._ends: list[int] = []
        self._forced: list[bool] = []
        self._write_in(PLAIN)

    def begin(self, session: Session, *, takes_openings: bool) -> None:
        """Begin the answer: the prompt was read.

        Args:
            session: with the prompt.
            takes_openings: whether its model can be made to go on with a text.
        """
        self.started = True
        self._takes_openings = takes_openings
        self.costs.prompt_measured(session.prompt_tokens)
        if session.dialect is not PLAIN:
            self._write_in(session.dialect)
        self._look_for_openings()

    def _write_in(self, dialect: Dialect) -> None:
        tools, self._dialect = self.prompt.tools, dialect
        self._channels = dialect.channels(tools=tools is not None)
        is_json = self.sampling.response_schema is not None
        self._transcript = Transcript(dialect, tools, self.sampling.stop, self.run_id[:7], is_json=is_json)

    def _look_for_openings(self) -> None:
        """Tell the run where none of the openings that its policies have would fit."""
        openings, sampling = self.config.openings, self.sampling
        if openings and not (
            self._takes_openings
            and sampling.response_schema is None
            and is_open_answer(self.text, self._dialect, self.prompt.tools)
            and not meets_stop(self.text, openings, sampling.stop)
        ):
            self.run.close_to_openings()

    @property
    def text(self) -> str:
        """The whole answer so far, what is held back included."""
        return self._texts[-1] if self._texts else ""

    def can_pay(self, texts: int) -> bool:
        """Whether the budget has room for so many more texts to be scored."""
        most = self.budget.max_reward_calls
        return most is None or self.costs.usage.reward_calls + texts <= most

    def bare_texts(self, hidden: HiddenStates | None = None) -> list[ScoreRequest]:
        """The bare prompt to be scored, in each channel whose schedule starts there."""
        needed = [channel for channel in self._channels if self.run.needs_base_reward(channel)]
        bare = Candidate((), "", hidden=hidden)
        return [self._to_score(View(channel, "", finished=False), bare) for channel in needed]

    def texts(self, candidates: Sequence[Candidate]) -> list[list[ScoreRequest]]:
        """What to score of each candidate; fewer candidates than given where the budget ends."""
        texts: list[list[ScoreRequest]] = []
        count = 0
        for candidate in candidates:
            views = self._transcript.views(candidate)
            count += len(views)
            if not self.can_pay(count):
                break
            texts.append([self._to_score(view, candidate) for view in views])
        return texts

    def _to_score(self, view: View, candidate: Candidate) -> ScoreRequest:
        return ScoreRequest(
            prompt=self.prompt,
            response=view.text,
            finished=view.finished,
            run_id=self.run_id,
            deadline=self.deadline,
            channel=view.channel,
            hidden=candidate.hidden,
            token_ids=(*self.run.token_ids, *candidate.token_ids),
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
                self._next_segment(decision.verdict)
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
        self._ends.append(len(chosen.text))
        self._forced.append(decision.verdict is Verdict.FORCED)
        spans = forced_spans(self._ends, self._forced)
        until = self._texts[settled] if (settled := len(self._texts) - self.run.held - 1) >= 0 else ""
        self._show(self._transcript.accept(chosen.text, until, spans, ended=chosen.finish is not None))
        # Texts that nothing can go back to are let go: each holds the whole answer up to its segment.
        if settled > 0:
            self._texts[settled - 1] = ""

    def _withdraw(self) -> None:
        """Forget the segments that were held back; the sessions are opened anew when they are needed."""
        for by_segment in (self._texts, self._ends, self._forced):
            del by_segment[self.run.kept :]
        del self._kept[len(self.run.token_ids) :]
        self._show(self._transcript.accept(self.text, forced=forced_spans(self._ends, self._forced)))
        self.latest = None
        self.close_sessions()

    def _next_segment(self, verdict: Verdict) -> None:
        """Look at the place of the segment that begins now; ``verdict`` is that of the one before it."""
        if verdict is Verdict.DECLINED:
            log.warning("run %s: a refusal is written after %d tokens", self.run_id, len(self.run.token_ids))
            self._transcript.refuses_from_here()
        elif self.run.stop_reason is None:
            self._look_for_openings()

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
        self._show(self._transcript.flush(self._incomplete(reason)))
        text, refusal_from = self._transcript.text, self._transcript.refusal_from
        if reason is not StopReason.REFUSED:
            refusal_from = None
        elif self.run.segment.verdict is Verdict.REFUSED:
            log.warning("run %s: refused after %d tokens", self.run_id, len(self.run.token_ids))
            refusal = ("\n\n" if text else "") + self.config.refusal_text
            refusal_from = len(text) if refusal_from is None else refusal_from
            self._emit(Piece(refusal, refusal=True))
            text += refusal
        self._end(Finished(self._result(text, refusal_from, trace, reason)))

    def fail(self, error: Exception) -> None:
        """End with an error."""
        self._end(Failed(error))

    def leave_to_parent(self) -> None:
        """End with an error in a process that was forked while its parent was at work on this answer."""
        self.lock = threading.RLock()
        self.settled = True
        error = "this answer is being written in the process that this one was forked from; ask anew here"
        self.fail(StarsGuardError(error))

    def _incomplete(self, reason: StopReason) -> str | None:
        """Why an open tool call is not to be made, if the answer ended before its end."""
        written = reason is StopReason.REFUSED and self.latest is not None and self.latest.finished
        ended = written or reason in (StopReason.EOS, StopReason.STOP)
        return None if ended else f"the answer ended first ({reason})"

    def _result(self, text: str, refusal_from: int | None, trace: Trace, reason: StopReason) -> GuardedResult:
        calls = self._transcript.calls
        return GuardedResult(
            text=text,
            reasoning=self._transcript.reasoning,
            tool_calls=tuple(call for call in calls if isinstance(call, ToolCall)),
            invalid_tool_calls=tuple(call for call in calls if isinstance(call, InvalidToolCall)),
            forced_text=self._forced_text(),
            token_ids=list(self._kept),
            refusal_from=refusal_from,
            stop_reason=reason,
            usage=copy.deepcopy(self.costs.usage),  # a call that is held up may come back
            trace=trace,
        )

    def _forced_text(self) -> ForcedText:
        forced = self._transcript.forced
        return ForcedText(
            answer=tuple(forced[Channel.ANSWER]),
            reasoning=tuple(forced[Channel.REASONING]),
            calls=tuple(self._transcript.forced_calls),
        )

    def _show(self, shown: Sequence[Shown]) -> None:
        for event in shown:
            self._emit(event)

    def _end(self, event: Finished | Failed) -> None:
        self.ended = True
        self._emit(event)

    def settle_costs(self) -> None:
        """The bill, as far as it is known."""
        self.costs.answer_ended(len(self._kept))
        self.costs.sessions_closed(self.sessions.forward_passes)

    def close_sessions(self) -> None:
        """Free what the models keep for this answer."""
        for error in self.sessions.close():
            # A session that cannot be freed must not keep the answer from the caller.
            log.error("run %s: a session could not be closed: %s", self.run_id, kind_and_places(error))
