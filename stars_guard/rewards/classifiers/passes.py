"""What goes into one pass of a classifier: which texts together, how long, and if there is time for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stars_guard.errors import ConfigurationError, ScoringError
from stars_guard.rewards.base import ScoreRequest, seconds_left
from stars_guard.rewards.classifiers.causal import CausalReader

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PASS_TOKENS = 16384
"""Most tokens in one pass, padding included, unless told otherwise."""
CACHED_RUNS = 64
"""Most guarded answers whose keys and values are kept, unless told otherwise."""
_NO_LIMIT = 1_000_000  # tokenizers without a maximum length say 1e30
# Families that number positions from pad_token_id + 1, so that many position embeddings are never used.
_OFFSET_POSITIONS = (
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
    "roberta-prelayernorm",
    "camembert",
    "data2vec-text",
    "ibert",
    "longformer",
    "luke",
    "mpnet",
    "xmod",
)


def by_run(requests: Sequence[ScoreRequest], reader: CausalReader[Any] | None) -> dict[str, list[int]]:
    """Indices of the requests of each run; all under "" if ``reader`` caches no runs, or is None."""
    cached = reader is not None and reader.incremental
    groups: dict[str, list[int]] = {}
    for index, request in enumerate(requests):
        groups.setdefault(request.run_id if cached else "", []).append(index)
    return groups


def check_time(name: str, requests: Sequence[ScoreRequest]) -> None:
    """Refuse to read on for requests that nobody waits for any more; ``name`` is the reward model's.

    Raises:
        ScoringError: the deadlines of all passed.
    """
    if seconds_left(requests) == 0:
        raise ScoringError(f"{name} had no time to read to the end; allow more time")


def plan_batches(lengths: Mapping[int, int], batch_tokens: int) -> list[list[int]]:
    """Cut into batches of similar length: each, padded to its longest, holds at most ``batch_tokens``.

    ``lengths`` maps an index to its tokens; a text longer than ``batch_tokens`` is a batch of its own.
    """
    batches: list[list[int]] = []
    for index in sorted(lengths, key=lengths.__getitem__):
        if not batches or (len(batches[-1]) + 1) * lengths[index] > batch_tokens:
            batches.append([])
        batches[-1].append(index)
    return batches


def check_sizes(batch_tokens: int, cached_runs: int) -> None:
    """Refuse sizes that no pass and no cache can have.

    Raises:
        ConfigurationError: ``batch_tokens`` is under 1, or ``cached_runs`` under 0.
    """
    if batch_tokens < 1:
        raise ConfigurationError(f"batch_tokens must be at least 1, got {batch_tokens}")
    if cached_runs < 0:
        raise ConfigurationError(f"cached_runs must be 0 (no cache) or more, got {cached_runs}")


def set_pad_id(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """The padding id; it is masked, so any will do, but models refuse batches without one in the config."""
    config = model.config.get_text_config()
    if config.pad_token_id is None or config.pad_token_id < 0:
        candidates = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        config.pad_token_id = next(candidate for candidate in candidates if candidate is not None)
    return int(config.pad_token_id)


def most_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, wanted: int | None) -> int:
    """Tokens that a model reads at most: those wanted, or else what model and tokenizer allow.

    Args:
        model: says how many positions it has, if it does.
        tokenizer: says how much it takes, if it does.
        wanted: tokens, at least 1; None is as many as possible.

    Raises:
        ConfigurationError: more are wanted than there are positions, or none are and nothing says how many.
    """
    config = model.config.get_text_config()
    positions = getattr(config, "max_position_embeddings", None)
    if positions and config.model_type in _OFFSET_POSITIONS:
        positions -= (config.pad_token_id or 0) + 1
    limits = [limit for limit in (positions, tokenizer.model_max_length) if limit and limit < _NO_LIMIT]
    if wanted is None and not limits:
        raise ConfigurationError("neither model nor tokenizer says how much it can read; pass max_length=")
    if wanted is None:
        return int(min(limits))
    if wanted < 1 or (positions and wanted > positions):
        raise ConfigurationError(
            f"max_length must be between 1 and {positions or 'any'} tokens, got {wanted}"
        )
    return wanted
