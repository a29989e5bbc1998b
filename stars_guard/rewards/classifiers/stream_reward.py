"""A reward from a classifier that says of every token whether the answer is safe up to there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from stars_guard.errors import ConfigurationError, failures_as
from stars_guard.forks import ForkedLock
from stars_guard.prompts import Message, Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.rewards.chat import chat_text
from stars_guard.rewards.classifiers.causal import Ids, TokenScorer
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
from stars_guard.rewards.classifiers.stream_guard import CONTROVERSIAL, UNSAFE, StreamGuard, level_names
from stars_guard.rewards.encoding import PROMPT, RESPONSE, SPECIAL, TokenOrigin, harmless, kept
from stars_guard.rewards.pretrained import load_pretrained
from stars_guard.types import Named, Reward

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WINDOW = 64
"""Tokens at the end of an answer that are looked at, unless told otherwise: two segments of usual length."""
_ANSWER = "\ue000"  # stands for the answer while the template prints the turns around it; never tokenized


@dataclass(frozen=True, slots=True)
class _Row:
    """Token ids of a conversation, and the index of the first that is judged; ``dropped`` were left out."""

    ids: Ids
    start: int
    dropped: int


class StreamGuardReward(Named):
    """A reward from Qwen3Guard-Stream, which judges an answer at each of its tokens; higher is safer.

    Unit: log-odds (nats) of safe against unsafe at the worst of the answer's last tokens, since such a
    classifier says *where* a text turns, and may call later tokens safe again. ``components`` holds the
    probability of every level at that token. An empty answer is judged at the last token before it, a
    finished one also at the end of its turn.

    Tokens are read once for each ``run_id``; ``cached_runs`` must be no less than the answers that are
    written at the same time. Safe to call from several threads: one at a time goes ahead. The model is put
    in evaluation mode, and given a padding id.

    Args:
        model: decoder and head.
        tokenizer: the model's own, with a chat template.
        controversial: share of the probability of "controversial" that counts as unsafe, the rest counts as
            safe: 1 is the strict reading, 0.5 half, 0 the loose one.
        window: how many of an answer's last tokens are looked at, at least 1; no fewer than a segment has,
            or harm at its beginning goes unseen. None is all: for judging finished answers, or for
            thresholds that do not rise, since the reward of an answer then never rises either.
        max_length: most tokens the model reads; by default what model and tokenizer allow.
        batch_tokens: most tokens in one pass, padding included; a longer text goes alone.
        cached_runs: most runs whose keys and values are kept; 0 turns the cache off.
        name: for traces and error messages; by default the model's class.

    Raises:
        ConfigurationError: a setting is out of range, or tokenizer or lengths do not fit the model.
    """

    def __init__(
        self,
        model: StreamGuard,
        tokenizer: PreTrainedTokenizerBase,
        *,
        controversial: float = 1.0,
        window: int | None = WINDOW,
        max_length: int | None = None,
        batch_tokens: int = PASS_TOKENS,
        cached_runs: int = CACHED_RUNS,
        name: str | None = None,
    ) -> None:
        self.name = name or type(model).__name__
        check_sizes(batch_tokens, cached_runs)
        _check_settings(controversial, window)
        self._levels = level_names(model.config)
        shares = {UNSAFE: 1.0, CONTROVERSIAL: controversial}
        unsafe = torch.tensor([shares.get(level.lower(), 0.0) for level in self._levels])
        self._log_shares = (1 - unsafe).log(), unsafe.log()
        self._window = window or 0
        self._tokenizer = tokenizer
        self._max_length = most_tokens(model, tokenizer, max_length)
        self._batch_tokens = batch_tokens
        self._scorer = TokenScorer(model.train(False), set_pad_id(model, tokenizer), cached_runs)
        self._lock = ForkedLock()
        self._check_tokenizer()

    @classmethod
    def load(
        cls,
        path_or_id: str | Path,
        *,
        controversial: float = 1.0,
        window: int | None = WINDOW,
        max_length: int | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        batch_tokens: int = PASS_TOKENS,
        cached_runs: int = CACHED_RUNS,
        name: str | None = None,
        **options: Any,
    ) -> StreamGuardReward:
        """Load model and tokenizer from a folder, the local cache or the Hugging Face hub.

        Code that comes with the weights is not run. ``controversial``, ``window``, ``max_length``,
        ``batch_tokens``, ``cached_runs`` and ``name`` are those of the constructor; the name is by default
        the last part of ``path_or_id``.

        Args:
            path_or_id: a folder, or a model id.
            device: where the model goes; by default the GPU if there is one. Not with ``device_map``.
            dtype: precision of the weights; by default the one they were saved in.
            options: passed on to ``from_pretrained``.

        Raises:
            ConfigurationError: no such model is there, some of its weights are missing or of other sizes, or
                a setting does not fit it.
        """
        where = str(path_or_id)
        # Weights of another size are then refused by their names, which transformers' own error leaves out.
        options = {"ignore_mismatched_sizes": True} | options
        model, tokenizer = load_pretrained(StreamGuard, "stream guard", where, dtype, device, options)
        return cls(
            model,
            tokenizer,
            controversial=controversial,
            window=window,
            max_length=max_length,
            batch_tokens=batch_tokens,
            cached_runs=cached_runs,
            name=name or Path(where).name,
        )

    @property
    def tokens_fed(self) -> int:
        """Tokens that went through the model so far, without padding."""
        return self._scorer.tokens_fed

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """One reward per request, in order.

        Requests with a ``run_id`` use that run's cache; those without use none.

        Raises:
            ScoringError: the deadlines of all requests passed before the last pass.
            Exception: whatever tokenizer and model raise.
        """
        with self._lock, torch.inference_mode():
            rows = [self._encode(request) for request in requests]
            logits: dict[int, torch.Tensor] = {}
            for run_id, indices in by_run(requests, self._scorer).items():
                logits.update(self._logits(run_id, indices, rows, requests))
            return [self._reward(logits[index], row) for index, row in enumerate(rows)]

    def release(self, run_id: str) -> None:
        """Forget the keys and values of a run."""
        with self._lock:
            self._scorer.release(run_id)

    def _logits(
        self, run_id: str, indices: list[int], rows: Sequence[_Row], requests: Sequence[ScoreRequest]
    ) -> dict[int, torch.Tensor]:
        in_time = partial(check_time, self.name, requests)
        in_time()
        if run_id:
            read = self._scorer.logits_of_run(run_id, [rows[index].ids for index in indices], in_time)
            return dict(zip(indices, read, strict=True))
        logits: dict[int, torch.Tensor] = {}
        for batch in plan_batches({index: len(rows[index].ids) for index in indices}, self._batch_tokens):
            in_time()
            read = self._scorer.logits([rows[index].ids for index in batch])
            logits.update(zip(batch, read, strict=True))
        return logits

    def _reward(self, logits: torch.Tensor, row: _Row) -> Reward:
        judged = logits[row.start :][-self._window :]
        safe, unsafe = (torch.logsumexp(judged + shares, dim=1) for shares in self._log_shares)
        odds = safe - unsafe
        worst = int(odds.argmin())
        levels = judged[worst].softmax(dim=0).tolist()
        return Reward(
            float(odds[worst]),
            truncated_tokens=row.dropped,
            components=dict(zip(self._levels, levels, strict=True)),
        )

    def _encode(self, request: ScoreRequest) -> _Row:
        """The conversation by the chat template, the assistant's turn open until the answer is finished.

        The answer is tokenized on its own, so that no token is half of it: as the tokens of a language model
        with this vocabulary, which the classifier was made to follow.
        """
        turns = request.prompt.as_messages()
        written = [harmless(self._tokenizer, turn["role"], turn["content"]) for turn in turns]
        messages = [Message(role=role, content=content) for role, content in written]
        messages.append(Message(role="assistant", content=_ANSWER))
        opening, _, closing = chat_text(self._tokenizer, messages, opening=False).rpartition(_ANSWER)
        (response,) = harmless(self._tokenizer, request.response)
        texts = {PROMPT: opening, RESPONSE: response, SPECIAL: closing if request.finished else ""}
        tokens = [(token, origin) for origin, text in texts.items() for token in self._tokens(text)]
        return _fitted(tokens, self._max_length)

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return ids

    def _check_tokenizer(self) -> None:
        """Encode a text longer than allowed, so that what cannot work fails now and not in an answer."""
        if not self._tokenizer.chat_template:
            raise ConfigurationError(
                f"the tokenizer of {self.name} has no chat template; put the chat_template.jinja or "
                "tokenizer_config.json that belongs to the model into its folder"
            )
        words = "word " * min(self._max_length, 64)
        with failures_as(ConfigurationError, f"encoding a text for {self.name}"):
            self._encode(ScoreRequest(Prompt.of(words), "word", finished=True))


def _fitted(tokens: Sequence[tuple[int, TokenOrigin]], max_length: int) -> _Row:
    stay = [tokens[index] for index in kept([origin for _, origin in tokens], max_length)]
    # Without a token of the answer, what is judged is the state that the answer would follow.
    start = next((index for index, (_, origin) in enumerate(stay) if origin != PROMPT), len(stay) - 1)
    return _Row(tuple(token for token, _ in stay), start, len(tokens) - len(stay))


def _check_settings(controversial: float, window: int | None) -> None:
    if not 0 <= controversial <= 1:
        raise ConfigurationError(f"controversial must be a share from 0 to 1, got {controversial}")
    if window is not None and window < 1:
        raise ConfigurationError(f"window must be at least 1 token, or None for all, got {window}")
