"""How a prompt and an answer so far become the token ids that a classifier reads.

A format is a function ``(tokenizer, request, max_length) -> Encoded``. What does not fit is dropped by token:
first the beginning of the prompt, then the beginning of the answer; special tokens stay. Control tokens that
are spelled out in the texts (``<|im_end|>``, ``[SEP]``) are broken up, so that nobody can end a turn by
writing so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from stars_guard.errors import ConfigurationError
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPT, RESPONSE, SPECIAL = 0, 1, None
Part: TypeAlias = int | None
_BEAVER_MARKS = ("BEGINNING OF CONVERSATION:", "USER:", "ASSISTANT:")


@dataclass(frozen=True, slots=True)
class Encoded:
    """Token ids for one text, at most the maximum length.

    Attributes:
        ids: token ids, without padding.
        type_ids: token type ids of the same length, or empty if the tokenizer has none.
        dropped: number of tokens left out.
    """

    ids: tuple[int, ...]
    type_ids: tuple[int, ...] = ()
    dropped: int = 0


Format: TypeAlias = "Callable[[PreTrainedTokenizerBase, ScoreRequest, int], Encoded]"


def pair(tokenizer: PreTrainedTokenizerBase, request: ScoreRequest, max_length: int) -> Encoded:
    """Prompt and answer as the two texts of a pair, as in ``[CLS] prompt [SEP] answer [SEP]``."""
    prompt, response = harmless(tokenizer, request.prompt.as_text(), request.response)
    encoding = tokenizer(prompt, response, verbose=False)
    return _fitted(encoding, encoding.sequence_ids(0), max_length)


def chat(tokenizer: PreTrainedTokenizerBase, request: ScoreRequest, max_length: int) -> Encoded:
    """The chat template: the assistant's turn stays open until the answer is finished.

    An empty answer is the prompt with the beginning of the assistant's turn.
    """
    turns = request.prompt.as_messages()
    *contents, response = harmless(tokenizer, *(turn["content"] for turn in turns), request.response)
    messages = [
        {"role": turn["role"], "content": content} for turn, content in zip(turns, contents, strict=True)
    ]
    opening = _rendered(tokenizer, messages, add_generation_prompt=True)
    text = opening + response
    if request.finished and response:
        messages.append({"role": "assistant", "content": response})
        text = _rendered(tokenizer, messages, add_generation_prompt=False)
    # The template writes bos itself, so the tokenizer must not add another one.
    return _encode_text(tokenizer, text, common_length(opening, text), max_length, add_special_tokens=False)


def text(tokenizer: PreTrainedTokenizerBase, request: ScoreRequest, max_length: int) -> Encoded:
    """Plain text: the prompt, a line end, the answer."""
    prompt, response = harmless(tokenizer, request.prompt.as_text(), request.response)
    return _encode_text(tokenizer, f"{prompt}\n{response}", len(prompt) + 1, max_length)


def response_only(tokenizer: PreTrainedTokenizerBase, request: ScoreRequest, max_length: int) -> Encoded:
    """The answer alone, for classifiers that judge a text without its context."""
    (response,) = harmless(tokenizer, request.response)
    return _encode_text(tokenizer, response, 0, max_length)


def beaver(tokenizer: PreTrainedTokenizerBase, request: ScoreRequest, max_length: int) -> Encoded:
    """``BEGINNING OF CONVERSATION: USER: prompt ASSISTANT:answer``, which the beaver reward models read.

    Who is no assistant is a user. Source: the model cards of ``PKU-Alignment/beaver-7b-v1.0-reward``.
    """
    turns = request.prompt.as_messages()
    texts = harmless(tokenizer, *(turn["content"] for turn in turns), request.response)
    *contents, response = [broken_up(text, _BEAVER_MARKS) for text in texts]
    said = "".join(
        f"ASSISTANT:{content}{tokenizer.eos_token or ''}"
        if turn["role"] == "assistant"
        else f"USER: {content} "
        for turn, content in zip(turns, contents, strict=True)
    )
    opening = f"BEGINNING OF CONVERSATION: {said}ASSISTANT:"
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
    {"pair": pair, "chat": chat, "text": text, "response_only": response_only, "beaver": beaver}
)


def choose_format(name: str | Format, tokenizer: PreTrainedTokenizerBase) -> Format:
    """The format of that name; ``auto`` is ``chat`` if the tokenizer has a chat template, else ``pair``.

    Raises:
        ConfigurationError: unknown name, or ``chat`` for a tokenizer without a chat template.
    """
    if callable(name):
        return name
    if name == "auto":
        return chat if tokenizer.chat_template else pair
    if name not in FORMATS:
        raise ConfigurationError(f"unknown format {name!r}; use auto, {', '.join(FORMATS)}, or a function")
    if name == "chat" and not tokenizer.chat_template:
        raise ConfigurationError("format 'chat' needs a tokenizer with a chat template; use 'pair' or 'text'")
    return FORMATS[name]


def kept(parts: Sequence[Part], max_length: int) -> list[int]:
    """Indices of the tokens that stay, in order, when at most ``max_length`` may.

    ``parts`` says of each token whether it is PROMPT, RESPONSE or SPECIAL. Special tokens stay, then the end
    of the response, then the end of the prompt.

    Raises:
        ConfigurationError: the special tokens alone leave no room.
    """
    if len(parts) <= max_length:
        return list(range(len(parts)))
    stay = _indices(parts, SPECIAL)
    if len(stay) >= max_length:
        raise ConfigurationError(
            f"max_length={max_length} leaves no room beside {len(stay)} special tokens; raise it"
        )
    for part in (RESPONSE, PROMPT):
        of_part = _indices(parts, part)
        room = max_length - len(stay)
        stay += of_part[max(0, len(of_part) - room) :]
    return sorted(stay)


def common_length(first: Sequence[object], second: Sequence[object]) -> int:
    """How many leading items two sequences share."""
    for index, (left, right) in enumerate(zip(first, second, strict=False)):
        if left != right:
            return index
    return min(len(first), len(second))


def _indices(parts: Sequence[Part], wanted: Part) -> list[int]:
    return [index for index, part in enumerate(parts) if part == wanted]


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
    parts: list[Part] = [
        SPECIAL if sequence is None else RESPONSE if start >= boundary else PROMPT
        for sequence, (start, _) in zip(encoding.sequence_ids(0), encoding["offset_mapping"], strict=True)
    ]
    if parts and encoding["input_ids"][0] == tokenizer.bos_token_id:
        parts[0] = SPECIAL
    return _fitted(encoding, parts, max_length)


def _fitted(encoding: Any, parts: Sequence[Part], max_length: int) -> Encoded:
    indices = kept(parts, max_length)
    ids, type_ids = encoding["input_ids"], encoding.get("token_type_ids", ())
    return Encoded(
        ids=tuple(ids[index] for index in indices),
        type_ids=tuple(type_ids[index] for index in indices) if type_ids else (),
        dropped=len(parts) - len(indices),
    )


def _rendered(tokenizer: PreTrainedTokenizerBase, messages: list[Any], *, add_generation_prompt: bool) -> str:
    rendered = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return str(rendered)


def harmless(tokenizer: PreTrainedTokenizerBase, *texts: str) -> list[str]:
    """The texts with a blank inside every control token that is spelled out in them."""
    tokens = [
        str(token)
        for token in tokenizer.added_tokens_decoder.values()
        if token.special and len(str(token)) > 1
    ]
    return [broken_up(text, tokens) for text in texts]


def broken_up(text: str, tokens: Sequence[str]) -> str:
    """``text`` with a blank behind the first character of every one of ``tokens``."""
    for token in tokens:
        if token in text:
            text = text.replace(token, f"{token[0]} {token[1:]}")
    return text
