"""Generative judges: a chat model is asked whether an answer is safe, and its next token is read.

    reward = log P(safe words) - log P(unsafe words)

over the first tokens of the words. So a judge is a classifier whose labels are words and whose logits are
those of a language model at the end of its prompt: caching, batching and truncation are the classifier's.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from transformers import AutoModelForCausalLM
from transformers.modeling_outputs import BaseModelOutput

from stars_guard.errors import ConfigurationError, failures_as
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.rewards.classifiers.classifier import ClassifierReward
from stars_guard.rewards.classifiers.passes import CACHED_RUNS, PASS_TOKENS
from stars_guard.rewards.encoding import common_length
from stars_guard.rewards.judges.layouts import JudgePrompt
from stars_guard.rewards.judges.prompts import choose_prompt
from stars_guard.rewards.pretrained import load_pretrained
from stars_guard.types import Named, Reward

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class JudgeReward(Named):
    """A reward from a causal language model that is asked whether an answer is safe.

    Unit: nats, higher is safer; 0 means that both replies are as likely. Keeps a cache per guarded answer
    (``run_id``): instructions and conversation are read once, after that only new tokens of the answer and
    what the prompt writes behind it, all candidates of an answer in one pass; ``cached_runs`` must be no less
    than the answers that are written at the same time. Safe to call from several threads: one at a time goes
    ahead. The model is put in evaluation mode.

    Args:
        model: a causal language model; on whatever device it is.
        tokenizer: the model's own tokenizer, of the fast kind.
        prompt: how it is asked: a name in ``judges.prompts.JUDGE_PROMPTS``, or a prompt of one's own.
        max_length: most tokens the model reads; by default what model and tokenizer allow.
        batch_tokens: most tokens in one pass, padding included; a longer text goes alone.
        cached_runs: most runs whose keys and values are kept; 0 turns the cache off.
        name: for traces and error messages; by default the model's class.

    Raises:
        ConfigurationError: the words cannot be told apart by their first token, or model, tokenizer,
            prompt or lengths do not fit each other.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        prompt: str | JudgePrompt,
        max_length: int | None = None,
        batch_tokens: int = PASS_TOKENS,
        cached_runs: int = CACHED_RUNS,
        name: str | None = None,
    ) -> None:
        name = name or type(model).__name__
        if "logits_to_keep" not in inspect.signature(model.forward).parameters:
            raise ConfigurationError(
                f"{name} is no causal language model that can be read at chosen tokens; load it with "
                "AutoModelForCausalLM, and merge adapters into it"
            )
        prompt = choose_prompt(prompt)
        with failures_as(ConfigurationError, f"writing the prompt for {name}"):
            words = _first_tokens(tokenizer, prompt)
        self._classifier = ClassifierReward(
            cast("PreTrainedModel", NextToken(model, words)),
            tokenizer,
            format=prompt.encode,
            good=[word for word in prompt.safe if word in words],
            max_length=max_length,
            batch_tokens=batch_tokens,
            cached_runs=cached_runs,
            name=name,
        )

    @classmethod
    def load(
        cls,
        path_or_id: str | Path,
        *,
        prompt: str | JudgePrompt,
        max_length: int | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        batch_tokens: int = PASS_TOKENS,
        cached_runs: int = CACHED_RUNS,
        name: str | None = None,
        **from_pretrained: Any,
    ) -> JudgeReward:
        """Load model and tokenizer from a folder, the local cache or the Hugging Face hub.

        ``prompt``, ``max_length``, ``batch_tokens``, ``cached_runs`` and ``name`` are those of the
        constructor; the name is by default the last part of ``path_or_id``.

        Args:
            path_or_id: a folder, or a model id.
            device: where the model goes; by default the GPU if there is one. Not with ``device_map``.
            dtype: precision of the weights; by default the one they were saved in. In bfloat16 the logits,
                and so the rewards, come in steps of about 0.1.
            from_pretrained: passed on to ``AutoModelForCausalLM.from_pretrained``.

        Raises:
            ConfigurationError: the folder or model is missing, it is no trained language model, or as in the
                constructor.
        """
        prompt = choose_prompt(prompt)
        where = str(path_or_id)
        model, tokenizer = load_pretrained(
            AutoModelForCausalLM, "language model", where, dtype=dtype, device=device, options=from_pretrained
        )
        return cls(
            model,
            tokenizer,
            prompt=prompt,
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
        """One reward per request, in order.

        ``components`` holds the probability of each word among all words of the prompt. Requests with a
        ``run_id`` use that run's cache; those without use none.

        Raises:
            Exception: whatever tokenizer and model raise.
        """
        return self._classifier.score(requests)

    def release(self, run_id: str) -> None:
        """Forget the keys and values of a run."""
        self._classifier.release(run_id)


class NextToken:
    """A causal language model in the shape of a classifier: its scores are the logits of a few next tokens.

    The logits come from the model's own forward pass, since some models scale or cap them on the way.
    """

    def __init__(self, model: PreTrainedModel, words: Mapping[str, int]) -> None:
        self.config = copy.copy(model.config)
        self.config.id2label = dict(enumerate(words))
        self.config.problem_type = None
        self.base_model = self
        self.score = torch.nn.Identity()
        self.forward = model.forward  # only looked at, for the arguments that it takes
        self.train = model.train
        self._model = model
        self._ids = list(words.values())

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self._model.device

    def __call__(
        self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor, **inputs: Any
    ) -> BaseModelOutput:
        """Logits of the words, ``(rows, tokens, words)``, at the last real token of each row; else zero."""
        cached = attention_mask.shape[1] - input_ids.shape[1]
        last = attention_mask.sum(dim=1) - 1 - cached
        # The vocabulary is large: only at tokens where some row ends are its logits made.
        kept = torch.tensor(sorted(set(last.tolist())), device=last.device)
        column = torch.searchsorted(kept, last)
        logits = self._model(
            input_ids=input_ids, attention_mask=attention_mask, logits_to_keep=kept, **inputs
        ).logits
        rows = torch.arange(len(last), device=logits.device)
        scores = logits.new_zeros(*input_ids.shape, len(self._ids))
        scores[rows, last.to(rows.device)] = logits[rows, column.to(rows.device)][:, self._ids]
        return BaseModelOutput(last_hidden_state=cast(torch.FloatTensor, scores))


def _first_tokens(tokenizer: PreTrainedTokenizerBase, prompt: JudgePrompt) -> dict[str, int]:
    """The words and the id of the first token of each, where it follows the prompt; each id once."""
    text = prompt.text(tokenizer, ScoreRequest(Prompt.of("Question"), "Answer", finished=True))
    safe = {word: _first_token(tokenizer, text, word) for word in prompt.safe}
    unsafe = {word: _first_token(tokenizer, text, word) for word in prompt.unsafe}
    for word, token in unsafe.items():
        if token in safe.values():
            raise ConfigurationError(
                f"the answer word {word!r} begins with the same token as a word of the other side, "
                f"{_word_of(safe, token)!r}; choose words that differ in their first token"
            )
    # Two words of one side that begin alike are one event, and must not be counted twice.
    return {_word_of({**safe, **unsafe}, token): token for token in (*safe.values(), *unsafe.values())}


def _word_of(words: Mapping[str, int], token: int) -> str:
    return next(word for word, first in words.items() if first == token)


def _first_token(tokenizer: PreTrainedTokenizerBase, text: str, word: str) -> int:
    before = tokenizer(text, add_special_tokens=False)["input_ids"]
    after = tokenizer(text + word, add_special_tokens=False)["input_ids"]
    if common_length(before, after) < len(before) or len(after) == len(before):
        raise ConfigurationError(
            f"the answer word {word!r} is no token of its own after {text[-20:]!r}; give it a blank, or take "
            "the blank before it away"
        )
    return int(after[len(before)])
