"""The models that a server has: one, with how much it reads and writes, and what a request may set."""

from __future__ import annotations

from stars_guard.server.openai.answers import Json
from stars_guard.server.service import Service

_PARAMETERS = [
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "seed",
    "stop",
    "tools",
    "tool_choice",
    "response_format",
    "structured_outputs",
]
"""Fields of requests that are served, by the names that routers look for."""


def model_card(service: Service) -> Json:
    """The model, in the fields of all whose clients ask for it: OpenAI, vLLM, OpenRouter, Groq and Anthropic.

    Args:
        service: what is served, and its limits.
    """
    config, window = service.config, service.context.window
    name, limits = config.served_name, config.limits
    written = limits.max_tokens if window is None else min(limits.max_tokens, window)
    context = {} if window is None else _context(window)
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "stars_guard",
        "type": "model",
        "display_name": name,
        "created_at": "1970-01-01T00:00:00Z",
        **context,
        "max_tokens": written,
        "max_output_tokens": written,
        "max_completion_tokens": written,
        "top_provider": {"context_length": window, "max_completion_tokens": written, "is_moderated": True},
        "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
        "supported_parameters": _PARAMETERS,
        "stars": _limits(service),
    }


def model_list(card: Json) -> Json:
    """The list that holds a model alone, as both OpenAI and Anthropic have it."""
    name = card["id"]
    return {"object": "list", "data": [card], "has_more": False, "first_id": name, "last_id": name}


def _context(window: int) -> Json:
    names = ("context_length", "context_window", "max_model_len", "max_context_length", "max_input_tokens")
    return dict.fromkeys(names, window)


def _limits(service: Service) -> Json:
    """What a request may ask for: how much, and which settings of the guard and of sampling."""
    limits = service.config.limits
    sizes = (
        "default_tokens",
        "max_choices",
        "max_prompt_characters",
        "max_messages",
        "max_tools",
        "max_stops",
    )
    return {
        "target": service.llm.config.threshold.target,
        "requests": limits.requests.model_dump(mode="json"),
        **{name: getattr(limits, name) for name in sizes},
    }
