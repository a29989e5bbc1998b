"""Conversations as a reward model's chat template prints them, by the rule of roles that models follow."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from stars_guard.errors import ConfigurationError
from stars_guard.prompts import Message
from stars_guard.text.turns import TemplateInput, TemplateTurns, told_plainly

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def chat_text(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, opening: bool) -> str:
    """The text of a conversation, reshaped as little as lets the template print all of it.

    Args:
        tokenizer: with a chat template.
        messages: calls are said in their contents.
        opening: whether a turn of the assistant is opened at the end.

    Raises:
        ConfigurationError: the template prints no form of it.
    """
    turns = _turns_of(tokenizer)[opening]
    given = TemplateInput([dict(message) for message in messages])
    fitted = turns.fitted(given)
    text = _printed(tokenizer, fitted or given, opening=opening)  # what raises here has words of its own
    if fitted is None:
        raise ConfigurationError(
            "the tokenizer's chat template does not print what a user says, so nothing could be judged; use "
            "format 'pair' or 'text', or load the tokenizer that belongs to the model"
        )
    return text


_TURNS: weakref.WeakKeyDictionary[Any, tuple[Any, dict[bool, TemplateTurns]]] = weakref.WeakKeyDictionary()
"""What was found out about templates, and of which template, by tokenizer."""


def _turns_of(tokenizer: PreTrainedTokenizerBase) -> dict[bool, TemplateTurns]:
    template, known = _TURNS.get(tokenizer, (None, {}))
    if not known or template != tokenizer.chat_template:
        # What is kept must not keep its key alive.
        weak = weakref.proxy(tokenizer)
        known = {
            opening: TemplateTurns(partial(_printed, weak, opening=opening), told_plainly)
            for opening in (True, False)
        }
        _TURNS[tokenizer] = tokenizer.chat_template, known
    return known


def _printed(tokenizer: Any, conversation: TemplateInput, *, opening: bool) -> str:
    turns = list(conversation.turns)
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=opening))
