"""Held-out measures of a reward model, after 16, 32 and 64 response tokens and at the end."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from stars_guard.embedded import PROMPT_TOKENS
from stars_guard.errors import ConfigurationError
from stars_guard.training.batches import Encoder, pad
from stars_guard.training.data import read_rows
from stars_guard.training.heldout import HELD_OUT, HeldOut
from stars_guard.training.prefixes import Joined

LENGTHS: tuple[int | None, ...] = (16, 32, 64, None)
"""Response tokens after which answers are judged; None: whole answers."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One figure: ``name`` on ``dataset`` after ``tokens`` response tokens (None: at the end)."""

    dataset: str
    name: str
    tokens: int | None
    value: float
    rows: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All measures of one model."""

    measures: tuple[Measure, ...]

    def value(self, dataset: str, name: str, tokens: int | None) -> float:
        """The figure with these keys; ``KeyError`` if it was not measured."""
        for measure in self.measures:
            if (measure.dataset, measure.name, measure.tokens) == (dataset, name, tokens):
                return measure.value
        raise KeyError((dataset, name, tokens))


class TextScorer(Protocol):
    """Whatever turns prompts and responses into rewards."""

    def score(self, texts: Sequence[tuple[str, str]], tokens: int | None = None) -> list[float]:
        """Rewards of (prompt, response) pairs, responses cut after ``tokens`` tokens."""
        ...


class Scorer:
    """A merged reward model that turns prompts and responses into rewards."""

    def __init__(self, model: Any, tokenizer: Any, max_tokens: int = 512, *, bfloat16: bool = False) -> None:
        """``model`` gives one logit per input; ``tokenizer`` is its own. Prompts are read as in use.

        ``bfloat16`` computes in it: twice as fast on a CPU that has it, third decimals move.
        """
        self._model, self._encoder = model.eval(), Encoder(tokenizer, max_tokens, PROMPT_TOKENS)
        self._bfloat16 = bfloat16

    @classmethod
    def from_folder(cls, folder: Path, *, bfloat16: bool = False) -> "Scorer":
        """Load a folder written by ``merge_adapter``."""
        if not (folder / "config.json").is_file():
            raise ConfigurationError(f"no model in {folder}: pass a folder with merged weights")
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        return cls(model, AutoTokenizer.from_pretrained(folder), bfloat16=bfloat16)

    @torch.inference_mode()
    def score(
        self, texts: Sequence[tuple[str, str]], tokens: int | None = None, batch: int = 64
    ) -> list[float]:
        """Rewards of (prompt, response) pairs, responses cut after ``tokens`` tokens."""
        inputs = [self._encoder.join(p, self._encoder.ids(r)[:tokens]) for p, r in texts]
        order = sorted(range(len(inputs)), key=lambda i: len(inputs[i].ids))
        rewards = [0.0] * len(inputs)
        for start in range(0, len(order), batch):
            chunk = order[start : start + batch]
            logits = self._logits([inputs[i] for i in chunk])
            for i, logit in zip(chunk, logits, strict=True):
                rewards[i] = logit
        return rewards

    def _logits(self, inputs: Sequence[Joined]) -> list[float]:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._bfloat16):
            logits: list[float] = self._model(**pad(inputs)).logits.squeeze(-1).tolist()
        return logits


def evaluate(
    folder: Path,
    data_dir: Path,
    *,
    lengths: Sequence[int | None] = LENGTHS,
    bfloat16: bool = False,
) -> Evaluation:
    """Measure the merged model in ``folder`` on the sets found in ``data_dir``/eval.

    Sets that are not there are left out; no set at all is a ``ConfigurationError``.
    """
    return evaluate_scorer(Scorer.from_folder(folder, bfloat16=bfloat16), data_dir, lengths=lengths)


def evaluate_scorer(
    scorer: TextScorer, data_dir: Path, *, lengths: Sequence[int | None] = LENGTHS
) -> Evaluation:
    """``evaluate`` for any scorer."""
    places = [(held, data_dir / "eval" / f"{held.name}.jsonl") for held in HELD_OUT]
    found = [(held, path) for held, path in places if path.is_file()]
    if not found:
        names = sorted({held.name for held in HELD_OUT})
        raise ConfigurationError(f"no held-out set in {data_dir / 'eval'}: expected {names}")
    return Evaluation(
        tuple(
            measure
            for held, path in found
            for tokens in lengths
            for measure in _measure(scorer, held, path, tokens)
        )
    )


def _measure(scorer: TextScorer, held: HeldOut, path: Path, tokens: int | None) -> list[Measure]:
    judged = held.read(read_rows(path))
    rewards = scorer.score([(one.prompt, one.response) for one in judged], tokens)
    return [
        Measure(held.name, name, tokens, value, rows) for name, value, rows in held.figures(judged, rewards)
    ]
