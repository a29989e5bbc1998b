"""What answers cost by how hard their prompts are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stars_guard.evaluation.profiles.tokens import price_of_tokens
from stars_guard.evaluation.profiles.traced import TracedAnswer
from stars_guard.evaluation.statistics.estimates import MeanEstimate, bootstrapped
from stars_guard.evaluation.statistics.ratios import bootstrapped_median, values_by_prompt
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
    refused: MeanEstimate
    """Share of answers that were refused."""
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
    bands = [
        _band(name, [answer for answer in answers if answer.prompt in set(prompts)], seconds, seed)
        for name, prompts in quarters(ease).items()
    ]
    return [band for band in bands if band is not None]


def _band(
    name: str, answers: Sequence[TracedAnswer], seconds: Mapping[str, Sequence[float]], seed: int
) -> DifficultyBand | None:
    attempts = bootstrapped(values_by_prompt((a.prompt, float(a.trace.attempts)) for a in answers), seed)
    refused = bootstrapped(values_by_prompt((a.prompt, float(a.row.refused is True)) for a in answers), seed)
    price = price_of_tokens(answers, seed)
    if attempts is None or refused is None or price is None:
        return None
    prompts = {answer.prompt for answer in answers}
    return DifficultyBand(
        name=name,
        prompts=len(prompts),
        attempts=attempts,
        proposed_per_kept=price,
        refused=refused,
        seconds=bootstrapped_median(
            {prompt: seconds[prompt] for prompt in sorted(prompts & set(seconds))}, seed
        ),
    )
