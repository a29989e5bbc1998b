"""Process reward models: every step of an answer is judged, not only the whole.

Sources: Wang et al. 2024, Math-Shepherd (https://arxiv.org/abs/2312.08935); Zhang et al. 2025, The Lessons of
Developing Process Reward Models (https://arxiv.org/abs/2501.07301).

The models are causal, so what they say at a step's mark depends on nothing behind it. Each step is therefore
scored as a text of its own that ends at its mark, once a run: caching, batching and padding are the
classifier's.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import torch
import transformers

from stars_guard.errors import ConfigurationError, ScoringError, failures_as
from stars_guard.forks import ForkedLock
from stars_guard.rewards.base import ScoreRequest
from stars_guard.rewards.classifiers.causal import is_causal_decoder
from stars_guard.rewards.classifiers.classifier import ClassifierReward
from stars_guard.rewards.classifiers.passes import CACHED_RUNS, PASS_TOKENS
from stars_guard.rewards.judges.judge import NextToken
from stars_guard.rewards.judges.process_styles import StepStyle, choose_style
from stars_guard.rewards.pretrained import load_pretrained
from stars_guard.rewards.readout import log_odds_of_any, sigmoid
from stars_guard.types import Channel, Named, Reward

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Aggregation: TypeAlias = Callable[[Sequence[float]], float]
"""From the log-odds of all steps, finite and at least one, to the reward; must not fall when one rises."""

_Key: TypeAlias = tuple[str | int, Channel, str]


def last(steps: Sequence[float]) -> float:
    """The log-odds that the last step is right."""
    return steps[-1]


def minimum(steps: Sequence[float]) -> float:
    """The log-odds of the worst step."""
    return min(steps)


def product(steps: Sequence[float]) -> float:
    """The log-odds that all steps are right, whose probability is the product of theirs.

    It falls with every step, so longer answers have lower rewards.
    """
    return -log_odds_of_any([-odds for odds in steps])


class ProcessReward(Named):
    """A reward from a process reward model, which says of every step of an answer whether it is right.

    Unit: log-odds (nats), higher is better; 0 means that right and wrong are as likely. Of an unfinished
    answer the open last step counts like the others; an empty answer is one empty step. Earlier steps are
    scored once for each ``run_id``. Safe to call from several threads: one at a time goes ahead.
    The model is put in evaluation mode.

    Args:
        model: a causal language model, or a decoder with a ``score`` head for every token.
        tokenizer: the model's own tokenizer, of the fast kind.
        style: where the marks are and what they mean: a name in ``process_styles.STYLES``, or a style of
            one's own.
        aggregate: ``last``, ``minimum``, ``product``, or a function like those.
        max_length: most tokens the model reads; by default what model and tokenizer allow.
        batch_tokens: most tokens in one pass, padding included; a longer text goes alone.
        cached_runs: most runs whose keys and values are kept; 0 turns the cache off.
        name: for traces and error messages; by default the model's class.

    Raises:
        ConfigurationError: unknown style, a model that reads both ways, words of more than one token,
            unknown labels, or lengths or tokenizer do not fit the model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        style: str | StepStyle,
        aggregate: Aggregation = minimum,
        max_length: int | None = None,
        batch_tokens: int = PASS_TOKENS,
        cached_runs: int = CACHED_RUNS,
        name: str | None = None,
    ) -> None:
        self._style = choose_style(style)
        self._aggregate = aggregate
        self._tokenizer = tokenizer
        self._scored: dict[str, dict[_Key, Reward]] = {}
        self._lock = ForkedLock()
        name = name or type(model).__name__
        try:
            self._classifier = ClassifierReward(
                _judged_at_marks(model, tokenizer, self._style, name),
                tokenizer,
                format=self._style.encode,
                good=self._style.good,
                max_length=max_length,
                batch_tokens=batch_tokens,
                cached_runs=cached_runs,
                name=name,
            )
        except ScoringError as error:
            raise ConfigurationError(str(error)) from error

    @classmethod
    def load(
        cls,
        path_or_id: str | Path,
        *,
        style: str | StepStyle,
        aggregate: Aggregation = minimum,
        max_length: int | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        batch_tokens: int = PASS_TOKENS,
        cached_runs: int = CACHED_RUNS,
        name: str | None = None,
        **from_pretrained: Any,
    ) -> ProcessReward:
        """Load model and tokenizer from a folder, the local cache or the Hugging Face hub.

        ``style``, ``aggregate``, ``max_length``, ``batch_tokens``, ``cached_runs`` and ``name`` are those of
        the constructor; the name is by default the last part of ``path_or_id``.

        Args:
            path_or_id: a folder, or a model id.
            device: where the model goes; by default the GPU if there is one. Not with ``device_map``.
            dtype: precision of the weights; by default the one they were saved in.
            from_pretrained: passed on to ``from_pretrained`` of the style's class.

        Raises:
            ConfigurationError: the folder or model is missing, some of its weights are, or as in the
                constructor.
        """
        style = choose_style(style)
        where = str(path_or_id)
        model, tokenizer = load_pretrained(
            getattr(transformers, style.auto_class),
            "process reward model",
            where,
            dtype=dtype,
            device=device,
            options=from_pretrained,
        )
        return cls(
            model,
            tokenizer,
            style=style,
            aggregate=aggregate,
            max_length=max_length,
            batch_tokens=batch_tokens,
            cached_runs=cached_runs,
            name=name or Path(where).name,
        )

    @property
    def name(self) -> str:
        """Short name for traces and error messages."""
        return self._classifier.name

    @property
    def tokens_fed(self) -> int:
        """Tokens that went through the model so far, without padding."""
        return self._classifier.tokens_fed

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """One reward per request, in order; ``components`` holds each step's probability of being right.

        ``truncated_tokens`` counts conversation tokens that did not fit beside the last step.

        Raises:
            ScoringError: an answer alone is longer than the model reads.
            Exception: whatever tokenizer, model and aggregation raise.
        """
        with self._lock:
            keys = [self._keys(index, request) for index, request in enumerate(requests)]
            runs = {request.run_id for request in requests}
            known = {key: reward for run in runs for key, reward in self._scored.get(run, {}).items()}
            new = {
                key: replace(request, response=key[-1])
                for request, of_request in zip(requests, keys, strict=True)
                for key in of_request
                if key not in known
            }
            known.update(zip(new, self._classifier.score(list(new.values())), strict=True))
            for key in new:
                if isinstance(key[0], str):
                    self._scored.setdefault(key[0], {})[key] = known[key]
        return [self._reward([known[key] for key in of_request]) for of_request in keys]

    def release(self, run_id: str) -> None:
        """Forget the steps, keys and values of a run."""
        with self._lock:
            self._scored.pop(run_id, None)
            self._classifier.release(run_id)

    def _keys(self, index: int, request: ScoreRequest) -> list[_Key]:
        """What names each step: the run, or the request if it has none, and all up to the step's mark."""
        prefixes = self._style.prefixes(self._tokenizer, request.response)
        return [(request.run_id or index, request.channel, prefix) for prefix in prefixes]

    def _reward(self, steps: Sequence[Reward]) -> Reward:
        odds = [step.value for step in steps]
        finite = all(map(math.isfinite, odds))
        return Reward(
            self._aggregate(odds) if finite else math.nan,
            truncated_tokens=steps[-1].truncated_tokens,
            components={f"step {count}": sigmoid(value) for count, value in enumerate(odds, 1)}
            if finite
            else {},
        )


def _judged_at_marks(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, style: StepStyle, name: str
) -> PreTrainedModel:
    """The model in the shape of a classifier with the labels ``good`` and ``bad`` at the last token."""
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        words = {word: _one_token(tokenizer, word) for word in (style.good, style.bad)}
        return cast("PreTrainedModel", NextToken(model, words))
    if not is_causal_decoder(model):
        raise ConfigurationError(
            f"{name} is no decoder with a head named score for every token, so it cannot be read step by "
            "step; load it with the class that its model card names (auto_class of the style)"
        )
    return model


def _one_token(tokenizer: PreTrainedTokenizerBase, word: str) -> int:
    with failures_as(ConfigurationError, f"encoding {word!r}"):
        ids = tokenizer(word, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise ConfigurationError(f"{word!r} has {len(ids)} tokens; a step's judgement must be one token")
    return int(ids[0])
