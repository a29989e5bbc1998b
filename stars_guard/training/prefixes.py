"""Cutting answers to prefixes, on token ids. Pure: no tokenizer, no torch.

A guard judges answers that are still being written, so the reward model must be trained on
beginnings of answers as well as on whole ones.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PrefixPolicy:
    """How often an answer is cut, and where (shares, which add up to 1)."""

    empty: float = 0.03
    at: tuple[tuple[int, float], ...] = ((16, 0.20), (32, 0.32), (64, 0.15))
    anywhere: float = 0.15
    whole: float = 0.15

    def draw(self, rng: random.Random, total: int) -> int:
        """Tokens to keep of an answer of ``total`` tokens: 0 to ``total``."""
        lengths = [0, *(tokens for tokens, _ in self.at), rng.randint(min(1, total), total), total]
        shares = [self.empty, *(share for _, share in self.at), self.anywhere, self.whole]
        return min(total, rng.choices(lengths, shares)[0])


@dataclass(frozen=True, slots=True)
class Joined:
    """A prompt and a response as one input of the encoder: ids and segment ids, equally long."""

    ids: tuple[int, ...]
    segments: tuple[int, ...]


def encoder_input(
    prompt: Sequence[int], response: Sequence[int], *, cls: int, sep: int, max_tokens: int
) -> Joined:
    """``[CLS] prompt [SEP] response [SEP]`` in at most ``max_tokens`` tokens.

    The prompt gives way first and keeps its end; a response that alone is too long keeps its end.

    Args:
        prompt: token ids without special ones.
        response: likewise.
        cls: id of the token before all.
        sep: id of the token after each text.
        max_tokens: most tokens of the whole.
    """
    room = max_tokens - 3
    kept = tuple(response[max(0, len(response) - room) :])
    shortened = tuple(prompt[max(0, len(prompt) - (room - len(kept))) :])
    return Joined(
        ids=(cls, *shortened, sep, *kept, sep),
        segments=(0,) * (len(shortened) + 2) + (1,) * (len(kept) + 1),
    )
