"""Language models on an inference engine, which is asked what it serves and how much fits its context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stars_guard.errors import ConfigurationError, GenerationError
from stars_guard.http.access import HttpAccess
from stars_guard.loading.names import model_spec
from stars_guard.loading.specs import EngineServer
from stars_guard.models.engines.observable import ObservableServer
from stars_guard.models.engines.openai import ENGINE_ACCESS, OpenAICompatibleModel, connection
from stars_guard.models.engines.profiles import ServerProfile, server_profile

_MOST_SHOWN = 8
"""Names of models in a message."""


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
        options: of :class:`stars_guard.models.OpenAICompatibleModel`, and ``states``, where it writes hidden
            states; what the engine says is taken for those that are missing.

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
    states = options.pop("states", None) or spec.states
    stated = {
        "tokenizer": spec.tokenizer,
        "tokenizer_revision": spec.tokenizer_revision,
        "guarantee": spec.guarantee,
    }
    given = {**stated, **facts, **named, **options}
    if states is None:
        return OpenAICompatibleModel(spec.url, profile, http=access, **given)
    return ObservableServer(spec.url, profile, states=states, http=access, **given)


def _facts(profile: ServerProfile, url: str, access: HttpAccess, model: str) -> dict[str, Any]:
    """What the engine says of itself, as far as it says it."""
    asking = connection(url, access)
    try:
        served = _chosen(profile, asking.get(profile.models)["data"], model, asking.shown)
        facts = _described(profile, served)
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


def _chosen(
    profile: ServerProfile, listed: Sequence[Mapping[str, Any]], model: str, place: str
) -> Mapping[str, Any]:
    """The model that is meant among those that are listed.

    Args:
        profile: of the engine.
        listed: the models that it lists.
        model: name of the one that is meant; empty: whichever it serves.
        place: where it is, for messages.

    Raises:
        ConfigurationError: another than those is named; or none is, and there are several to be named.
        LookupError: none is there.
    """
    ids = [str(entry["id"]) for entry in listed]
    if model:
        names = (model, f"{model}{profile.tag}")
        named = [entry for entry, served in zip(listed, ids, strict=True) if served in names]
        if ids and not named:
            raise ConfigurationError(
                f"{place} does not say that it serves {model} as {profile.name} would; it serves {_some(ids)}"
            )
        return named[0]
    ready = [entry for entry in listed if all(entry.get(key) == it for key, it in profile.loaded.items())]
    candidates = [str(entry["id"]) for entry in ready or listed]
    if profile.model_required and len(candidates) > 1:
        raise ConfigurationError(
            f"{place} serves {_some(candidates)}; name the one that is meant: {profile.name}@{place}#NAME, "
            "or --engine-model NAME"
        )
    return (ready or listed)[0]


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:_MOST_SHOWN]) + (", ..." if len(ids) > _MOST_SHOWN else "")


def _described(profile: ServerProfile, served: Mapping[str, Any]) -> dict[str, Any]:
    """Name and context of a served model, and how calls name it where they must."""
    # A trace is to name the model, not the place on the engine's machine where it lies.
    name = served_as = str(served["id"])
    name = name.rsplit("/", 1)[-1] if name.startswith("/") else name
    windows = [_inside(served, field.split(".")) for field in profile.windows]
    window = next((size for size in windows if isinstance(size, int)), None)
    return {
        "name": name,
        **({"model": served_as} if profile.model_required else {}),
        **({"context_window": window} if window is not None else {}),
    }


def _inside(value: Any, fields: Sequence[str]) -> Any:
    """What is at a field of a field, or None."""
    for field in fields:
        value = value.get(field) if isinstance(value, dict) else None
    return value
