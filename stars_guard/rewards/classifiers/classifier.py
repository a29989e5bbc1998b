"""Sequence classifiers from transformers: scalar reward models and safety classifiers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from transformers import AutoModelForSequenceClassification

from stars_guard.errors import ConfigurationError, failures_as
from stars_guard.forks import ForkedLock
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.rewards.classifiers.causal import CausalScorer, is_causal_decoder, padded
from stars_guard.rewards.classifiers.formats import Format, choose_format
from stars_guard.rewards.classifiers.passes import (
    CACHED_RUNS,
    PASS_TOKENS,
    by_run,
    check_sizes,
    check_time,
    most_tokens,
    plan_batches,
    set_pad_id,
)
from stars_guard.rewards.classifiers.preset import ClassifierPreset
from stars_guard.rewards.classifiers.presets import find_preset
from stars_guard.rewards.encoding import Encoded
from stars_guard.rewards.pretrained import load_pretrained
from stars_guard.rewards.readout import Labels, Scale, readout
from stars_guard.types import Named, Reward

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Logits: TypeAlias = list[float]


class ClassifierReward(Named):
    """A reward from an ``AutoModelForSequenceClassification``; higher is safer or better.

    Encoders are scored in batches of similar length. Causal decoders keep a cache per guarded answer
    (``run_id``) and read only new tokens, all candidates of an answer in one pass; ``cached_runs`` must be no
    less than the answers that are written at the same time. Safe to call from several threads: one at a time
    goes ahead.

    The model is put in evaluation mode, and given a padding id.

    Args:
        model: a sequence classifier; on whatever device it is.
        tokenizer: the model's own tokenizer, of the fast kind.
        format: how prompt and answer are joined: ``auto`` (chat template if there is one, else pair),
            a name in ``FORMATS``, or a function like those.
        good: label or labels whose probability is the reward; for models with several labels.
        bad: label or labels whose absence is the reward; give ``good`` or ``bad``, not both.
        scale: unit of the reward: ``log_odds``, ``probability`` or ``logit``.
        max_length: most tokens the model reads; by default what model and tokenizer allow.
        batch_tokens: most tokens in one pass, padding included; a longer text goes alone.
        cached_runs: most runs whose keys and values are kept; 0 turns the cache off.
        name: for traces and error messages; by default the model's class.

    Raises:
        ConfigurationError: labels, format, lengths or tokenizer do not fit the model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        format: str | Format = "auto",
        good: Labels | None = None,
        bad: Labels | None = None,
        scale: Scale = "log_odds",
        max_length: int | None = None,
        batch_tokens: int = PASS_TOKENS,
        cached_runs: int = CACHED_RUNS,
        name: str | None = None,
    ) -> None:
        self.name = name or type(model).__name__
        check_sizes(batch_tokens, cached_runs)
        config = model.config
        labels = {int(index): label for index, label in (config.id2label or {}).items()}
        self._readout = readout(labels, config.problem_type, good=good, bad=bad, scale=scale)
        self._format = choose_format(format, tokenizer)
        self._max_length = most_tokens(model, tokenizer, max_length)
        self._tokenizer = tokenizer
        self._batch_tokens = batch_tokens
        self._pad_id = set_pad_id(model, tokenizer)
        model.train(False)
        self._model = model
        self._causal = CausalScorer(model, self._pad_id, cached_runs) if is_causal_decoder(model) else None
        self._takes_types = "token_type_ids" in inspect.signature(model.forward).parameters
        self._tokens_fed = 0
        self._lock = ForkedLock()
        self._check_format()

    @classmethod
    def load(
        cls,
        path_or_id: str | Path,
        *,
        format: str | Format = "auto",
        good: Labels | None = None,
        bad: Labels | None = None,
        scale: Scale | None = None,
        preset: str | None = None,
        max_length: int | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        batch_tokens: int = PASS_TOKENS,
        cached_runs: int = CACHED_RUNS,
        name: str | None = None,
        **options: Any,
    ) -> ClassifierReward:
        """Load model and tokenizer from a folder, the local cache or the Hugging Face hub.

        ``format``, ``good``, ``bad``, ``scale``, ``max_length``, ``batch_tokens``, ``cached_runs`` and
        ``name`` are those of the constructor; the name is by default the last part of ``path_or_id``.

        Args:
            path_or_id: a folder, or a model id.
            preset: a name in ``presets.CLASSIFIERS``, for what is not given; known hub ids need none.
            device: where the model goes; by default the GPU if there is one. Not with ``device_map``.
            dtype: precision of the weights; by default the one they were saved in.
            options: passed on to ``AutoModelForSequenceClassification.from_pretrained``.

        Raises:
            ConfigurationError: no trained classifier is there, or a setting does not fit it.
        """
        where = str(path_or_id)
        known = find_preset(where, preset)
        model, tokenizer = load_pretrained(
            AutoModelForSequenceClassification, "classifier", where, dtype, device, known.loading | options
        )
        good, bad = _chosen_labels(known, model, good, bad)
        return cls(
            model,
            tokenizer,
            format=known.format if format == "auto" else format,
            good=good,
            bad=bad,
            scale=scale or known.scale,
            max_length=max_length,
            batch_tokens=batch_tokens,
            cached_runs=cached_runs,
            name=name or Path(where).name,
        )

    @property
    def tokens_fed(self) -> int:
        """Tokens that went through the model so far, without padding."""
        return self._tokens_fed + (self._causal.tokens_fed if self._causal else 0)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """One reward per request, in order; ``components`` tells the labels apart, if there are several.

        Requests with a ``run_id`` use that run's cache, if the model is a decoder; those without use none.

        Raises:
            ScoringError: the deadlines of all requests passed before the last pass.
            Exception: whatever tokenizer and model raise.
        """
        in_time = partial(check_time, self.name, requests)
        with self._lock, torch.inference_mode():
            encoded = [self._encode(request) for request in requests]
            logits: dict[int, Logits] = {}
            for run_id, indices in by_run(requests, self._causal).items():
                logits.update(self._logits(run_id, indices, encoded, in_time))
        return [self._reward(logits[index], item.dropped) for index, item in enumerate(encoded)]

    def release(self, run_id: str) -> None:
        """Forget the keys and values of a run."""
        with self._lock:
            if self._causal:
                self._causal.release(run_id)

    def _logits(
        self, run_id: str, indices: list[int], encoded: Sequence[Encoded], in_time: Callable[[], None]
    ) -> dict[int, Logits]:
        in_time()
        if run_id and self._causal:
            rows = self._causal.logits_of_run(run_id, [encoded[index].ids for index in indices], in_time)
            return dict(zip(indices, rows, strict=True))
        logits: dict[int, Logits] = {}
        for batch in plan_batches({index: len(encoded[index].ids) for index in indices}, self._batch_tokens):
            in_time()
            rows = self._forward([encoded[index] for index in batch])
            logits.update(zip(batch, rows, strict=True))
        return logits

    def _forward(self, batch: Sequence[Encoded]) -> list[Logits]:
        rows = [item.ids for item in batch]
        if self._causal:
            return self._causal.logits(rows)
        ids, mask = padded(rows, self._pad_id, self._model.device)
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self._takes_types and batch[0].type_ids:
            inputs["token_type_ids"], _ = padded([item.type_ids for item in batch], 0, self._model.device)
        self._tokens_fed += sum(map(len, rows))
        logits: list[Logits] = self._model(**inputs).logits.float().tolist()
        return logits

    def _encode(self, request: ScoreRequest) -> Encoded:
        encoded = self._format(self._tokenizer, request, self._max_length)
        # A tokenizer without special tokens makes nothing of an empty text, and no model can read nothing.
        return encoded if encoded.ids else Encoded(ids=(self._pad_id,))

    def _reward(self, logits: Logits, dropped: int) -> Reward:
        components = self._readout.components(logits) if len(logits) > 1 else {}
        return Reward(self._readout.value(logits), truncated_tokens=dropped, components=components)

    def _check_format(self) -> None:
        """Encode a text longer than allowed, so that what cannot work fails now and not in an answer."""
        if not self._tokenizer.is_fast:
            raise ConfigurationError(
                f"{type(self._tokenizer).__name__} cannot tell prompt tokens from answer tokens; "
                "use a tokenizer of the tokenizers package, as AutoTokenizer gives for most models"
            )
        words = "word " * min(self._max_length, 64)
        with failures_as(ConfigurationError, f"encoding a text for {self.name}"):
            self._encode(ScoreRequest(Prompt.of(words), "word", finished=True))


def _chosen_labels(
    known: ClassifierPreset, model: Any, good: Labels | None, bad: Labels | None
) -> tuple[Labels | None, Labels | None]:
    """The good and the bad labels; a model whose config names no type of problem gets the type."""
    model.config.problem_type = model.config.problem_type or known.problem_type
    return known.chosen((model.config.id2label or {}).values(), good, bad)
