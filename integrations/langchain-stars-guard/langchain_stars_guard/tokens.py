"""Lengths in tokens by the model's own tokenizer and chat template, not by those of some other model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from langchain_core.messages import BaseMessage
from stars_guard import Prompt
from stars_guard.adapters import count_prompt, count_text, token_ids

from langchain_stars_guard.messages import conversation
from langchain_stars_guard.settings import GuardSettings
from langchain_stars_guard.tools import ToolLike, offered


class TokenCounts(GuardSettings):
    """Counts as the model does, which loads for it.

    ``custom_get_token_ids``, where it is given, counts instead. Where only an engine has the tokenizer,
    lengths are estimates, with a warning.
    """

    if TYPE_CHECKING:  # a field of langchain-core's classes
        custom_get_token_ids: Callable[[str], list[int]] | None = None

    def get_token_ids(self, text: str) -> list[int]:
        """The ids of a text as it stands.

        Raises:
            ConfigurationError: the model has no tokenizer in this process.
        """
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        return token_ids(self.loaded().model, text)

    def get_num_tokens(self, text: str) -> int:
        """Length of a text in tokens."""
        if self.custom_get_token_ids is not None:
            return len(self.custom_get_token_ids(text))
        return count_text(self.loaded().model, text)

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[ToolLike] | None = None
    ) -> int:
        """Length of a conversation in tokens, chat template and tools included; 0 for none.

        Args:
            messages: the conversation.
            tools: what the model may call, in any form that ``bind_tools`` takes.

        Raises:
            PromptError: a message holds something other than text.
        """
        turns = conversation(messages)
        if not turns:
            return 0
        prompt = Prompt(messages=tuple(turns), tools=offered({"tools": tools}))
        if self.custom_get_token_ids is not None:
            return self.get_num_tokens(prompt.as_text())
        return count_prompt(self.loaded().model, prompt)
