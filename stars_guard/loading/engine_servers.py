"""Language models on an inference engine, which is asked what it serves and how much fits its context."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stars_guard.errors import ConfigurationError, GenerationError
from stars_guard.http.access import HttpAccess
from stars_guard.loading.names import model_spec
from stars_guard.loading.specs import EngineServer
from stars_guard.models.engines.openai import ENGINE_ACCESS, OpenAICompatibleModel, connection
from stars_guard.models.engines.profiles import ServerProfile, server_profile


def load_engine_server(
    engine: str | EngineServer,
    *,
    api_key_env: str | None = None,
    http: HttpAccess | None = None,
    **options: Any,
) -> OpenAICompatibleModel:
    """The model of an inference engine, once the engine has answered.

    Args:
        engine: the engine and the model's name there, or ``ENGINE@URL`` of :mod:`stars_guard.loading.names`.
        api_key_env: environment variable with the engine's key, instead of that of ``engine``.
        http: time limits, retries, connections and key.
        options: of :class:`stars_guard.models.OpenAICompatibleModel`; what the engine says is taken for those
            that are missing.

    Raises:
        ConfigurationError: the engine's name or an option is wrong, or no engine answers there.
    """
    spec = model_spec(engine)
    if not isinstance(spec, EngineServer):
        raise ConfigurationError(
            f"{engine} names no engine; write ENGINE@URL, as in vllm@http://localhost:8000"
        )
    key = api_key_env or spec.api_key_env
    access = (http or ENGINE_ACCESS).changed(**{"api_key_env": key} if key else {})
    profile = server_profile(spec.engine)
    facts = _facts(profile, spec.url, access, spec.name or "")
    named = {"model": spec.name} if spec.name else {}
    tokenizer = {"tokenizer": spec.tokenizer, "tokenizer_revision": spec.tokenizer_revision}
    given = {**tokenizer, **named, **facts, **options}
    return OpenAICompatibleModel(spec.url, profile, http=access, **given)


def _facts(profile: ServerProfile, url: str, access: HttpAccess, model: str) -> dict[str, Any]:
    """What the engine says of itself, as far as it says it."""
    asking = connection(url, access)
    try:
        listed = asking.get("/v1/models")["data"]
        served = [entry for entry in listed if not model or entry["id"] == model]
        facts = _described(served[0])
        if profile.slots is not None:
            path, field = profile.slots
            facts["max_parallel"] = asking.get(path)[field]
    except GenerationError as error:
        raise ConfigurationError(f"no engine to be used: {error}") from error
    except (LookupError, TypeError):
        raise ConfigurationError(
            f"{asking.shown} does not say that it serves {model or 'a model'} as {profile.name} would; "
            "check the engine's name, the URL and the model"
        ) from None
    finally:
        asking.close()
    return facts


def _described(served: Mapping[str, Any]) -> dict[str, Any]:
    """Name and context of a served model."""
    meta = served.get("meta")
    window = served.get("max_model_len") or (meta.get("n_ctx") if isinstance(meta, dict) else None)
    # A trace is to name the model, not the place on the engine's machine where it lies.
    name = str(served["id"])
    name = name.rsplit("/", 1)[-1] if name.startswith("/") else name
    return {"name": name, **({"context_window": window} if isinstance(window, int) else {})}
