"""How a prompt and an answer so far become the token ids that a classifier reads.

A format is a function ``(tokenizer, request, max_length) -> Encoded``. What does not fit is dropped by token:
first the beginning of the prompt, then the beginning of the answer; special tokens stay. Control tokens that
are spelled out in the texts (``<|im_end|>``, ``[SEP]``) are broken up, so that nobody can end a turn by
writing so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from stars_guard.errors import ConfigurationError
from stars_guard.prompts import Message, Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.rewards.chat import chat_text
from stars_guard.rewards.encoding import (
    PROMPT,
    RESPONSE,
    SPECIAL,
    Encoded,
    TokenOrigin,
    broken_up,
    common_length,
    fitted,
    harmless,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BEAVER_MARKS = ("BEGINNING OF CONVERSATION:", "USER:", "ASSISTANT:")


Format: TypeAlias = "Callable[[PreTrainedTokenizerBase, ScoreRequest, int], Encoded]"


def pair(tokenizer: PreTrainedTokenizerBase, request: ScoreRequest, max_length: int) -> Encoded:
    """Prompt and answer as the two texts of a pair, as in ``[CLS] prompt [SEP] answer [SEP]``.

    Args:
        tokenizer: the classifier's own, of the fast kind.
        request: what is judged.
        max_length: most tokens; special tokens stay whatever else must go.
    """
    prompt, response = harmless(tokenizer, request.prompt.as_text(), request.response)
    encoding = tokenizer(prompt, response, verbose=False)
    return fitted(encoding, encoding.sequence_ids(0), max_length)


def chat_template(tokenizer: PreTrainedTokenizerBase, request: ScoreRequest, max_length: int) -> Encoded:
    """The chat template: the assistant's turn stays open until the answer is finished.

    An empty answer is the prompt with the beginning of the assistant's turn. ``tokenizer``, ``request`` and
    ``max_length`` are those of :func:`pair`.
    """
    turns = request.prompt.as_messages()
    written = [harmless(tokenizer, turn["role"], turn["content"]) for turn in turns]
    messages = [Message(role=role, content=content) for role, content in written]
    (response,) = harmless(tokenizer, request.response)
    opening = chat_text(tokenizer, messages, opening=True)
    text = opening + response
    if request.finished and response:
        messages.append(Message(role="assistant", content=response))
        text = chat_text(tokenizer, messages, opening=False)
    # The template writes bos itself, so the tokenizer must not add another one.
    return _encode_text(tokenizer, text, common_length(opening, text), max_length, add_special_tokens=False)


def text(tokenizer: PreTrainedTokenizerBase, request: ScoreRequest, max_length: int) -> Encoded:
    """Plain text: the prompt, a line end, the answer.

    ``tokenizer``, ``request`` and ``max_length`` are those of :func:`pair`.
    """
    prompt, response = harmless(tokenizer, request.prompt.as_text(), request.response)
    return _encode_text(tokenizer, f"{prompt}\n{response}", len(prompt) + 1, max_length)


def response_only(tokenizer: PreTrainedTokenizerBase, request: ScoreRequest, max_length: int) -> Encoded:
    """The answer alone, for classifiers that judge a text without its context.

    ``tokenizer``, ``request`` and ``max_length`` are those of :func:`pair`.
    """
    (response,) = harmless(tokenizer, request.response)
    return _encode_text(tokenizer, response, 0, max_length)


def beaver(tokenizer: PreTrainedTokenizerBase, request: ScoreRequest, max_length: int) -> Encoded:
    """``BEGINNING OF CONVERSATION: USER: prompt ASSISTANT:answer``, which the beaver reward models read.

    Who is no assistant is a user. Source: the model cards of ``PKU-Alignment/beaver-7b-v1.0-reward``.
    ``tokenizer``, ``request`` and ``max_length`` are those of :func:`pair`.
    """
    turns = request.prompt.as_messages()
    texts = harmless(tokenizer, *(turn["content"] for turn in turns), request.response)
    *contents, response = [broken_up(text, _BEAVER_MARKS) for text in texts]
    turns_text = "".join(
        f"ASSISTANT:{content}{tokenizer.eos_token or ''}"
        if turn["role"] == "assistant"
        else f"USER: {content} "
        for turn, content in zip(turns, contents, strict=True)
    )
    opening = f"BEGINNING OF CONVERSATION: {turns_text}ASSISTANT:"
    return _encode_text(tokenizer, opening + response, len(opening), max_length)


def prompt_tail(inner: Format, tokens: int) -> Format:
    """``inner``, given only the last ``tokens`` tokens of the prompt, as one text.

    For classifiers that were trained on short prompts: a long one, such as retrieved documents before a
    question, drowns what they think of the answer.

    Raises:
        ConfigurationError: ``tokens`` is under 1.
    """
    if tokens < 1:
        raise ConfigurationError(f"a prompt of {tokens} tokens cannot be judged; keep 1 or more")

    def tail(tokenizer: PreTrainedTokenizerBase, request: ScoreRequest, max_length: int) -> Encoded:
        text = request.prompt.as_text()
        offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)[
            "offset_mapping"
        ]
        dropped = max(0, len(offsets) - tokens)
        if not dropped:
            return inner(tokenizer, request, max_length)
        shorter = replace(request, prompt=Prompt.raw(text[offsets[dropped][0] :]))
        encoded = inner(tokenizer, shorter, max_length)
        return replace(encoded, dropped=encoded.dropped + dropped)

    return tail


FORMATS: Mapping[str, Format] = MappingProxyType(
    {"pair": pair, "chat": chat_template, "text": text, "response_only": response_only, "beaver": beaver}
)


def choose_format(name: str | Format, tokenizer: PreTrainedTokenizerBase) -> Format:
    """The format of that name; ``auto`` is ``chat`` if the tokenizer has a chat template, else ``pair``.

    Raises:
        ConfigurationError: unknown name, or ``chat`` for a tokenizer without a chat template.
    """
    if callable(name):
        return name
    if name == "auto":
        return chat_template if tokenizer.chat_template else pair
    if name not in FORMATS:
        raise ConfigurationError(f"unknown format {name!r}; use auto, {', '.join(FORMATS)}, or a function")
    if name == "chat" and not tokenizer.chat_template:
        raise ConfigurationError("format 'chat' needs a tokenizer with a chat template; use 'pair' or 'text'")
    return FORMATS[name]


def _encode_text(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    boundary: int,
    max_length: int,
    add_special_tokens: bool = True,
) -> Encoded:
    """Encode ``text``, whose answer begins at character ``boundary``."""
    encoding = tokenizer(
        text, add_special_tokens=add_special_tokens, return_offsets_mapping=True, verbose=False
    )
    origins: list[TokenOrigin] = [
        SPECIAL if sequence is None else RESPONSE if start >= boundary else PROMPT
        for sequence, (start, _) in zip(encoding.sequence_ids(0), encoding["offset_mapping"], strict=True)
    ]
    if origins and encoding["input_ids"][0] == tokenizer.bos_token_id:
        origins[0] = SPECIAL
    return fitted(encoding, origins, max_length)
