"""Whether the server can answer: a tiny request of its own is drawn and scored, again and again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from pydantic import Field

from stars_guard.algorithm.config import Budget, GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Constant, Hard, Refuse
from stars_guard.errors import PromptError, ScoringError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loop.events import Judged, Request
from stars_guard.prompts import Prompt
from stars_guard.result import GuardedResult
from stars_guard.settings import Settings
from stars_guard.shadow import judged, unjudged
from stars_guard.types import StopReason

log = logging.getLogger("stars_guard.server")

NOT_DRAWN = "the language model does not draw"
NOT_SCORED = "the reward model does not score"
_LOWEST = -1e30
"""Under every reward."""


class HealthSettings(Settings):
    """How the server finds out whether it is ready."""

    interval_seconds: float = Field(default=5.0, gt=0)
    """Seconds between two requests of the server's own, of one token each."""
    patience_seconds: float = Field(default=5.0, gt=0)
    """Most seconds that one may take, unless candidates of other requests are judged meanwhile."""
    start_seconds: float = Field(default=120.0, gt=0)
    """Most seconds that one may take until one was answered, where that is longer; not ready meanwhile."""


def _anything_goes(config: GuardConfig) -> GuardConfig:
    """Settings by which any reward is accepted, and an outage is an error."""
    return GuardConfig(
        threshold=Constant(target=_LOWEST),
        acceptance=Hard(),
        segments=config.segments,
        max_attempts=1,
        exhaustion=Refuse(),
    )


class Readiness:
    """Has one token drawn and scored, and says what failed. A request that hangs is not followed by another.

    Args:
        llm: the guard that is served.
        sampling: how it draws.
        settings: how often, and for how long.
        scoring: how many calls of the reward model have not come back.
    """

    def __init__(
        self,
        llm: StarsGuardedLLM,
        sampling: SamplingParams,
        settings: HealthSettings,
        scoring: Callable[[], int],
    ) -> None:
        self._llm = llm
        self._settings = settings
        self._scoring = scoring
        self._request = Request(
            Prompt.of("Hello"),
            sampling.changed(max_tokens=1, seed=0),
            _anything_goes(llm.config),
            Budget(),
        )
        self._answers = False
        self._asking: asyncio.Task[str | None] | None = None
        self._turn = asyncio.Lock()
        self._asked = self._judged = float("-inf")
        self._problem: str | None = None

    def noted(self, event: Judged) -> None:
        """Another request's candidate was drawn, and judged unless there was an outage."""
        if not unjudged(event.attempt):
            self._judged = time.monotonic()

    async def problem(self) -> str | None:
        """Why requests cannot be answered; None if they can. Found out anew where that is too long ago."""
        async with self._turn:
            if time.monotonic() - self._asked > self._settings.interval_seconds:
                self._conclude(await self._found())
                self._asked = time.monotonic()
        return self._problem

    async def aclose(self) -> None:
        """Give up a request that is under way."""
        if self._asking is not None:
            self._asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._asking

    async def _found(self) -> str | None:
        if self._asking is not None and not self._asking.done():
            return self._late()  # and no other is sent after it, which would hang as well
        self._asking = asyncio.create_task(self._ask())
        await asyncio.wait({self._asking}, timeout=self._settings.patience_seconds)
        return self._asking.result() if self._asking.done() else self._late()

    async def _ask(self) -> str | None:
        try:
            return self._verdict(await self._answer())
        except ScoringError:
            return NOT_SCORED
        except Exception:  # noqa: BLE001 - whatever it was, nothing was drawn
            return NOT_DRAWN

    async def _answer(self) -> GuardedResult:
        request = replace(self._request, budget=self._budget())
        try:
            async with self._llm.astream_request(request) as stream:
                return await stream.read()
        except PromptError:
            # A model without a chat template goes on with texts.
            raw = replace(request, prompt=Prompt.raw("Hello"))
            async with self._llm.astream_request(raw) as stream:
                return await stream.read()

    def _budget(self) -> Budget:
        """How long a request goes on, whether or not anybody still waits for it."""
        # An engine that loads its weights at the first request gives up when the client leaves, so that one
        # which is cut off again and again never answers; a cold model on a slow machine likewise.
        most = self._settings.patience_seconds
        return Budget(max_seconds=most if self._answers else max(most, self._settings.start_seconds))

    def _verdict(self, result: GuardedResult) -> str | None:
        if result.stop_reason is StopReason.DEADLINE:
            return self._late()
        return NOT_SCORED if any(unjudged(attempt) for _, attempt in judged(result.trace)) else None

    def _late(self) -> str | None:
        """What hangs; None where the request only waits for its turn among others."""
        if time.monotonic() - self._judged <= self._settings.patience_seconds:
            return None
        return NOT_SCORED if self._scoring() else NOT_DRAWN

    def _conclude(self, problem: str | None) -> None:
        if problem is not None and problem != self._problem:
            log.error("not ready: %s", problem)
        elif problem is None and self._problem is not None:
            log.warning("ready again")
        self._answers = self._answers or problem is None
        self._problem = problem
