"""What a model may share, proven by running it: a few passes over a few tokens, when it is constructed.

A cache that a model ignores, keeps elsewhere or reads at other positions gives wrong text without an error.
So no name is trusted: what the loop does later (reading in pieces, forking, padding, rejecting, taking a row
back out) is done once, and must give the logits of a pass that shares nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from stars_guard.errors import ConfigurationError
from stars_guard.models.local import prefix_cache
from stars_guard.models.local.call import Call, ways_to_call
from stars_guard.models.local.passes import Passes
from stars_guard.models.local.prefix_cache import Rows
from stars_guard.models.local.rounding import Reference, distance
from stars_guard.models.local.sharing import Sharing, turning_points

_log = logging.getLogger("stars_guard")
_Result = TypeVar("_Result")

TOKENS = 8
"""Different tokens that a proof takes, where the vocabulary has as many."""
_PLACES = (0, 1, 2, 3, 0, 4, 5, 6)
"""The text of a proof; its first token comes twice."""
_REPEATED = 4
_SHORT, _LONG = 3, 6
"""Tokens of its two beginnings that candidates go on from."""


def proven(model: PreTrainedModel, ids: Sequence[int], name: str) -> Sharing:
    """What candidates of a model may share. Where that is not everything, a warning says why.

    Args:
        model: a causal LM in evaluation mode.
        ids: tokens of its vocabulary, ``TOKENS`` of them: :func:`tokens_to_try`.
        name: of the model, for messages.

    Raises:
        ConfigurationError: the model cannot be used at all, and why.
    """
    text = [ids[place % len(ids)] for place in _PLACES]
    wrong = ids[-1]
    calls = ways_to_call(model)
    sharing = _most_shared(model, calls, text, wrong)
    if not sharing.shared:
        _check_alone(model, calls[0], text, name)
        _log.warning(
            "%s: candidates share nothing (%s): every token is drawn from a pass over the whole text, one "
            "candidate at a time, which is exact and slow",
            name,
            sharing.reason,
        )
    elif not sharing.padded:
        _log.warning("%s: only answers of equal length are drawn together (%s)", name, sharing.reason)
    return sharing


def _most_shared(model: PreTrainedModel, calls: Sequence[Call], text: list[int], wrong: int) -> Sharing:
    """The most that any way of calling a model allows."""
    nothing = Sharing(calls[0], shared=False, in_pieces=False, padded=False)
    if calls[0].cache is None:
        return replace(nothing, reason="its forward pass takes no cache")
    reference, reason = _attempt(lambda: Reference(model, calls[0], text, _REPEATED))
    if reference is None:
        return replace(nothing, reason=reason)
    results = []
    for call in calls:
        trial = _Trial(model, call, reference, text, wrong)
        results.append(_attempt(trial.run))
        sharing = results[-1][0]
        if sharing is not None and sharing.padded:
            return sharing
    weaker = [sharing for sharing, _ in results if sharing is not None]
    return weaker[0] if weaker else replace(nothing, reason=results[0][1])


def tokens_to_try(tokenizer: Any, config: PreTrainedConfig) -> list[int]:
    """Different tokens for a proof: ordinary ones, and the one for padding, by which some count positions.

    The ordinary ones are from where tokenizers have their frequent ones: rare ones were hardly seen by the
    model, and round badly.

    Args:
        tokenizer: of the model.
        config: of the model.
    """
    control = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    known = range(min(len(tokenizer), config.get_text_config().vocab_size))
    ids = [token for token in known if token not in control] or list(known)
    frequent = ids[len(ids) // 64 :][: max(TOKENS, len(ids) // 16)]
    tokens = [frequent[place * len(frequent) // TOKENS] for place in range(TOKENS)]
    padding = getattr(config.get_text_config(), "pad_token_id", None)
    if isinstance(padding, int) and padding in known:
        tokens[1] = padding
    return tokens


class _Unproven(Exception):  # noqa: N818 - a finding, not an error
    """Something came out otherwise; the message says what."""


class _Trial:
    """One way of calling a model, tried."""

    def __init__(
        self, model: PreTrainedModel, call: Call, reference: Reference, text: list[int], wrong: int
    ) -> None:
        self._config = model.config
        self._sharing = Sharing(
            call, shared=True, in_pieces=True, padded=True, turning_points=turning_points(model.config)
        )
        self._passes = Passes(model, self._sharing)
        self._reference = reference
        self._text = text
        self._wrong = wrong

    def run(self) -> Sharing:
        """What may be shared.

        Raises:
            _Unproven: nothing may.
        """
        short = self._read(_SHORT)
        if not prefix_cache.holds(short):
            raise _Unproven("it keeps its state elsewhere than in the cache that it is given")
        on, _ = _attempt(lambda: self._read_on(short))
        long = on or self._read(_LONG)
        padded, reason = _attempt(lambda: self._draw_padded(short, long))
        if not padded:
            self._draw_forked(long)
        return replace(self._sharing, in_pieces=on is not None, padded=bool(padded), reason=reason)

    def _read(self, tokens: int) -> Rows:
        cache = prefix_cache.empty(self._config)
        logits = self._feed([self._text[:tokens]], cache, 0)
        self._check(logits[0], tokens - 1, "a pass that fills a cache")
        return cache

    def _read_on(self, short: Rows) -> Rows:
        if not prefix_cache.is_plain(short):
            raise _Unproven("a recurrent state is not read on from by several tokens")
        cache = prefix_cache.join_rows([short], [_SHORT], room=_LONG - _SHORT)
        logits = self._feed([self._text[_SHORT:_LONG]], cache, _SHORT)
        self._check(logits[0], _LONG - 1, "several tokens read after a cache")
        return prefix_cache.take(cache, 0, _LONG)

    def _draw_padded(self, short: Rows, long: Rows) -> bool:
        """Rows of unlike length: one is rejected, the other accepted; then one is dropped."""
        rows = prefix_cache.join_rows([long, short], [_LONG, _SHORT], room=1)
        logits = self._feed([[self._wrong], [self._text[_SHORT]]], rows, _LONG, [0, _LONG - _SHORT])
        self._check(logits[1], _SHORT, "a padded row")
        longer = prefix_cache.take(rows, 1, _SHORT + 1)
        rows = prefix_cache.join_rows([long, longer, long], [_LONG, _SHORT + 1, _LONG], room=1)
        rows.reorder_cache(torch.tensor([1, 2], device=self._passes.device))  # type: ignore[arg-type]
        new = [[self._text[_SHORT + 1]], [self._text[_LONG]]]
        logits = self._feed(new, rows, _LONG, [_LONG - _SHORT - 1, 0])
        self._check(logits[0], _SHORT + 1, "a row that was taken out of a batch")
        self._check(logits[1], _LONG, "a cache that was forked anew after a rejection")
        return True

    def _draw_forked(self, long: Rows) -> None:
        """Rows of one length: both are rejected; then one is accepted."""
        wrong, right = [self._wrong], self._text[_LONG:]
        for second in (wrong, right[:1]):
            rows = prefix_cache.join_rows([long, long], [_LONG, _LONG], room=1)
            logits = self._feed([wrong, second], rows, _LONG)
        self._check(logits[1], _LONG, "a forked cache")
        rows = prefix_cache.take(rows, 1, _LONG + 1)
        logits = self._feed([right[1:2]], rows, _LONG + 1)
        self._check(logits[0], _LONG + 1, "a row that was taken out of a batch")

    def _feed(
        self, ids: list[list[int]], cache: Rows, cached: int, padding: Sequence[int] = ()
    ) -> torch.Tensor:
        return self._passes.forward(torch.tensor(ids), cache, cached=cached, padding=padding)[0]

    def _check(self, logits: torch.Tensor, place: int, what: str) -> None:
        if not self._reference.agrees(place, logits):
            raise _Unproven(f"{what} gives other logits than a pass without a cache")


def _check_alone(model: PreTrainedModel, call: Call, text: list[int], name: str) -> None:
    """Raise ``ConfigurationError`` unless passes that share nothing can be relied on."""

    def read(ids: list[int]) -> torch.Tensor:
        whole = torch.tensor([ids], device=model.device)
        with torch.inference_mode():
            logits: torch.Tensor = model(**call.alone(whole, last=True)).logits[0, -1].float()
        return logits

    texts, reason = _attempt(lambda: [read(ids) for ids in (text, text[::-1], text)])
    if texts is None:
        reason = f"a pass over {len(text)} tokens without a cache failed: {reason}"
    elif texts[0].isnan().any():
        reason = "its logits are no numbers; try dtype='float32' or 'bfloat16'"
    elif distance(texts[0], texts[2]) > 0.01 * distance(texts[0], texts[1]):
        reason = "the same text, read again, gives other logits"
    if reason:
        raise ConfigurationError(f"{name} cannot be used: {reason}")


def _attempt(work: Callable[[], _Result]) -> tuple[_Result | None, str]:
    """What came of it; or None, and why."""
    try:
        return work(), ""
    except (_Unproven, ConfigurationError) as finding:
        return None, str(finding)
    except Exception as error:  # noqa: BLE001 - a model may fail in any way, which is a finding too
        line = next(iter(str(error).splitlines()), "")
        return None, f"{type(error).__name__}: {line}"
