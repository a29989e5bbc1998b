"""What answers cost by how hard their prompts are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from stars_guard.evaluation.profiles.tokens import price_of_tokens
from stars_guard.evaluation.profiles.traced import TracedAnswer
from stars_guard.evaluation.statistics.estimates import MeanEstimate, bootstrapped, bootstrapped_amount, known
from stars_guard.evaluation.statistics.ratios import bootstrapped_median, bootstrapped_ratio, values_by_prompt
from stars_guard.settings import StoredRecord

QUARTERS = ("hardest", "hard", "easy", "easiest")
"""Names of the quarters of prompts, from what scores lowest."""


class DifficultyBand(StoredRecord):
    """A quarter of the prompts, by how hard they are."""

    name: str
    """One of ``QUARTERS``."""
    prompts: int
    attempts: MeanEstimate
    """Candidates judged an answer."""
    proposed_per_kept: MeanEstimate
    """Tokens drawn for each one kept."""
    rejected: MeanEstimate
    """Share of judged candidates that were not chosen."""
    refused: MeanEstimate
    """Share of answers that were refused."""
    forward_passes: MeanEstimate
    """Median of the passes through the model that an answer took part in, which no machine changes."""
    seconds: MeanEstimate | None = None
    """Median wall time of answers that were alone in the process; None where none of them was timed."""


def quarters(ease: Mapping[str, float]) -> dict[str, list[str]]:
    """Prompts in four groups of equal size, as nearly as can be, the hardest first.

    Args:
        ease: by id of a prompt; higher is easier. Equal ones are ordered by id.
    """
    ordered = sorted(ease, key=lambda prompt: (ease[prompt], prompt))
    edges = [round(len(ordered) * number / len(QUARTERS)) for number in range(len(QUARTERS) + 1)]
    groups = zip(QUARTERS, edges, edges[1:], strict=False)
    return {name: ordered[begin:end] for name, begin, end in groups if begin < end}


def difficulty_bands(
    answers: Sequence[TracedAnswer],
    ease: Mapping[str, float],
    seconds: Mapping[str, Sequence[float]],
    seed: int,
) -> list[DifficultyBand]:
    """Costs by quarter of the prompts; those that no answer is there for are left out.

    Args:
        answers: of one method to one task.
        ease: of each prompt, by id; higher is easier.
        seconds: wall time of answers that were alone, by id of the prompt.
        seed: of the resampling.
    """
    groups = {
        name: [answer for answer in answers if answer.prompt in set(prompts)]
        for name, prompts in quarters(ease).items()
    }
    return [_band(name, group, seconds, seed) for name, group in groups.items() if group]


def _band(
    name: str, answers: Sequence[TracedAnswer], seconds: Mapping[str, Sequence[float]], seed: int
) -> DifficultyBand:
    prompts = {answer.prompt for answer in answers}

    def by_prompt(which: Callable[[TracedAnswer], float]) -> dict[str, list[float]]:
        return values_by_prompt((answer.prompt, float(which(answer))) for answer in answers)

    return DifficultyBand(
        name=name,
        prompts=len(prompts),
        attempts=known(bootstrapped_amount(by_prompt(lambda answer: answer.trace.attempts), seed)),
        proposed_per_kept=known(price_of_tokens(answers, seed)),
        rejected=known(rejected_candidates(answers, seed)),
        refused=known(bootstrapped(by_prompt(lambda answer: answer.row.refused is True), seed)),
        forward_passes=known(bootstrapped_median(by_prompt(lambda a: a.usage.forward_passes), seed)),
        seconds=bootstrapped_median(
            {prompt: seconds[prompt] for prompt in sorted(prompts & set(seconds))}, seed
        ),
    )


def rejected_candidates(answers: Sequence[TracedAnswer], seed: int) -> MeanEstimate | None:
    """Share of judged candidates that were not chosen, of all answers together; None without answers.

    Args:
        answers: of one method to one task.
        seed: of the resampling.
    """
    counts = ((a.prompt, (float(len(a.rejected)), float(a.trace.attempts))) for a in answers)
    return bootstrapped_ratio(values_by_prompt(counts), seed)
