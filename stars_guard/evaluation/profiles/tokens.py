"""Where the drawn tokens of answers went."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stars_guard.algorithm.trace import Trace, Verdict
from stars_guard.evaluation.profiles.traced import TracedAnswer
from stars_guard.evaluation.statistics.estimates import MeanEstimate, bootstrapped_amount
from stars_guard.evaluation.statistics.ratios import bootstrapped_ratio, values_by_prompt
from stars_guard.settings import StoredRecord


class TokenFates(StoredRecord):
    """Means per answer. All but the first add up to the first."""

    proposed: MeanEstimate
    """Tokens drawn."""
    kept: MeanEstimate
    """Tokens of the answer, those of openings included."""
    rejected: MeanEstimate
    """Tokens of candidates that were judged and not chosen, where another was accepted."""
    hopeless: MeanEstimate | None = None
    """Tokens of candidates that were judged and not chosen, where none was accepted; None in older records,
    where they are among the rejected ones."""
    withdrawn: MeanEstimate
    """Tokens of segments that were accepted, and taken back before they were shown."""
    ahead_wasted: MeanEstimate
    """Tokens drawn ahead of a candidate that was then not accepted."""
    unseen: MeanEstimate
    """Tokens that no one judged: candidates past the first accepted, and what a stop string cut off."""


def token_fates(answers: Sequence[TracedAnswer], seed: int) -> TokenFates | None:
    """Where the tokens went; None without answers.

    Args:
        answers: of one method to one task.
        seed: of the resampling.
    """
    counts = [(answer.prompt, _counted(answer)) for answer in answers]
    means = {
        fate: bootstrapped_amount(values_by_prompt((prompt, count[fate]) for prompt, count in counts), seed)
        for fate in TokenFates.model_fields
    }
    known = {fate: mean for fate, mean in means.items() if mean is not None}
    return TokenFates(**known) if known else None


def price_of_tokens(answers: Sequence[TracedAnswer], seed: int) -> MeanEstimate | None:
    """Tokens drawn for each one kept, of all answers together; None without answers.

    Args:
        answers: of one method to one task.
        seed: of the resampling.
    """
    spent = [(float(item.usage.proposed_tokens), float(item.usage.kept_tokens)) for item in answers]
    prompts = [item.prompt for item in answers]
    return bootstrapped_ratio(values_by_prompt(zip(prompts, spent, strict=True)), seed)


def _counted(answer: TracedAnswer) -> dict[str, float]:
    usage = answer.usage
    gone = {
        "kept": usage.kept_tokens,
        "rejected": _not_chosen(answer.trace, hopeless=False),
        "hopeless": _not_chosen(answer.trace, hopeless=True),
        "withdrawn": sum(_withdrawn(answer.trace)),
        "ahead_wasted": usage.ahead_wasted_tokens,
    }
    return {
        **gone,
        "proposed": usage.proposed_tokens,
        "unseen": usage.proposed_tokens + _put(answer.trace) - sum(gone.values()),
    }


def _not_chosen(trace: Trace, *, hopeless: bool) -> int:
    """Tokens of candidates that were not chosen, of the segments with or without an accepted one."""
    passed = Verdict.ACCEPTED, Verdict.WITHDRAWN
    return sum(
        attempt.tokens
        for segment in trace.segments
        if (segment.verdict not in passed) is hopeless
        for attempt in segment.attempts
        if attempt.index != segment.chosen
    )


def _put(trace: Trace) -> int:
    """Tokens of openings, which are part of candidates, and were not drawn."""
    return sum(attempt.opening_tokens for segment in trace.segments for attempt in segment.attempts)


def _withdrawn(trace: Trace) -> Iterator[int]:
    for segment in trace.segments:
        if segment.verdict is Verdict.WITHDRAWN and segment.chosen is not None:
            yield segment.attempts[segment.chosen].tokens
