"""Remote language models by name: ``ENGINE@URL``, or ``ENGINE@URL#MODEL`` where several are served.

``vllm@http://localhost:8000`` and ``llamacpp@https://user:password@host/path#my-model`` are such names. The
engine is asked what it serves and how much fits into its context.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stars_guard.errors import ConfigurationError, GenerationError
from stars_guard.http.access import HttpAccess
from stars_guard.models.engines.openai import ENGINE_ACCESS, OpenAICompatibleModel, connection
from stars_guard.models.engines.profiles import ServerProfile, server_profile


def is_remote(spec: str) -> bool:
    """Whether ``spec`` names a remote model, and not a folder or a hub id."""
    engine, _, url = spec.partition("@")
    return "/" not in engine and url.startswith(("http://", "https://"))


def load_remote(
    spec: str, *, api_key_env: str | None = None, http: HttpAccess | None = None, **options: Any
) -> OpenAICompatibleModel:
    """The model that ``spec`` names, once its engine has answered.

    Args:
        spec: as in the module's text.
        api_key_env: environment variable with the engine's key.
        http: time limits, retries, connections and key.
        options: of :class:`stars_guard.models.OpenAICompatibleModel`; what the engine says is taken for those
            that are missing.

    Raises:
        ConfigurationError: the spec or an option is wrong, or no engine answers there.
    """
    engine, _, place = spec.partition("@")
    url, _, model = place.partition("#")
    access = http or ENGINE_ACCESS
    access = access if api_key_env is None else access.changed(api_key_env=api_key_env)
    profile = server_profile(engine)
    facts = _facts(profile, url, access, model)
    named = {"model": model} if model else {}
    return OpenAICompatibleModel(url, profile, http=access, **{**named, **facts, **options})


def _facts(profile: ServerProfile, url: str, access: HttpAccess, model: str) -> dict[str, Any]:
    """What the engine says of itself, as far as it says it."""
    asking = connection(url, access)
    try:
        served = [one for one in asking.get("/v1/models")["data"] if not model or one["id"] == model]
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
