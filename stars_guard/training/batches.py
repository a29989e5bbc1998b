"""Batches for training: answers and pairs cut to prefixes, bucketed by length, as tensors."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stars_guard.training.data import Preference, TrainingAnswer, TrainingSet
from stars_guard.training.prefixes import Joined, PrefixPolicy, encoder_input

POOL = 16
"""Batches drawn together and sorted by length: longer pools pad less and mix less."""


class Encoder:
    """Turns texts into token ids (once per text) and pairs of texts into inputs.

    Args:
        tokenizer: of the encoder.
        max_tokens: most tokens of an input, special ones included.
        prompt_tokens: how many a prompt keeps, its last; None keeps what fits.
    """

    def __init__(self, tokenizer: Any, max_tokens: int, prompt_tokens: int | None = None) -> None:
        self._tokenizer = tokenizer
        self._max_tokens = max_tokens
        self._prompt_tokens = prompt_tokens or max_tokens
        self._known: dict[str, tuple[int, ...]] = {}

    def ids(self, text: str) -> tuple[int, ...]:
        """Token ids of ``text`` without special tokens."""
        if text not in self._known:
            encoded = self._tokenizer(text, add_special_tokens=False, verbose=False)
            self._known[text] = tuple(encoded["input_ids"])
        return self._known[text]

    def join(self, prompt: str, response: Sequence[int]) -> Joined:
        """The input for a prompt and the ids of a response."""
        return encoder_input(
            self.ids(prompt)[-self._prompt_tokens :],
            response,
            cls=self._tokenizer.cls_token_id,
            sep=self._tokenizer.sep_token_id,
            max_tokens=self._max_tokens,
        )


def pad(inputs: Sequence[Joined], pad_id: int = 0) -> dict[str, Tensor]:
    """Model arguments, each (inputs, longest input), padded at the end with ``pad_id``."""
    longest = max(len(joined.ids) for joined in inputs)
    fill = [longest - len(joined.ids) for joined in inputs]
    rows = list(zip(inputs, fill, strict=True))
    return {
        "input_ids": torch.tensor([[*joined.ids, *[pad_id] * n] for joined, n in rows]),
        "token_type_ids": torch.tensor([[*joined.segments, *[0] * n] for joined, n in rows]),
        "attention_mask": torch.tensor([[1] * len(joined.ids) + [0] * n for joined, n in rows]),
    }


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's inputs, sorted by length into ``parts`` so that little is padding.

    ``order`` brings the concatenated outputs of the parts back into the order answers, chosen,
    rejected; ``safe`` (answers,) holds the labels.
    """

    parts: tuple[dict[str, Tensor], ...]
    order: Tensor
    safe: Tensor


class Batches:
    """An endless, seeded stream of batches: every answer once per pass, every pair likewise.

    Args:
        data: what to draw from.
        encoder: makes inputs of it.
        policy: where answers are cut.
        answers: labelled answers per batch.
        pairs: preference pairs per batch.
        seed: of order and cuts.
    """

    def __init__(
        self,
        data: TrainingSet,
        encoder: Encoder,
        policy: PrefixPolicy,
        answers: int,
        pairs: int,
        seed: int,
    ) -> None:
        self._data, self._encoder, self._policy = data, encoder, policy
        self._answers, self._pairs = answers, pairs
        self._rng = random.Random(seed)

    def forever(self) -> Iterator[Batch]:
        """Batches without end."""
        answers = self._pooled(self._passes(self._data.answers))
        pairs = self._passes(self._data.preferences)
        count = self._pairs if self._data.preferences else 0
        while True:
            yield self._batch(next(answers), [self._cut_pair(next(pairs)) for _ in range(count)])

    def _passes(self, items: Sequence[Any]) -> Iterator[Any]:
        while True:
            yield from self._rng.sample(items, len(items))

    def _pooled(self, answers: Iterator[TrainingAnswer]) -> Iterator[list[tuple[Joined, float]]]:
        while True:
            pool = [self._cut(next(answers)) for _ in range(POOL * self._answers)]
            pool.sort(key=lambda cut: len(cut[0].ids))
            starts = list(range(0, len(pool), self._answers))
            self._rng.shuffle(starts)
            yield from (pool[start : start + self._answers] for start in starts)

    def _cut(self, answer: TrainingAnswer) -> tuple[Joined, float]:
        ids = self._encoder.ids(answer.response)
        kept = ids[: self._policy.draw(self._rng, len(ids))]
        return self._encoder.join(answer.prompt, kept), answer.safe

    def _cut_pair(self, pair: Preference) -> tuple[Joined, Joined]:
        """A pair whose responses are cut at the same length, so that length tells nothing."""
        chosen, rejected = self._encoder.ids(pair.chosen), self._encoder.ids(pair.rejected)
        length = max(1, self._policy.draw(self._rng, max(len(chosen), len(rejected))))
        return (
            self._encoder.join(pair.prompt, chosen[:length]),
            self._encoder.join(pair.prompt, rejected[:length]),
        )

    def _batch(
        self, answers: Sequence[tuple[Joined, float]], pairs: Sequence[tuple[Joined, Joined]]
    ) -> Batch:
        inputs = [joined for joined, _ in answers] + [c for c, _ in pairs] + [r for _, r in pairs]
        by_length = sorted(range(len(inputs)), key=lambda i: len(inputs[i].ids))
        half = len(by_length) // 2
        chunks = [chunk for chunk in (by_length[:half], by_length[half:]) if chunk]
        order = torch.empty(len(inputs), dtype=torch.long)
        order[torch.tensor(by_length)] = torch.arange(len(inputs))
        return Batch(
            parts=tuple(pad([inputs[i] for i in chunk]) for chunk in chunks),
            order=order,
            safe=torch.tensor([safe for _, safe in answers]),
        )
