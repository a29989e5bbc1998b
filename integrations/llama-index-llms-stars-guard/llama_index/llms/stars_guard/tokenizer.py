"""The guard's own tokenizer, as LlamaIndex counts and cuts texts with it."""

from __future__ import annotations

from functools import partial

import llama_index.core
from llama_index.core.utils import set_global_tokenizer

from stars_guard.adapters import AdapterSettings, count_text, token_ids

_DEFAULT = {"allowed_special": "all"}
"""How LlamaIndex calls the tokenizer of its own accord: that of GPT-3.5."""


class ModelTokenizer:
    """A function from a text to its token ids; the model loads on first use.

    Where only an engine has the tokenizer, there are as many numbers as tokens, about.
    """

    def __init__(self, settings: AdapterSettings) -> None:
        self._settings = settings

    def __call__(self, text: str) -> list[int]:
        """The ids of a text as it stands."""
        model = self._settings.loaded().model
        if hasattr(model, "tokenizer"):
            return token_ids(model, text)
        return list(range(count_text(model, text)))


def adopt(settings: AdapterSettings, *, instead: bool) -> None:
    """Make the tokenizer of an LLM the one of LlamaIndex, unless the user chose one.

    Args:
        settings: of the LLM.
        instead: of that of another guarded LLM, too.
    """
    current = llama_index.core.global_tokenizer
    default = isinstance(current, partial) and current.keywords == _DEFAULT
    if current is None or default or (instead and isinstance(current, ModelTokenizer)):
        set_global_tokenizer(ModelTokenizer(settings))
