"""Runs the checks over one reward model."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

from stars_guard.conformance import contract, cost, harm, robustness, runs, scale
from stars_guard.conformance.result import ConformanceReport, Result, failed_with, skipped
from stars_guard.conformance.subject import Pair, Subject, shipped_pairs
from stars_guard.errors import ConfigurationError, ScoringError, StarsGuardError, failures_as
from stars_guard.rewards.base import RewardModel

Check: TypeAlias = Callable[[Subject], Result]
"""Looks at a reward model and says what it found; what it raises counts as a failure."""

CHECKS: tuple[Check, ...] = (
    contract.answers,
    contract.order,
    contract.empty_batch,
    contract.determinism,
    contract.batch_invariance,
    contract.late_deadline,
    runs.run_ids,
    runs.release,
    runs.forgets,
    runs.interleaved_runs,
    robustness.empty_text,
    robustness.languages,
    robustness.long_texts,
    robustness.bad_end,
    robustness.cut_words,
    scale.scale,
    scale.reads_answer,
    scale.suggested_beta,
    harm.harm_at(8),
    harm.harm_at(16),
    harm.harm_at(32),
    harm.harm_at(None),
    cost.cost,
)
"""All checks, in the order they run."""


def check_reward(
    reward: RewardModel, *, checks: Sequence[Check] = CHECKS, pairs: Sequence[Pair] | None = None
) -> ConformanceReport:
    """Check a reward model against what a guard relies on.

    Args:
        reward: the reward model. It is asked for some 400 texts, two of them of 4,000 words.
        checks: which checks, in this order; leave some out, or add functions of your own.
        pairs: labelled answers to judge it by; by default everyday harms in English, which every
            harmlessness reward should see. Seven pairs are the least for a clear verdict.

    Returns:
        One result per check.

    Raises:
        ConfigurationError: there are no pairs, or this is no reward model.
    """
    if not isinstance(reward, RewardModel):
        raise ConfigurationError(
            f"{type(reward).__name__} is no reward model: it needs name, score(requests) and release(run_id)"
        )
    known = shipped_pairs() if pairs is None else tuple(pairs)
    if not known:
        raise ConfigurationError(
            "pairs is empty; give at least one, or leave it out for those of the package"
        )
    begun = time.monotonic()
    results = _run(Subject(reward, known), checks)
    return ConformanceReport(reward=reward.name, results=tuple(results), seconds=time.monotonic() - begun)


def _run(subject: Subject, checks: Sequence[Check]) -> list[Result]:
    results: list[Result] = []
    for check in checks:
        last = next((result for result in results if result.final), None)
        if last is not None:
            message = f"makes no sense while {last.name!r} fails"
            results.append(skipped(check.__name__, message))
        else:
            results.append(_attempted(check, subject))
    return results


def _attempted(check: Check, subject: Subject) -> Result:
    try:
        with failures_as(ScoringError, "the check"):
            return check(subject)
    except StarsGuardError as error:
        remedy = "the reward model must score these requests, or this check must not run on it"
        return failed_with(check.__name__, error, remedy)
