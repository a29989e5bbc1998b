"""The server that is attacked, in a process of its own.

    python -m benchmarks.hostile_server PORT engine|in-process|embedded

``engine`` draws as an inference server does, each request in its own time; ``in-process`` draws for all
requests in one call, as a model in this process does; ``embedded`` is the embedded model and reward.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Sequence
from copy import copy

from stars_guard import Constant, FixedLength, GuardConfig, Hard, SamplingParams, StarsGuardedLLM
from stars_guard.algorithm.candidates import Fixed
from stars_guard.models.base import Order, Proposal, Session
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.server.app import create_app
from stars_guard.server.config import Limits, ServerConfig
from stars_guard.server.entry.keys import ApiKey, hash_key
from stars_guard.server.process import bound, serve
from stars_guard.server.telemetry.observers import ObservabilitySettings
from stars_guard.server.telemetry.trace_store import Traces
from stars_guard.testing import FakeSession, fake_session
from stars_guard.types import Candidate, Finish, Reward

STEP = 0.02
"""Seconds of a decoding step: 50 tokens a second for each stream."""
PREFILL = 20_000
"""Words of a prompt that are read in a second."""
PIECE = 256
"""Words of a prompt that a model in this process reads before others are served."""
SCORING = 0.002
"""Seconds of a call of the reward."""
HANG = "HANG"
"""A prompt with this word is never answered."""
SEGMENT_TOKENS = 16
KEYS = ("honest", "hostile")
"""API keys; their names are the same."""


class PacedModel:
    """Draws at a known speed, until the answer is as long as it may be."""

    name = "paced"

    def start(self, prompt: Prompt, sampling: SamplingParams) -> FakeSession:
        """Open a session, once the prompt is read."""
        session = FakeSession(prompt, sampling)
        time.sleep(session.prompt_tokens / PREFILL)
        return session

    def propose(self, orders: Sequence[Order]) -> list[Proposal]:
        """Draw for all at the same time, step by step, as long as somebody wants it."""
        sessions = [fake_session(order.session) for order in orders]
        hangs = any(HANG in session.prompt.as_text()[:100] for session in sessions)
        steps = 10**9 if hangs else max(order.cut.max_tokens for order in orders)
        for _ in range(steps):
            # A call that hangs does not ask whether it is still wanted.
            if not hangs and not any(order.alive() for order in orders):
                break
            time.sleep(STEP)
        return [self._proposal(order) for order in orders]

    def _proposal(self, order: Order) -> Proposal:
        tokens = order.cut.max_tokens
        text = fake_session(order.session).text + "word " * tokens
        finish = Finish.LENGTH if order.ends_answer else None
        drawn = (Candidate((0,) * tokens, text, finish),) * order.candidates
        return Proposal(drawn, tokens * order.candidates)


class PromptInPieces(FakeSession):
    """A session whose prompt is read a piece at a time."""

    words_read = 0


class InProcessModel(PacedModel):
    """The same in this process, which reads long prompts in pieces so that others are served in between."""

    def begin(self, prompt: Prompt, sampling: SamplingParams, layers: tuple[int, ...] = ()) -> PromptInPieces:
        """Open a session, whose prompt has yet to be read."""
        return PromptInPieces(prompt, sampling)

    def read_on(self, session: Session) -> bool:
        """Read the next piece; True once the prompt was read to its end."""
        if not isinstance(session, PromptInPieces):
            raise TypeError("a session of another model")
        words = min(PIECE, session.prompt_tokens - session.words_read)
        time.sleep(words / PREFILL)
        session.words_read += words
        return session.words_read >= session.prompt_tokens


class EngineModel(PacedModel):
    """The same behind an engine that batches on its own."""

    has_room = True

    def ahead(self, session: Session, candidate: Candidate) -> FakeSession:
        """A copy that has accepted the candidate."""
        branch = copy(fake_session(session))
        branch.accept(candidate)
        return branch


class PacedReward:
    """Accepts everything, after a while."""

    name = "paced"

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """One good reward for each."""
        time.sleep(SCORING)
        return [Reward(1.0)] * len(requests)

    def release(self, run_id: str) -> None:
        """Nothing is kept."""


def paced(model: PacedModel) -> StarsGuardedLLM:
    """A guard of parts with known speed.

    Args:
        model: draws.
    """
    config = GuardConfig(
        threshold=Constant(target=1.0),
        acceptance=Hard(),
        segments=FixedLength(max_tokens=SEGMENT_TOKENS),
        drawing=Fixed(candidates=1),
    )
    return StarsGuardedLLM(model, PacedReward(), config, max_rows=128)


SERVERS: dict[str, Callable[[], StarsGuardedLLM]] = {
    "engine": lambda: paced(EngineModel()),
    "in-process": lambda: paced(InProcessModel()),
    "embedded": StarsGuardedLLM.load,
}


def main(port: str, kind: str) -> None:
    """Serve until the process is ended.

    Args:
        port: of this machine.
        kind: which of ``SERVERS``.
    """
    logging.getLogger("stars_guard").setLevel(logging.CRITICAL)  # of hung calls there would be many lines
    config = ServerConfig(
        keys=tuple(ApiKey(name=key, sha256=hash_key(key)) for key in KEYS),
        limits=Limits(running=128, queued=256, max_seconds=20),
        traces=Traces(enabled=True),
        observability=ObservabilitySettings(logs="off"),
    )
    app = create_app(SERVERS[kind](), config)
    with bound("127.0.0.1", int(port)) as listener:
        serve(app, listener)


if __name__ == "__main__":
    main(*sys.argv[1:])
