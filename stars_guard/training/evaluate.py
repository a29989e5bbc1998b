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
from stars_guard.training.data import Record, read_records
from stars_guard.training.heldout import HELD_OUT, PLAIN, HeldOut
from stars_guard.training.plain import plain_files, plain_rows
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
        """One figure.

        Args:
            dataset: name of the held-out set.
            name: of the figure.
            tokens: response tokens after which answers were judged; None: whole answers.

        Raises:
            KeyError: it was not measured.
        """
        for measure in self.measures:
            if (measure.dataset, measure.name, measure.tokens) == (dataset, name, tokens):
                return measure.value
        raise KeyError((dataset, name, tokens))


class TextScorer(Protocol):
    """Whatever turns prompts and responses into rewards."""

    def score(self, texts: Sequence[tuple[str, str]], tokens: int | None = None) -> list[float]:
        """Rewards of (prompt, response) pairs, responses cut after ``tokens`` tokens."""


class Scorer:
    """A merged reward model that turns prompts and responses into rewards; prompts are read as in use.

    Args:
        model: gives one logit per input.
        tokenizer: of the model.
        max_tokens: longest input.
        bfloat16: compute in it: twice as fast on a CPU that has it, third decimals move.
    """

    def __init__(self, model: Any, tokenizer: Any, max_tokens: int = 512, *, bfloat16: bool = False) -> None:
        self._model, self._encoder = model.eval(), Encoder(tokenizer, max_tokens, PROMPT_TOKENS)
        self._bfloat16 = bfloat16

    @classmethod
    def from_folder(cls, folder: Path, *, bfloat16: bool = False) -> "Scorer":
        """Load a folder written by ``merge_adapter``."""
        if not (folder / "config.json").is_file():
            raise ConfigurationError(f"no model in {folder}: pass a folder with merged weights")
        model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=False)
        return cls(model, AutoTokenizer.from_pretrained(folder, trust_remote_code=False), bfloat16=bfloat16)

    @torch.inference_mode()
    def score(
        self, texts: Sequence[tuple[str, str]], tokens: int | None = None, batch: int = 64
    ) -> list[float]:
        """Rewards of texts.

        Args:
            texts: pairs of prompt and response.
            tokens: after which responses are cut; None: nowhere.
            batch: texts read at the same time.
        """
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


def evaluate_model(
    folder: Path,
    data_dir: Path,
    *,
    lengths: Sequence[int | None] = LENGTHS,
    bfloat16: bool = False,
) -> Evaluation:
    """Measure a merged model on the held-out sets; those that are not there are left out.

    Args:
        folder: of the model.
        data_dir: data folder, with ``eval/``.
        lengths: response tokens after which answers are judged; None: whole answers.
        bfloat16: compute in it.

    Raises:
        ConfigurationError: there is no model, or no set at all.
    """
    return evaluate_scorer(Scorer.from_folder(folder, bfloat16=bfloat16), data_dir, lengths=lengths)


def evaluate_scorer(
    scorer: TextScorer, data_dir: Path, *, lengths: Sequence[int | None] = LENGTHS
) -> Evaluation:
    """Measure any scorer on the held-out sets.

    Args:
        scorer: gives rewards.
        data_dir: as for :func:`evaluate_model`, like ``lengths``.
        lengths: response tokens after which answers are judged.

    Raises:
        ConfigurationError: there is no set at all.
    """
    names = {held.name for held in HELD_OUT}
    plain = plain_files(data_dir, "eval", names)
    there = [(PLAIN.named(file.stem), _plain_records(data_dir, file)) for file in plain]
    if not plain:
        places = [(held, data_dir / "eval" / f"{held.name}.jsonl") for held in HELD_OUT]
        there = [(held, read_records(path)) for held, path in places if path.is_file()]
    if not there:
        raise ConfigurationError(
            f"no held-out set in {data_dir / 'eval'}: expected rows with prompt, response and unsafe, or "
            f"{sorted(names)}"
        )
    return Evaluation(
        tuple(
            measure
            for held, records in there
            for tokens in lengths
            for measure in _measure(scorer, held, records, tokens)
        )
    )


def _plain_records(data: Path, file: Path) -> list[Record]:
    rows = plain_rows(data, file, "eval")
    return [{"prompt": row.prompt, "response": row.response, "unsafe": row.safe <= 0.5} for row in rows]


def _measure(
    scorer: TextScorer, held: HeldOut, records: Sequence[Record], tokens: int | None
) -> list[Measure]:
    judged = held.read(records)
    rewards = scorer.score([(answer.prompt, answer.response) for answer in judged], tokens)
    return [
        Measure(held.name, name, tokens, value, rows) for name, value, rows in held.figures(judged, rewards)
    ]
