"""All costs of a method's answers, each with its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from stars_guard.evaluation.methods.costs import first_text_seconds
from stars_guard.evaluation.profiles.difficulty import DifficultyBand, difficulty_bands
from stars_guard.evaluation.profiles.positions import PositionProfile, position_profiles
from stars_guard.evaluation.profiles.stalls import Stalls, waits_between_texts
from stars_guard.evaluation.profiles.tokens import TokenFates, price_of_tokens, token_fates
from stars_guard.evaluation.profiles.traced import TracedAnswer
from stars_guard.evaluation.statistics.estimates import MeanEstimate, bootstrapped_amount
from stars_guard.evaluation.statistics.ratios import bootstrapped_median, values_by_prompt
from stars_guard.result import Usage
from stars_guard.settings import StoredRecord


class CostProfile(StoredRecord):
    """Costs of one method on one task; means per answer unless they say otherwise."""

    tokens: TokenFates | None
    proposed_per_kept: MeanEstimate | None
    """Tokens drawn for each one kept, of all answers together."""
    reward_calls: MeanEstimate | None
    forward_passes: MeanEstimate | None
    attempts: MeanEstimate | None
    """Candidates judged."""
    forced_segments: MeanEstimate | None
    """Segments that no candidate earned."""
    seconds: MeanEstimate | None
    """Median wall time of answers that were alone in the process."""
    seconds_to_first_text: MeanEstimate | None
    """Median wall time until their first text could be shown, which of a refused answer is its refusal."""
    most_seconds: float | None
    """Wall time of the slowest of them."""
    positions: list[PositionProfile]
    bands: list[DifficultyBand]
    """By difficulty of the prompts, the hardest first."""
    stalls: Stalls | None


def cost_profile(
    answers: Sequence[TracedAnswer],
    timed: Mapping[str, Sequence[Usage]],
    ease: Mapping[str, float],
    seed: int,
) -> CostProfile:
    """The costs of a method on a task.

    Args:
        answers: those that ended without an error.
        timed: usage of answers that were alone in the process, by id of the prompt.
        ease: of each prompt, by id; higher is easier.
        seed: of the resampling.
    """
    seconds = {prompt: [usage.seconds.total for usage in usages] for prompt, usages in timed.items()}
    firsts = {prompt: [first_text_seconds(usage) for usage in usages] for prompt, usages in timed.items()}

    def mean(which: Callable[[TracedAnswer], float]) -> MeanEstimate | None:
        return bootstrapped_amount(
            values_by_prompt((answer.prompt, float(which(answer))) for answer in answers), seed
        )

    return CostProfile(
        tokens=token_fates(answers, seed),
        proposed_per_kept=price_of_tokens(answers, seed),
        reward_calls=mean(lambda answer: answer.usage.reward_calls),
        forward_passes=mean(lambda answer: answer.usage.forward_passes),
        attempts=mean(lambda answer: answer.trace.attempts),
        forced_segments=mean(lambda answer: answer.trace.forced),
        seconds=bootstrapped_median(seconds, seed),
        seconds_to_first_text=bootstrapped_median(firsts, seed),
        most_seconds=max((most for times in seconds.values() for most in times), default=None),
        positions=position_profiles(answers, seed),
        bands=difficulty_bands(answers, ease, seconds, seed),
        stalls=waits_between_texts(answers, seed),
    )
