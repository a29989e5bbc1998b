"""How much fits the model that is served: its context, and what a prompt leaves of it."""

from __future__ import annotations

import json
from dataclasses import dataclass

from stars_guard.errors import ContextLengthError
from stars_guard.models.base import CountsPrompts, LanguageModel
from stars_guard.prompts import Prompt

_TEMPLATE = 2048
"""Most tokens that a chat template is taken to add to a conversation, whatever its length."""
_TURN = 64
"""Most tokens that it is taken to add to a turn."""


@dataclass(frozen=True)
class ModelContext:
    """The context of a language model."""

    model: LanguageModel

    @property
    def window(self) -> int | None:
        """Most tokens of prompt and answer together; None if that is not known."""
        return self.model.context_window if isinstance(self.model, CountsPrompts) else None

    def tokens(self, prompt: Prompt) -> int | None:
        """Length of a prompt, in tokens; None if that is not known.

        Raises:
            PromptError: the prompt cannot be served.
        """
        return self.model.prompt_tokens(prompt) if isinstance(self.model, CountsPrompts) else None

    def room(self, prompt: Prompt, wanted: int) -> int:
        """Most tokens of an answer, up to ``wanted``, that fit beside a prompt.

        Args:
            prompt: what is to be answered.
            wanted: longest answer, in tokens, at least 1.

        Raises:
            ContextLengthError: there is no room for any.
            PromptError: the prompt cannot be served.
        """
        window = self.window
        # Tokenizers of all kinds make at most a token of a byte, so most prompts need not be counted.
        if window is None or _most_tokens(prompt) + wanted <= window:
            return wanted
        tokens = self.tokens(prompt)
        if tokens is None:
            return wanted
        if tokens >= window:
            raise ContextLengthError.of(tokens, 1, window, self.model.name)
        return min(wanted, window - tokens)


def _most_tokens(prompt: Prompt) -> int:
    tools = [dict(schema) for schema in prompt.tools.schemas] if prompt.tools else []
    texts = len(prompt.as_text().encode()) + len(json.dumps(tools))
    return texts + _TURN * len(prompt.messages) + _TEMPLATE
