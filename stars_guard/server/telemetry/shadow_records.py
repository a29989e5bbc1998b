"""Shadow mode in the server: what the guard would have rejected is counted and written down.

:mod:`stars_guard.shadow` says what shadow mode is. Where the operator wants to know exactly what a guarded
answer would have been and cost, some of the answers with a rejection are written again by the guard, with the
same seed, after they are over: nobody waits for that, and nobody sees it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry
from pydantic import BaseModel, Field

from stars_guard.algorithm.trace import Attempt, Trace
from stars_guard.errors import ConfigurationError, NoAcceptableSegment, StarsGuardError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loop.events import Judged, Request
from stars_guard.result import GuardedResult
from stars_guard.server.telemetry.exchange import Exchange
from stars_guard.server.telemetry.instruments import ShadowInstruments, position
from stars_guard.settings import Settings
from stars_guard.shadow import Rejection, expected_extra_tokens, judged, rejections, unjudged

log = logging.getLogger("stars_guard.server")

_FEW = 100
"""Segments of an answer that takes no time to examine."""


class ShadowSettings(Settings):
    """Whether the guard only watches, and where it writes what it saw."""

    enabled: bool = False
    """Whether answers pass unchanged, with nothing enforced."""
    keep: int = Field(default=1000, ge=1)
    """Records kept in memory."""
    file: Path | None = None
    """JSON Lines: one object for each answer with a segment that would have been rejected."""
    keep_text: bool = False
    """Whether records also hold the text of answers."""
    compared: float = Field(default=0.0, ge=0, le=1)
    """Share of these answers that the guard writes again, to know what it would have said, at what cost."""
    comparing: int = Field(default=1, ge=1)
    """Most answers that are written again at the same time; those beyond it are not."""


class Counterfactual(BaseModel):
    """The answer that the guard gives with the same seed, the same up to the first rejection."""

    outcome: Literal["replaced", "refused", "exhausted", "unjudged", "failed"]
    """What became of it. ``replaced``: it goes on otherwise; ``unjudged``: the reward model had an outage, so
    nothing is known; ``failed``: the language model had one."""
    proposed_tokens: int = 0
    """Tokens drawn for this answer."""
    kept_tokens: int = 0
    """Tokens of this answer."""
    extra_tokens: int = 0
    """Tokens drawn beyond those for the answer that was given; under 0 if this one is shorter."""
    text: str | None = None
    """Text of the answer, only if the operator keeps text."""


class ShadowRecord(BaseModel):
    """An answer of which the guard would have rejected something."""

    id: str
    """Id of the request."""
    choice: int
    """Which of its answers, from 0."""
    run_id: str
    time: datetime
    seed: int
    """Seed that repeats the answer."""
    segments: int
    """Segments of the answer."""
    unjudged: int
    """Segments that could not be judged."""
    proposed_tokens: int
    rejections: list[Rejection]
    """Rejections in order; only the first is certain to be what a guard meets."""
    expected_extra_tokens: float
    """See :func:`stars_guard.shadow.expected_extra_tokens`."""
    counterfactual: Counterfactual | None = None
    text: str | None = None
    """Text of the answer, only if the operator keeps text."""


class ShadowRecorder:
    """An observer of requests whose guard only watches.

    Args:
        settings: what is kept, and where.
        llm: the guard as it serves these requests, so with a :class:`stars_guard.shadow.ShadowReward`.
        registry: where its metrics go.
        chance: uniform in [0, 1); decides which answers are written again.

    Attributes:
        records: the latest, oldest first.

    Raises:
        ConfigurationError: the file cannot be written.
    """

    def __init__(
        self,
        settings: ShadowSettings,
        llm: StarsGuardedLLM,
        registry: CollectorRegistry | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.records: deque[ShadowRecord] = deque(maxlen=settings.keep)
        self._settings, self._llm, self._chance = settings, llm, chance
        self._instruments = ShadowInstruments(registry or CollectorRegistry())
        self._examining: set[asyncio.Task[None]] = set()
        self._comparing: set[asyncio.Task[None]] = set()
        # One thread, so that lines come in order; and the event loop never waits for a disk.
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="stars-guard-shadow")
        if settings.file is not None:
            try:
                settings.file.open("a", encoding="utf-8").close()
            except OSError as error:
                raise ConfigurationError(
                    f"shadow.file {settings.file} cannot be written: {error.strerror}"
                ) from error

    def began(self, exchange: Exchange) -> None:
        """Do nothing: answers are recorded at their end."""

    def admitted(self, exchange: Exchange) -> None:
        """Do nothing: answers are recorded at their end."""

    def decided(self, exchange: Exchange, choice: int, judged: Judged) -> None:
        """Count the decision ``judged`` about ``choice``, if ``exchange`` was only watched."""
        if exchange.shadow:
            self._instruments.segments.labels(position(judged.segment), _judgement(judged.attempt)).inc()

    def ended(self, exchange: Exchange) -> None:
        """Record the answers of a request; some are then written again."""
        if not exchange.shadow:
            return
        for choice, request, result in _pairs(exchange):
            examined = partial(self._examined, exchange.id, choice, request, result)
            if len(result.trace.segments) <= _FEW:
                self._keep(examined(), request)
            else:
                examining = asyncio.get_running_loop().create_task(self._examine(examined, request))
                self._examining.add(examining)
                examining.add_done_callback(self._examining.discard)

    async def settled(self) -> None:
        """Wait until every answer that is being written again is."""
        while self._examining or self._comparing:
            await asyncio.wait(self._examining | self._comparing)

    async def aclose(self) -> None:
        """End the writing again; what was recorded is in the file when this returns."""
        while self._examining:
            await asyncio.wait(set(self._examining))
        for task in self._comparing:
            task.cancel()
        await self.settled()
        await asyncio.get_running_loop().run_in_executor(None, self._writer.shutdown)

    async def _examine(self, examined: Callable[[], ShadowRecord | None], request: Request) -> None:
        # The event loop is not held up by a long answer.
        record = await asyncio.get_running_loop().run_in_executor(self._writer, examined)
        self._keep(record, request)

    def _examined(
        self, request_id: str, choice: int, request: Request, result: GuardedResult
    ) -> ShadowRecord | None:
        """Count an answer; the record of it, if anything would have been rejected."""
        rejected = rejections(result.trace)
        expected = expected_extra_tokens(result.trace, request.config.max_attempts)
        missed = sum(unjudged(attempt) for _, attempt in judged(result.trace))
        self._instruments.answers.labels("flagged" if rejected else "unjudged" if missed else "passed").inc()
        self._instruments.expected_extra_tokens.inc(expected)
        if not rejected:
            return None
        return ShadowRecord(
            id=request_id,
            choice=choice,
            run_id=result.trace.run_id,
            time=datetime.now(UTC),
            seed=result.trace.sampling.seed or 0,
            segments=len(list(judged(result.trace))),
            unjudged=missed,
            proposed_tokens=result.usage.proposed_tokens,
            rejections=rejected,
            expected_extra_tokens=expected,
            text=result.text if self._settings.keep_text else None,
        )

    def _keep(self, record: ShadowRecord | None, request: Request) -> None:
        """Write a record down, if there is one, maybe after the answer was written again."""
        if record is None:
            return
        self.records.append(record)
        if self._chance() >= self._settings.compared:
            self._write(record)
        elif len(self._comparing) >= self._settings.comparing:
            self._instruments.counterfactuals.labels("skipped").inc()
            self._write(record)
        else:
            task = asyncio.get_running_loop().create_task(self._compare(record, request))
            self._comparing.add(task)
            task.add_done_callback(self._comparing.discard)
            # Not by the task itself, which may be cancelled before it begins.
            task.add_done_callback(lambda _: self._write(record))

    async def _compare(self, record: ShadowRecord, request: Request) -> None:
        """Write the answer again, this time guarded, and complete the record."""
        record.counterfactual = counterfactual = await self._guarded(record, request)
        self._instruments.counterfactuals.labels(counterfactual.outcome).inc()
        if counterfactual.proposed_tokens:
            self._instruments.compared_tokens.labels("watched").inc(record.proposed_tokens)
            self._instruments.compared_tokens.labels("guarded").inc(counterfactual.proposed_tokens)

    async def _guarded(self, record: ShadowRecord, request: Request) -> Counterfactual:
        try:
            async with self._llm.astream_request(request) as stream:
                result = await stream.read()
        except NoAcceptableSegment as error:
            return _exhausted(error.trace, record)
        except StarsGuardError as error:
            log.warning("shadow: %s: no comparison: %s", record.id, type(error).__name__)
            return Counterfactual(outcome="failed")
        if _has_outage(result.trace):
            return Counterfactual(outcome="unjudged")
        return Counterfactual(
            outcome="refused" if result.refused else "replaced",
            proposed_tokens=result.usage.proposed_tokens,
            kept_tokens=result.usage.kept_tokens,
            extra_tokens=result.usage.proposed_tokens - record.proposed_tokens,
            text=result.text if self._settings.keep_text else None,
        )

    def _write(self, record: ShadowRecord) -> None:
        if self._settings.file is not None:
            self._writer.submit(_append, self._settings.file, record)


def _append(path: Path, record: ShadowRecord) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(record.model_dump_json() + "\n")
    except OSError as error:
        log.error("shadow.file %s cannot be written: %s", path, error.strerror)


def _pairs(exchange: Exchange) -> Iterator[tuple[int, Request, GuardedResult]]:
    """Each result with its choice and its request: results come as they end, and seeds tell them apart."""
    choices = {request.sampling.seed: (choice, request) for choice, request in enumerate(exchange.requests)}
    for result in exchange.results:
        yield *choices[result.trace.sampling.seed], result


def _judgement(attempt: Attempt) -> str:
    if unjudged(attempt):
        return "unjudged"
    return "accepted" if attempt.accepted else "rejected"


def _has_outage(trace: Trace) -> bool:
    return any(unjudged(attempt) for segment in trace.segments for attempt in segment.attempts)


def _exhausted(trace: Trace | None, record: ShadowRecord) -> Counterfactual:
    """Counterfactual of a run that ended without an answer: by the rule, or for lack of a judgement."""
    if trace is None or _has_outage(trace):
        return Counterfactual(outcome="unjudged")
    proposed = sum(attempt.tokens for segment in trace.segments for attempt in segment.attempts)
    return Counterfactual(
        outcome="exhausted", proposed_tokens=proposed, extra_tokens=proposed - record.proposed_tokens
    )
