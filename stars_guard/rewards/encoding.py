"""Texts as token ids that a model can read: cut to its length, and free of control tokens people wrote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from stars_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPT, RESPONSE, SPECIAL = 0, 1, None
TokenOrigin: TypeAlias = int | None
"""What a token was made from: PROMPT, RESPONSE or SPECIAL."""


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


def fitted(encoding: Any, origins: Sequence[TokenOrigin], max_length: int) -> Encoded:
    """The tokens that stay, as :func:`kept` says.

    Args:
        encoding: what the tokenizer made of one text or pair.
        origins: what each of its tokens was made from.
        max_length: most tokens that may stay.

    Raises:
        ConfigurationError: the special tokens alone leave no room.
    """
    indices = kept(origins, max_length)
    ids, type_ids = encoding["input_ids"], encoding.get("token_type_ids", ())
    return Encoded(
        ids=tuple(ids[index] for index in indices),
        type_ids=tuple(type_ids[index] for index in indices) if type_ids else (),
        dropped=len(origins) - len(indices),
    )


def kept(origins: Sequence[TokenOrigin], max_length: int) -> list[int]:
    """Indices of the tokens that stay, in order, when at most ``max_length`` may.

    Special tokens stay, then the end of the response, then the end of the prompt.

    Raises:
        ConfigurationError: the special tokens alone leave no room.
    """
    if len(origins) <= max_length:
        return list(range(len(origins)))
    stay = _indices(origins, SPECIAL)
    if len(stay) >= max_length:
        raise ConfigurationError(
            f"max_length={max_length} leaves no room beside {len(stay)} special tokens; raise it"
        )
    for origin in (RESPONSE, PROMPT):
        candidates = _indices(origins, origin)
        room = max_length - len(stay)
        stay += candidates[max(0, len(candidates) - room) :]
    return sorted(stay)


def common_length(first: Sequence[object], second: Sequence[object]) -> int:
    """How many leading items two sequences share."""
    for index, (left, right) in enumerate(zip(first, second, strict=False)):
        if left != right:
            return index
    return min(len(first), len(second))


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


def _indices(origins: Sequence[TokenOrigin], wanted: TokenOrigin) -> list[int]:
    return [index for index, origin in enumerate(origins) if origin == wanted]
