"""A language model behind an inference server: vLLM, SGLang, llama.cpp, or another that speaks like OpenAI's.

The engine loop of a guarded answer is a call for each round: what was accepted goes out as token ids, and
several candidates for the next segment come back. The engine's prefix cache makes that cheap; a rejected
candidate leaves nothing to undo.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from stars_guard.config import SamplingParams
from stars_guard.dialects import PLAIN, Dialect
from stars_guard.errors import ConfigurationError, GenerationError, MissingExtraError, PromptError
from stars_guard.http_access import HttpAccess
from stars_guard.models.base import Order, Proposal, Session
from stars_guard.models.engine_tokenizer import EngineTokenizer
from stars_guard.models.local_tokenizer import LocalTokenizer, PromptFormat
from stars_guard.models.openai_ids import ByTokenIds
from stars_guard.models.openai_session import EngineSession, engine_session
from stars_guard.models.openai_text import ByPrefill, ByText, Whole
from stars_guard.models.openai_wire import check_sampling, sampling_fields
from stars_guard.models.server_profiles import IdsRoute, ServerProfile, TokenizingRoute, server_profile
from stars_guard.types import Candidate, Guarantee, Prompt

if TYPE_CHECKING:
    from stars_guard.models.openai_http import EngineConnection

Way: TypeAlias = ByTokenIds | ByText
"""How a model is asked to go on from what was accepted."""

ENGINE_ACCESS = HttpAccess(timeout=120.0, max_parallel=256)
"""How engines are reached unless something else is said."""


class OpenAICompatibleModel:
    """A language model on a server.

    Nothing is sent until an answer is asked for; :func:`stars_guard.models.remote_model.load_remote` asks the
    engine what it serves. Safe to use from many threads at once, each for its own request. Close it after
    use, or use it in a ``with`` statement.

    Args:
        url: root of the server, such as ``http://localhost:8000``, with or without ``/v1``.
        engine: what serves there: a name in :data:`stars_guard.models.server_profiles.SERVERS`, or a profile.
        model: name of the model there; None leaves it to the server.
        tokenizer: of that very model: loaded by transformers, or its folder or hub id. Without one, the
            engine is asked to tokenize, if it can.
        guarantee: how exactly to go on from what was accepted; by default as exactly as engine and tokenizer
            allow.
        name: for traces; by default that of the model.
        prompt_format: as for :class:`stars_guard.models.transformers.TransformersModel`.
        template_arguments: passed to the chat template.
        dialect: how the model marks reasoning and tool calls; by default what the tokenizer's template says.
        cache_salt: keeps this guard's part of the engine's prefix cache from others who can measure times.
        context_window: most tokens of prompt and answer together; longer prompts are refused at once.
        max_parallel: candidates being drawn from which on the engine is taken to be busy, and most choices of
            a call; by default what the profile says.
        http: time limits, retries, connections and key.

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
        guarantee: Guarantee | str | None = None,
        name: str | None = None,
        prompt_format: PromptFormat = "auto",
        template_arguments: Mapping[str, Any] | None = None,
        dialect: Dialect | None = None,
        cache_salt: str | None = None,
        context_window: int | None = None,
        max_parallel: int | None = None,
        http: HttpAccess | None = None,
    ) -> None:
        self.profile = server_profile(engine) if isinstance(engine, str) else engine
        self._connection = connection(url, http or ENGINE_ACCESS)
        self.name = name or model or f"{self.profile.name} at {self._connection.shown}"
        self._model = {"model": model} if model else {}
        self._salt = salted(self.profile, cache_salt)
        self._max_parallel = max_parallel or self.profile.max_parallel
        self._context_window = context_window
        local = None
        if tokenizer is not None:
            local = local_tokenizer(tokenizer, self.name, prompt_format, template_arguments, dialect)
            self.tokenizer = local.tokenizer
        level = chosen_level(self.profile, has_tokenizer=local is not None, wanted=guarantee)
        self._way = self._going_on(level, local, template_arguments or {}, dialect or PLAIN)
        self._lock = threading.Lock()
        self._in_flight = 0

    def _going_on(
        self,
        level: Guarantee,
        local: LocalTokenizer | None,
        template_arguments: Mapping[str, Any],
        dialect: Dialect,
    ) -> Way:
        profile = self.profile
        if level is Guarantee.TOKEN_IDS:
            route = profile.tokenizing or TokenizingRoute()
            remote = EngineTokenizer(self._connection, route, self._model, template_arguments, dialect)
            return ByTokenIds(profile, profile.ids or IdsRoute(), local or remote, self._max_parallel)
        if level is Guarantee.TEXT:
            return ByText(profile, local)
        return ByPrefill(profile) if level is Guarantee.PREFILL else Whole(profile)

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

    def cached_prompt_tokens(self) -> tuple[int, int]:
        """Of all prompt tokens since the engine began: those found in its prefix cache, and all.

        Raises:
            GenerationError: the engine does not say.
        """
        hits, lookups = self.profile.cache_hits, self.profile.cache_lookups
        lines = self._connection.get_text("/metrics").decode("utf-8", "replace").splitlines()
        samples = [line.rsplit(None, 1) for line in lines if line and line[0] != "#"]
        values = [(words[0].partition("{")[0], float(words[-1])) for words in samples if len(words) == 2]
        if not hits or not any(name in hits for name, _ in values):
            raise self._connection.error("/metrics", "no counters of a prefix cache that are known")
        found, asked = (sum(value for name, value in values if name in names) for names in (hits, lookups))
        return int(found), int(asked)

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
        params = session.sampling
        if order.temperature is not None:
            params = params.changed(temperature=order.temperature)
        calls = self._way.bodies(order, session, sampling_fields(self.profile, params))
        bodies = [{**self._model, **self._salt, **body} for _, body in calls]
        with self._counted(order.candidates, session):
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


def connection(url: str, access: HttpAccess) -> EngineConnection:
    """To an engine; nothing is sent.

    Raises:
        ConfigurationError: the URL is none; :class:`MissingExtraError` if httpx is missing.
    """
    try:
        from stars_guard.models.openai_http import EngineConnection
    except ImportError as error:
        raise MissingExtraError("httpx", "remote") from error
    return EngineConnection(url, access)


def local_tokenizer(
    tokenizer: Any,
    name: str,
    prompt_format: PromptFormat,
    template_arguments: Mapping[str, Any] | None,
    dialect: Dialect | None,
) -> LocalTokenizer:
    """A loaded tokenizer, or one to be loaded from a folder or hub id."""
    make = LocalTokenizer.load if isinstance(tokenizer, str | Path) else LocalTokenizer
    return make(
        str(tokenizer) if isinstance(tokenizer, Path) else tokenizer,
        name,
        prompt_format=prompt_format,
        template_arguments=template_arguments,
        dialect=dialect,
    )


def salted(profile: ServerProfile, salt: str | None) -> dict[str, str]:
    """The field that keeps prefix caches apart.

    Raises:
        ConfigurationError: the engine has none.
    """
    if salt is None:
        return {}
    if profile.salt is None:
        raise ConfigurationError(f"{profile.name} keeps no caches apart; leave cache_salt out")
    return {profile.salt: salt}


def chosen_level(profile: ServerProfile, *, has_tokenizer: bool, wanted: Guarantee | str | None) -> Guarantee:
    """How exactly to go on: as is wanted, or as exactly as it can be.

    Raises:
        ConfigurationError: what is wanted cannot be had.
    """
    can = {
        Guarantee.TOKEN_IDS: bool(profile.ids and (has_tokenizer or profile.tokenizing)),
        Guarantee.TEXT: True,
        Guarantee.PREFILL: profile.prefill is not None,
        Guarantee.WHOLE: True,
    }
    if wanted is None:
        # Without a template, text serves only raw prompts.
        return next(level for level in Guarantee if can[level] and (has_tokenizer or level != Guarantee.TEXT))
    if wanted not in list(Guarantee):
        raise ConfigurationError(f"guarantee {wanted!r} is none of {', '.join(Guarantee)}")
    if not can[Guarantee(wanted)]:
        remedy = "pass tokenizer=" if profile.ids and wanted == Guarantee.TOKEN_IDS else "take a weaker one"
        raise ConfigurationError(f"{profile.name} cannot give guarantee {wanted}; {remedy}")
    return Guarantee(wanted)
