"""A language model whose engine batches on its own, and is asked anew for each round."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, Self, TypeAlias

from stars_guard.algorithm.config import SamplingParams
from stars_guard.algorithm.retries import redrawn_at
from stars_guard.algorithm.segments import Segmenter
from stars_guard.errors import ConfigurationError, ContextLengthError, GenerationError, StarsGuardError
from stars_guard.forks import renew_in_children
from stars_guard.models.base import Order, Proposal, Session
from stars_guard.models.engines.by_ids import ByTokenIds
from stars_guard.models.engines.by_text import ByText
from stars_guard.models.engines.profiles import ServerProfile
from stars_guard.models.engines.session import CandidateCount, EngineSession, engine_session
from stars_guard.models.engines.wire import check_sampling, sampling_fields
from stars_guard.prompts import Prompt
from stars_guard.types import Candidate, Guarantee, Named

Way: TypeAlias = ByTokenIds | ByText
"""How a model is asked to go on from what was accepted."""


class EngineClient(Protocol):
    """Where an engine is called. Safe to use from several threads."""

    def post_all(
        self, path: str, bodies: Sequence[dict[str, Any]], alive: Callable[[], bool]
    ) -> list[Any] | None:
        """The answers to calls made at the same time; None once they are not wanted any more.

        Args:
            path: what they ask for.
            bodies: one a call.
            alive: asked every few milliseconds.

        Raises:
            GenerationError: a call failed, by whatever reason; the others are abandoned then.
        """

    def error(self, path: str, what: str) -> StarsGuardError:
        """An error that names the engine."""

    def close(self) -> None:
        """Abandon every call; a call afterwards is an error."""


class EngineModel(Named):
    """What models behind engines have in common, wherever the engine is.

    Safe to use from many threads at once, each for its own request. Close it after use, or use it in a
    ``with`` statement.

    Args:
        client: where the engine is called.
        name: for traces.
        profile: what the engine calls things.
        way: how it is asked to go on.
        shared: fields of every call.
        max_parallel: candidates being drawn from which on the engine is taken to be busy.
        context_window: most tokens of prompt and answer together; longer prompts are refused at once.
    """

    def __init__(
        self,
        client: EngineClient,
        *,
        name: str,
        profile: ServerProfile,
        way: Way,
        shared: Mapping[str, Any],
        max_parallel: int,
        context_window: int | None,
    ) -> None:
        self.name = name
        self.profile = profile
        self._client = client
        self._way = way
        self._shared = dict(shared)
        self._max_parallel = max_parallel
        self.context_window = context_window
        """Most tokens of prompt and answer together; None if that is not known."""
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """No call is being made, in a forked process."""
        self._lock = threading.Lock()
        self._in_flight = 0

    @property
    def guarantee(self) -> Guarantee:
        """How exactly this model goes on from what was accepted."""
        return self._way.guarantee

    @property
    def has_room(self) -> bool:
        """Whether fewer candidates are being drawn than ``max_parallel``."""
        return self._in_flight < self._max_parallel

    def start(self, prompt: Prompt, sampling: SamplingParams) -> EngineSession:
        """Bring the prompt into the form in which it is sent. The engine reads it with the first candidates.

        Raises:
            PromptError: the prompt cannot be served.
        """
        check_sampling(self.profile, sampling)
        session = self._way.start(prompt, sampling)
        if self.context_window and session.prompt_tokens + sampling.max_tokens > self.context_window:
            raise ContextLengthError.of(
                session.prompt_tokens, sampling.max_tokens, self.context_window, self.name
            )
        return session

    def prompt_tokens(self, prompt: Prompt) -> int | None:
        """Length of the prompt, in tokens; None where only the engine knows it.

        Raises:
            PromptError: the prompt cannot be served.
            GenerationError: the engine was asked for it, and failed.
        """
        return self._way.prompt_tokens(prompt)

    def ahead(self, session: Session, candidate: Candidate) -> EngineSession:
        """A session with the candidate accepted; costs no call."""
        return engine_session(session).branch(candidate)

    def opened(self, session: Session, text: str, most: int) -> tuple[Session, Candidate]:
        """A session that goes on with a text, which is sent after what was accepted.

        Args:
            session: of this engine.
            text: what the answer goes on with.
            most: most tokens of it, as far as those can be counted.

        Raises:
            GenerationError: the engine was asked for its tokens, and failed.
        """
        before = engine_session(session)
        opening = self._way.opening(before, text, most)
        branch = before.branch(opening)
        branch.drawn = CandidateCount()
        return branch, opening

    def propose(self, orders: Sequence[Order]) -> list[Proposal]:
        """Draw for each order: one call, or one for each candidate where the engine's profile says so.

        Raises:
            GenerationError: the engine failed, or did not answer what it was asked.
        """
        return [self._proposal(order, engine_session(order.session)) for order in orders]

    def check_segments(self, cut: Segmenter) -> None:
        """An engine does not tell the entropy at each token.

        Raises:
            ConfigurationError: segments are to be cut by it.
        """
        if cut.needs_entropy:
            raise ConfigurationError("segments cut by entropy need a local model; use another segmenter")

    def close(self) -> None:
        """Abandon what is being drawn and let the engine go."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _proposal(self, order: Order, session: EngineSession) -> Proposal:
        self.check_segments(order.cut)
        params = session.sampling
        if order.temperature is not None:
            params = redrawn_at(params, order.temperature)
        calls = self._way.bodies(order, session, sampling_fields(self.profile, params))
        bodies = [{**self._shared, **body} for _, body in calls]
        with self._counted(order.candidates, session):
            answers = self._client.post_all(self._way.path, bodies, order.alive)
        if answers is None:
            return Proposal((), tokens=0)
        drawn = [
            candidate
            for (count, _), answer in zip(calls, answers, strict=True)
            for candidate in self._read(order, session, answer, count)
        ]
        return Proposal(tuple(candidate for candidate, _ in drawn), sum(tokens for _, tokens in drawn))

    def _read(
        self, order: Order, session: EngineSession, answer: Any, count: int
    ) -> list[tuple[Candidate, int]]:
        try:
            return self._way.candidates(order, session, answer, count)
        except GenerationError as error:
            raise self._client.error(self._way.path, str(error)) from None

    @contextmanager
    def _counted(self, candidates: int, session: EngineSession) -> Iterator[None]:
        with self._lock:
            self._in_flight += candidates
            session.drawn.candidates += candidates
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= candidates


def salted(profile: ServerProfile, salt: str | None) -> dict[str, str]:
    """The field that keeps prefix caches apart.

    Raises:
        ConfigurationError: the engine has none, or it is empty.
    """
    if salt is None:
        return {}
    if not salt:
        raise ConfigurationError("cache_salt is empty, which engines refuse; give a text, or leave it out")
    if profile.salt is None:
        raise ConfigurationError(f"{profile.name} keeps no caches apart; leave cache_salt out")
    return {profile.salt: salt}
