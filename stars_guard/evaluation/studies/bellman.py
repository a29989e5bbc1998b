"""Bellman error of a reward: how far what it says of a beginning is from the mean of what it says later.

A reward of beginnings that is worth following is its own forecast: r(prefix) is the mean of r over what the
model writes next. The error bounds how well any method can do that decides by partial text, so it stands
beside what the guard gains with the same reward.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean, median, variance

from stars_guard.calibration.samples import SampledAnswer
from stars_guard.evaluation.analyses import BellmanAnalysis
from stars_guard.evaluation.config import BASELINE
from stars_guard.evaluation.draws import plain_draws, scale_of
from stars_guard.evaluation.statistics.estimates import MeanEstimate, bootstrapped
from stars_guard.evaluation.statistics.paired import Difference, paired_difference
from stars_guard.evaluation.studies.records import (
    PlotPoint,
    PlotSeries,
    StudyFinding,
    StudyPlot,
)
from stars_guard.evaluation.studies.studied import StudiedTask
from stars_guard.evaluation.tables import ReportTable, TableEntry
from stars_guard.settings import StoredRecord


class BellmanAt(StoredRecord):
    """The error at one position, in units of the reward's spread; means over prompts."""

    tokens: float
    """Response tokens of the beginnings; their median. 0 is the bare prompt."""
    error: MeanEstimate | None
    """Mean of ``|r(prefix) - mean r(continuations)|``. What the few continuations scatter is in it."""
    noise: float
    """Mean standard error of that mean of continuations: what a perfect forecast would still show of it."""
    bias: MeanEstimate | None
    """Mean of ``r(prefix) - mean r(continuations)``: over 0 where beginnings look better than they become."""
    to_end: MeanEstimate | None
    """Mean of ``|r(prefix) - r(whole answer)|``, for one way to go on."""


class GuardGain(StoredRecord):
    """What a method that the reward guides gains on the plain answers, by a judge that guided nothing."""

    method: str
    judge: str
    value: Difference | None
    """Mean difference of the judge's values, over the prompts that both answered."""
    harmful: Difference | None
    """Difference of the share of harmful answers, likewise; under 0 is a gain."""


class RewardForecast(StoredRecord):
    """One reward: its error, and what it is good for."""

    reward: str
    """Name of the reward in the evaluation."""
    spread: float
    """Standard deviation of its segment rewards on plain answers: the unit of the errors."""
    candidates: int
    """Continuations of each beginning."""
    error: MeanEstimate | None
    """The error over all positions."""
    positions: tuple[BellmanAt, ...]
    gains: tuple[GuardGain, ...]


class BellmanErrors(StoredRecord):
    """Every reward's error beside its gains."""

    rewards: tuple[RewardForecast, ...]


def bellman(task: StudiedTask, analysis: BellmanAnalysis) -> StudyFinding:
    """Bellman error of each reward by position, against what guarding with it gains.

    Args:
        task: after its evaluation.
        analysis: says which rewards.

    Raises:
        ConfigurationError: there is no such reward, or its draws in the folder were made otherwise.
    """
    names = analysis.rewards or tuple(task.evaluation.rewards)
    forecasts = [_forecast(task, name) for name in names]
    return task.finding(
        title="How far is the reward of a beginning from the mean reward of its continuations?",
        figures=BellmanErrors(rewards=tuple(forecasts)),
        table=_table(forecasts),
        plot=StudyPlot(
            x="response tokens",
            y="Bellman error, in spreads of the reward",
            series=tuple(
                PlotSeries(name=forecast.reward, points=_points(forecast.positions)) for forecast in forecasts
            ),
        ),
    )


def bellman_errors(answers: Sequence[SampledAnswer], spread: float, seed: int) -> list[BellmanAt]:
    """The error at each number of segments.

    Args:
        answers: plain ones, with several candidates at each prefix.
        spread: unit of the errors, in rewards.
        seed: of resampling.
    """
    longest = max(len(answer.positions) for answer in answers)
    return [_at(answers, number, spread or 1.0, seed) for number in range(longest)]


def _forecast(task: StudiedTask, reward: str) -> RewardForecast:
    evaluation = task.evaluation
    guiding = reward, next(iter(evaluation.models))
    answers = plain_draws(evaluation, task.folder, task.name, guiding, task.prompts)
    spread = scale_of(answers).spread
    errors = [
        (answer.prompt, abs(gap) / (spread or 1.0))
        for answer in answers
        for number in range(len(answer.positions))
        for gap in [_gap(answer, number)]
    ]
    return RewardForecast(
        reward=reward,
        spread=spread,
        candidates=evaluation.draws.candidates,
        error=_estimate(errors, evaluation.seed),
        positions=tuple(bellman_errors(answers, spread, evaluation.seed)),
        gains=tuple(_gains(task, reward)),
    )


def _before(answer: SampledAnswer, number: int) -> float:
    """Reward of the beginning that segment ``number`` continues."""
    return answer.path[number - 1] if number else answer.base_reward


def _gap(answer: SampledAnswer, number: int) -> float:
    return _before(answer, number) - fmean(answer.positions[number].rewards)


def _at(answers: Sequence[SampledAnswer], number: int, spread: float, seed: int) -> BellmanAt:
    going_on = [answer for answer in answers if number < len(answer.positions)]
    gaps = [(answer.prompt, _gap(answer, number) / spread) for answer in going_on]
    ends = [
        (answer.prompt, abs(_before(answer, number) - answer.final_reward) / spread) for answer in going_on
    ]
    scatter = [answer.positions[number].rewards for answer in going_on]
    return BellmanAt(
        tokens=median(answer.positions[number].prefix_tokens for answer in going_on),
        error=_estimate([(prompt, abs(gap)) for prompt, gap in gaps], seed),
        noise=fmean((variance(rewards) / len(rewards)) ** 0.5 for rewards in scatter) / spread,
        bias=_estimate(gaps, seed),
        to_end=_estimate(ends, seed),
    )


def _estimate(values: Sequence[tuple[int, float]], seed: int) -> MeanEstimate | None:
    grouped: dict[str, list[float]] = {}
    for prompt, value in values:
        grouped.setdefault(str(prompt), []).append(value)
    return bootstrapped(grouped, seed)


def _gains(task: StudiedTask, reward: str) -> list[GuardGain]:
    """Gains of the methods that this reward guides, where a judge looked at them."""
    evaluation = task.evaluation
    guided = {
        name: method
        for name, method in evaluation.methods_of(task.name).items()
        if name != BASELINE and method.guided and evaluation.names(task.name, method)[0] == reward
    }
    return [_gain(task, name) for name in guided] if task.has_judge else []


def _gain(task: StudiedTask, method: str) -> GuardGain:
    plain, guarded = task.cell(BASELINE), task.cell(method)
    judge, seed = task.judge, task.evaluation.seed
    return GuardGain(
        method=method,
        judge=judge,
        value=paired_difference(guarded.values(judge), plain.values(judge), seed),
        harmful=paired_difference(guarded.harm(judge), plain.harm(judge), seed),
    )


def _table(forecasts: Sequence[RewardForecast]) -> ReportTable:
    rows: list[tuple[TableEntry, ...]] = []
    for forecast in forecasts:
        about = forecast.reward, forecast.spread, forecast.error
        rows += [(*about, gain.method, *_with_intervals(gain)) for gain in forecast.gains]
        if not forecast.gains:
            rows.append((*about, None, None, None))
    return ReportTable(
        columns=(
            ("reward", "text"),
            ("spread", "number"),
            ("Bellman error, in spreads", "number"),
            ("guarded by it", "text"),
            ("gain in the judge's value", "number"),
            ("harmful, less plain", "share"),
        ),
        rows=tuple(rows),
        note="A gain is the difference to plain answers to the same prompts.",
    )


def _with_intervals(gain: GuardGain) -> Iterator[MeanEstimate | None]:
    for difference in (gain.value, gain.harmful):
        yield None if difference is None else difference.estimate


def _points(positions: Sequence[BellmanAt]) -> tuple[PlotPoint, ...]:
    return tuple(
        PlotPoint(x=at.tokens, y=at.error.value, low=at.error.low, high=at.error.high)
        for at in positions
        if at.error is not None
    )
