"""Lengths in tokens as the guard's own language model counts them, and how many tokens it takes."""

from __future__ import annotations

import json
import logging
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from stars_guard import embedded
from stars_guard.errors import ConfigurationError, PromptError
from stars_guard.models.base import CountsPrompts, HasTokenizer, LanguageModel
from stars_guard.prompts import Prompt

if TYPE_CHECKING:
    from stars_guard.adapters.settings import AdapterSettings

log = logging.getLogger("stars_guard.adapters")

_BYTES = 4
"""Bytes of a token, about, where nobody counts."""
_TURN = 4
"""Tokens with which a template marks a turn, about."""


def token_ids(model: LanguageModel, text: str) -> list[int]:
    """The ids of a text as it stands, with nothing put around it.

    Raises:
        ConfigurationError: the model has no tokenizer in this process.
    """
    if not isinstance(model, HasTokenizer):
        raise ConfigurationError(
            f"{model.name} has no tokenizer here, so the ids of a text are not known; pass tokenizer= where "
            "the model is made"
        )
    return list(model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def count_text(model: LanguageModel, text: str) -> int:
    """Length of a text in tokens; an estimate by its bytes where no tokenizer can be asked."""
    if not text:
        return 0
    if isinstance(model, HasTokenizer):
        return len(token_ids(model, text))
    counted = model.prompt_tokens(Prompt.raw(text)) if isinstance(model, CountsPrompts) else None
    return counted or _estimate(model, text)


def count_prompt(model: LanguageModel, prompt: Prompt) -> int:
    """Length of a prompt in tokens, chat template and tools included.

    Where the template refuses the messages, as it may a part of a conversation that begins with an answer,
    or where only the engine has it: that of the texts, and a few tokens for each turn.
    """
    counted = None
    if isinstance(model, CountsPrompts) and (prompt.text or prompt.messages):
        try:
            counted = model.prompt_tokens(prompt)
        except PromptError:
            log.debug("the template of %s refuses these messages, so their texts are counted", model.name)
    if counted:
        return counted
    schemas = prompt.tools.schemas if prompt.tools else ()
    texts = [prompt.as_text(), *(json.dumps(schema, ensure_ascii=False) for schema in schemas)]
    return sum(count_text(model, text) for text in texts) + _TURN * len(prompt.messages)


def context_window(settings: AdapterSettings) -> int | None:
    """Most tokens of prompt and answer together, as far as it is known without loading weights.

    It is for a model that is loaded or in hand, for a folder, for a hub id whose ``config.json`` is in the
    local cache of the hub, and for the embedded model.
    """
    guard = settings.ready()
    model = settings.in_hand.get("model") if guard is None else guard.model
    if model is not None:
        return getattr(model, "context_window", None)
    if not settings.model:
        return embedded.CONTEXT_WINDOW
    config = _config_of(settings.model_name, (settings.model_options or {}).get("revision"))
    return None if config is None else _positions(config, config.stat().st_mtime_ns)


def _config_of(name: str, revision: str | None) -> Path | None:
    """Where the config of a model lies, if it is on this machine."""
    inside = Path(name).expanduser() / "config.json"
    if inside.is_file():
        return inside
    try:
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(name, "config.json", revision=revision)
    except (ImportError, ValueError):  # no hub in use, or the name is no id there
        return None
    return Path(cached) if isinstance(cached, str) else None


@lru_cache
def _positions(config: Path, changed: int) -> int | None:
    """The longest input that a config allows, in tokens; ``changed`` tells one version from the next."""
    try:
        stated = json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    inner = stated.get("text_config") or {}
    positions = stated.get("max_position_embeddings") or inner.get("max_position_embeddings")
    return positions if isinstance(positions, int) else None


@lru_cache
def _warn_of_estimates(name: str) -> None:
    log.warning("%s has no tokenizer here: lengths in tokens are estimates; pass tokenizer=", name)


def _estimate(model: LanguageModel, text: str) -> int:
    _warn_of_estimates(model.name)
    return -(-len(text.encode("utf-8", "replace")) // _BYTES)
