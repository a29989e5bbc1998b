"""A language model behind an inference server: vLLM, SGLang, llama.cpp, or another that speaks like OpenAI's.

The engine loop of a guarded answer is a call for each round: what was accepted goes out as token ids, and
several candidates for the next segment come back. The engine's prefix cache makes that cheap; a rejected
candidate leaves nothing to undo.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stars_guard.errors import ConfigurationError, GenerationError, needs_extra
from stars_guard.http.access import HttpAccess
from stars_guard.http.faults import ServerFaults
from stars_guard.models.chat import PromptFormat
from stars_guard.models.engines.by_ids import ByTokenIds
from stars_guard.models.engines.by_text import ByPrefill, ByText, Whole
from stars_guard.models.engines.engine_model import EngineModel, Way, salted
from stars_guard.models.engines.engine_tokenizer import EngineTokenizer
from stars_guard.models.engines.local_tokenizer import LocalTokenizer, local_tokenizer
from stars_guard.models.engines.profiles import IdsRoute, ServerProfile, TokenizingRoute, server_profile
from stars_guard.text.dialects import PLAIN, Dialect
from stars_guard.types import Guarantee

if TYPE_CHECKING:
    from stars_guard.http.client import JsonClient

ENGINE_ACCESS = HttpAccess(timeout=120.0, max_parallel=256)
"""How engines are reached unless something else is said."""
_FAULTS = ServerFaults(
    error=GenerationError,
    server="engine",
    caller="model",
    more_time="raise timeout",
    remedies={
        400: "the engine does not take this call: check its profile, the model and the length of its context",
        401: "check the API key",
        403: "check the API key",
        404: "check the URL, the engine's profile and the name of the model",
        413: "the prompt is too long for the engine",
        422: "the engine does not take this call: check its profile",
        429: "the engine is overloaded: lower max_parallel, or raise retries",
        503: "the engine is overloaded or starting: raise retries, or look into its log",
    },
)


class OpenAICompatibleModel(EngineModel):
    """A language model on a server.

    Nothing is sent until an answer is asked for; :func:`stars_guard.loading.parts.load_model` asks the
    engine what it serves. Safe to use from many threads at once, each for its own request. Close it after
    use, or use it in a ``with`` statement.

    Args:
        url: root of the server, such as ``http://localhost:8000``, with or without ``/v1``.
        engine: what serves there: a name in :data:`stars_guard.models.engines.profiles.SERVERS`, or a
            profile.
        model: name of the model there; None leaves it to the server.
        tokenizer: of that very model: loaded by transformers, or its folder or hub id. Without one, the
            engine is asked to tokenize, if it can.
        tokenizer_revision: commit, tag or branch of its hub id; a warning is logged without one.
        guarantee: how exactly to go on from what was accepted; by default as exactly as engine and tokenizer
            allow.
        name: for traces; by default that of the model.
        prompt_format: as for :class:`stars_guard.models.TransformersModel`.
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
        tokenizer_revision: str | None = None,
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
        profile = server_profile(engine) if isinstance(engine, str) else engine
        self._connection = connection(url, http or ENGINE_ACCESS)
        name = name or model or f"{profile.name} at {self._connection.shown}"
        named = {"model": model} if model else {}
        salt = salted(profile, cache_salt)
        local = None
        if tokenizer is not None:
            local = local_tokenizer(
                tokenizer, name, prompt_format, template_arguments, dialect, tokenizer_revision
            )
            self.tokenizer = local.tokenizer
        level = chosen_level(profile, has_tokenizer=local is not None, wanted=guarantee)
        most = max_parallel or profile.max_parallel
        remote = EngineTokenizer(
            self._connection,
            profile.tokenizing or TokenizingRoute(),
            named,
            template_arguments or {},
            dialect or PLAIN,
        )
        super().__init__(
            self._connection,
            name=name,
            profile=profile,
            way=going_on(profile, level, local, remote, most),
            shared={**named, **salt},
            max_parallel=most,
            context_window=context_window,
        )

    def cached_prompt_tokens(self) -> tuple[int, int]:
        """Prompt tokens since the engine began: those found in its prefix cache, and all of them.

        Raises:
            GenerationError: the engine does not say.
        """
        hits, lookups = self.profile.cache_hits, self.profile.cache_lookups
        lines = self._connection.get_text("/metrics").decode("utf-8", "replace").splitlines()
        samples = [line.rsplit(None, 1) for line in lines if line and line[0] != "#"]
        values = [(words[0].partition("{")[0], float(words[-1])) for words in samples if len(words) == 2]
        if not hits or not any(name in hits for name, _ in values):
            raise self._connection.error("/metrics", "no counters of a prefix cache that are known")
        cached, read = (sum(value for name, value in values if name in names) for names in (hits, lookups))
        return int(cached), int(read)


def connection(url: str, access: HttpAccess) -> JsonClient:
    """A client of an engine, at its root; a ``/v1`` at the end of the URL may be there or not.

    Nothing is sent.

    Raises:
        ConfigurationError: the URL is none; :class:`MissingExtraError` if httpx is missing.
    """
    with needs_extra("remote", "httpx"):
        from stars_guard.http.address import Address
        from stars_guard.http.client import JsonClient
    address = Address.of(url, "http://localhost:8000")
    if "?" in address.url or "#" in address.url:
        raise ConfigurationError(f"the URL of an engine has no query, but that of {address.shown} has")
    root = replace(address, url=_root(address.url), shown=_root(address.shown))
    return JsonClient(root, access, _FAULTS)


def _root(url: str) -> str:
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def going_on(
    profile: ServerProfile,
    level: Guarantee,
    local: LocalTokenizer | None,
    remote: EngineTokenizer,
    most: int,
) -> Way:
    """How a model at a level is asked to go on.

    Args:
        profile: of the engine.
        level: how exactly to go on.
        local: the model's tokenizer in this process, if it is here.
        remote: the engine's own, for whoever has no other.
        most: choices of one call.
    """
    if level is Guarantee.TOKEN_IDS:
        return ByTokenIds(profile, profile.ids or IdsRoute(), local or remote, most)
    if level is Guarantee.TEXT:
        return ByText(profile, local)
    return ByPrefill(profile, local) if level is Guarantee.PREFILL else Whole(profile, local)


def chosen_level(profile: ServerProfile, *, has_tokenizer: bool, wanted: Guarantee | str | None) -> Guarantee:
    """How exactly to go on: as is wanted, or as exactly as it can be.

    Args:
        profile: of the engine.
        has_tokenizer: whether the model's tokenizer is here.
        wanted: a level or its name; None for the strongest that there is.

    Raises:
        ConfigurationError: what is wanted cannot be had.
    """
    can = {
        Guarantee.TOKEN_IDS: bool(profile.ids and (has_tokenizer or profile.tokenizing)),
        Guarantee.TEXT: profile.raw_text,
        Guarantee.PREFILL: profile.prefill is not None,
        Guarantee.WHOLE: True,
    }
    if wanted is None:
        # Without a template, text serves only raw prompts.
        return next(level for level in can if can[level] and (has_tokenizer or level != Guarantee.TEXT))
    if wanted not in can:
        raise ConfigurationError(f"guarantee {wanted!r} is none of {', '.join(can)}")
    if not can[Guarantee(wanted)]:
        remedy = "pass tokenizer=" if profile.ids and wanted == Guarantee.TOKEN_IDS else "take a weaker one"
        raise ConfigurationError(f"{profile.name} cannot give guarantee {wanted}; {remedy}")
    return Guarantee(wanted)
