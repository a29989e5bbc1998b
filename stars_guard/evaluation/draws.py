"""Plain answers drawn segment by segment, several continuations at each prefix, all of them scored.

They say how widely a reward spreads, and how well what it says of a prefix foretells what it says later. They
are drawn once and kept in the folder of the evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median, pstdev

from stars_guard.calibration.draw import Progress
from stars_guard.calibration.samples import SampledAnswer, SampledPosition, positions_at
from stars_guard.calibration.storage import sampled
from stars_guard.evaluation.cells import Cell, guard_of, settings_of
from stars_guard.evaluation.config import EvalPlan
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.methods.plain import Plain
from stars_guard.evaluation.methods.scale import RewardScale, ScaleAt
from stars_guard.evaluation.tasks.prompts import EvalPrompt

_PROMPTS = 32
"""Prompts that are answered where an evaluation does not say how many; all where there are fewer."""


def plain_draws(
    evaluation: EvalPlan,
    folder: EvalFolder,
    task: str,
    guiding: tuple[str, str],
    prompts: Sequence[EvalPrompt],
    progress: Progress | None = None,
) -> list[SampledAnswer]:
    """Plain answers to a task's first prompts; those that are in the folder are not drawn again.

    Args:
        evaluation: says how many prompts and candidates.
        folder: its output.
        task: name of the task.
        guiding: names of the reward that scores and of the model that draws, both of the evaluation.
        prompts: those of the task.
        progress: told how many are there, of how many, before the first and after each.

    Raises:
        ConfigurationError: what is there was drawn otherwise, or sampling is greedy.
        GenerationError, ScoringError: an outage.
    """
    reward, model = guiding
    cell = Cell(task, "plain", Plain(reward=reward, model=model))
    guard, (_, sampling) = guard_of(evaluation, cell), settings_of(evaluation, cell)
    asked = [prompt.as_prompt for prompt in prompts[: evaluation.draws.prompts or _PROMPTS]]
    plan = evaluation.draws.plan(sampling)
    return sampled(folder.draws(task, reward, model), guard.model, guard.reward, asked, plan, progress)


def scale_of(answers: Sequence[SampledAnswer]) -> RewardScale:
    """Mean and standard deviation of the rewards of all segments drawn, and by position."""
    longest = max(len(answer.positions) for answer in answers)
    by_segment = [positions_at(answers, segment) for segment in range(longest)]
    everywhere = _scale_at([position for positions in by_segment for position in positions])
    return RewardScale(
        mean=everywhere.mean,
        spread=everywhere.spread,
        positions=tuple(_scale_at(positions) for positions in by_segment),
    )


def _scale_at(positions: Sequence[SampledPosition]) -> ScaleAt:
    rewards = [reward for position in positions for reward in position.rewards]
    tokens = [count for position in positions for count in position.tokens]
    return ScaleAt(tokens=median(tokens), mean=fmean(rewards), spread=pstdev(rewards))
