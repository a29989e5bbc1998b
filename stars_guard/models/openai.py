"""A language model behind an inference server: vLLM, SGLang, llama.cpp, or another that speaks like OpenAI's.

The engine loop of a guarded answer is a call for each round: what was accepted goes out as token ids, and
several candidates for the next segment come back. The engine's prefix cache makes that cheap; a rejected
candidate leaves nothing to undo.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from stars_guard.config import SamplingParams
from stars_guard.dialects import Dialect
from stars_guard.errors import ConfigurationError, GenerationError, MissingExtraError, PromptError
from stars_guard.http_access import HttpAccess
from stars_guard.models.base import Order, Proposal, Session
from stars_guard.models.local_tokenizer import LocalTokenizer, PromptFormat
from stars_guard.models.openai_ids import ByTokenIds
from stars_guard.models.openai_session import EngineSession, engine_session
from stars_guard.models.server_profiles import ServerProfile, server_profile
from stars_guard.types import Candidate, Guarantee, Prompt

if TYPE_CHECKING:
    from stars_guard.models.openai_http import EngineConnection

ENGINE_ACCESS = HttpAccess(timeout=120.0, max_parallel=64)
"""How engines are reached unless something else is said."""


class OpenAICompatibleModel:
    """A language model on a server.

    Nothing is sent until an answer is asked for. Safe to use from many threads at once, each for its own
    request. Close it after use, or use it in a ``with`` statement.

    Args:
        url: root of the server, such as ``http://localhost:8000``, with or without ``/v1``.
        engine: what serves there: a name in :data:`stars_guard.models.server_profiles.SERVERS`, or a profile.
        model: name of the model there; None leaves it to the server.
        tokenizer: of that very model: loaded by transformers, or its folder or hub id.
        name: for traces; by default that of the model.
        prompt_format: as for :class:`stars_guard.models.transformers.TransformersModel`.
        template_arguments: passed to the chat template.
        dialect: how the model marks reasoning and tool calls; by default what its template says.
        cache_salt: keeps this guard's part of the engine's prefix cache from others who can measure times.
        context_window: most tokens of prompt and answer together; longer prompts are refused at once.
        http: time limits, retries and key; ``max_parallel`` is also how many candidates the engine draws at
            once before it is taken to be busy.

    Raises:
        ConfigurationError: something does not fit.
    """

    def __init__(
        self,
        url: str,
        engine: str | ServerProfile,
        *,
        model: str | None = None,
        tokenizer: Any = None,
        name: str | None = None,
        prompt_format: PromptFormat = "auto",
        template_arguments: Mapping[str, Any] | None = None,
        dialect: Dialect | None = None,
        cache_salt: str | None = None,
        context_window: int | None = None,
        http: HttpAccess | None = None,
    ) -> None:
        self.profile = server_profile(engine) if isinstance(engine, str) else engine
        self._access = http or ENGINE_ACCESS
        self._connection = _connection(url, self._access)
        self.name = name or model or f"{self.profile.name} at {self._connection.shown}"
        options = {
            "prompt_format": prompt_format,
            "template_arguments": template_arguments,
            "dialect": dialect,
        }
        self._way = self._by_ids(tokenizer, options)
        self._shared = {**({"model": model} if model else {}), **self._salted(cache_salt)}
        self._context_window = context_window
        self._lock = threading.Lock()
        self._in_flight = 0

    def _by_ids(self, tokenizer: Any, options: Mapping[str, Any]) -> ByTokenIds:
        if self.profile.ids is None or tokenizer is None:
            raise ConfigurationError(f"{self.profile.name} needs a tokenizer: its folder or hub id")
        load = LocalTokenizer.load if isinstance(tokenizer, str) else LocalTokenizer
        return ByTokenIds(self.profile, self.profile.ids, load(tokenizer, self.name, **options))

    def _salted(self, salt: str | None) -> dict[str, str]:
        if salt is None:
            return {}
        if self.profile.salt is None:
            raise ConfigurationError(f"{self.profile.name} has no cache_salt; leave it out")
        return {self.profile.salt: salt}

    @property
    def guarantee(self) -> Guarantee:
        """How exactly this model goes on from what was accepted."""
        return self._way.guarantee

    @property
    def has_room(self) -> bool:
        """Whether fewer candidates are being drawn than ``max_parallel``."""
        return self._in_flight < self._access.max_parallel

    def start(self, prompt: Prompt, sampling: SamplingParams) -> EngineSession:
        """Bring the prompt into the form in which it is sent. The engine reads it with the first candidates.

        Raises:
            PromptError: the prompt cannot be served.
        """
        session = self._way.start(prompt, sampling)
        if self._context_window and session.prompt_tokens + sampling.max_tokens > self._context_window:
            raise PromptError(
                f"{session.prompt_tokens} prompt tokens plus max_tokens={sampling.max_tokens} exceed the "
                f"{self._context_window} positions of {self.name}; shorten the prompt or lower max_tokens"
            )
        return session

    def ahead(self, session: Session, candidate: Candidate) -> EngineSession:
        """A session with the candidate accepted; costs no call."""
        return engine_session(session).branch(candidate)

    def propose(self, orders: Sequence[Order]) -> list[Proposal]:
        """Draw for each order: one call, or one for each candidate where the engine's profile says so.

        Raises:
            GenerationError: the engine failed, or did not answer what it was asked.
        """
        return [self._proposal(order, engine_session(order.session)) for order in orders]

    def close(self) -> None:
        """Abandon what is being drawn and close the connections."""
        self._connection.close()

    def __enter__(self) -> OpenAICompatibleModel:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _proposal(self, order: Order, session: EngineSession) -> Proposal:
        if order.cut.needs_entropy:
            raise ConfigurationError("segments cut by entropy need a local model; use another segmenter")
        calls = self._way.bodies(order, session, self._sampling(order, session))
        with self._counted(order.candidates, session):
            bodies = [{**self._shared, **body} for _, body in calls]
            answers = self._connection.post_all(self._way.path, bodies, order.alive)
        if answers is None:
            return Proposal((), tokens=0)
        drawn = [
            one
            for (count, _), answer in zip(calls, answers, strict=True)
            for one in self._read(order, session, answer, count)
        ]
        return Proposal(tuple(candidate for candidate, _ in drawn), sum(tokens for _, tokens in drawn))

    def _read(
        self, order: Order, session: EngineSession, answer: Any, count: int
    ) -> list[tuple[Candidate, int]]:
        try:
            return self._way.candidates(order, session, answer, count)
        except GenerationError as error:
            raise self._connection.error(self._way.path, str(error)) from None

    def _sampling(self, order: Order, session: EngineSession) -> dict[str, Any]:
        params = session.sampling
        if order.temperature is not None:
            params = params.changed(temperature=order.temperature)
        fields = self.profile.sampling.items()
        return {**self.profile.sampling_extra, **{field: getattr(params, one) for one, field in fields}}

    @contextmanager
    def _counted(self, candidates: int, session: EngineSession) -> Iterator[None]:
        with self._lock:
            self._in_flight += candidates
            session.calls.candidates += candidates
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= candidates


def _connection(url: str, access: HttpAccess) -> EngineConnection:
    try:
        from stars_guard.models.openai_http import EngineConnection
    except ImportError as error:
        raise MissingExtraError("httpx", "remote") from error
    return EngineConnection(url, access)
