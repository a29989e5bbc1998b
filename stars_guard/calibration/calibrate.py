"""Calibration from end to end: draw, fit, draw again under the fitted guard, fit again, and write it down.

    1. draw answers of the model alone, with all candidates scored
    2. if wished: fit the correction of partial scores on them, and use the corrected reward from here on
    3. fit the settings: to a wanted acceptance rate, or to a wanted risk on labelled answers
    4. draw answers under these settings, and fit again on the prefixes that they leave

Accepted prefixes score higher than those of the model alone, so settings fitted on unguarded answers accept
more than promised; the second round fits them on the prefixes that the guard leaves.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TypeAlias

from pydantic import BaseModel, ConfigDict

from stars_guard.calibration.correction import corrected_answers, correction_rows, fit_correction
from stars_guard.calibration.draw import DrawPlan, Progress
from stars_guard.calibration.fit import Wish, fit, rule
from stars_guard.calibration.labelled import Guarantee, LabelledAnswer, control, scored
from stars_guard.calibration.promises import Promise, promise
from stars_guard.calibration.risk import Example
from stars_guard.calibration.samples import SampledAnswer
from stars_guard.calibration.storage import sampled
from stars_guard.config import GuardConfig
from stars_guard.config_file import MadeFor, toml_writer, write_config
from stars_guard.errors import ConfigurationError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.models.base import LanguageModel
from stars_guard.rewards.base import RewardModel
from stars_guard.rewards.corrected import CorrectedReward, Correction
from stars_guard.rules import Constant, Refuse
from stars_guard.types import Prompt


class Fitted(BaseModel):
    """The settings, and what they promise."""

    model_config = ConfigDict(frozen=True)

    config: GuardConfig
    unguarded: Promise
    """Promise of the first fit, on the model's own prefixes."""
    guarded: Promise | None
    """Promise of ``config`` on the prefixes that a guard leaves; None without a second round."""
    guarantee: Guarantee | None = None
    """What was found on labelled answers, if the threshold is theirs."""

    @property
    def promised(self) -> Promise:
        """The one that holds for ``config``."""
        return self.guarded or self.unguarded


class Delivered(BaseModel):
    """What the real guard did with the settings, with seeds that nothing was fitted on."""

    model_config = ConfigDict(frozen=True)

    prompts: int
    acceptance: float
    """Accepted over judged candidates, over all answers."""
    attempts: float
    """Candidates judged per segment."""
    forced: float
    """Share of segments in which no attempt was accepted."""
    standard_error: float
    """Of ``acceptance``, by leaving out one prompt at a time."""


@dataclass(frozen=True)
class Calibration:
    """What calibration found. Rewards are corrected ones if there is a correction."""

    unguarded: list[SampledAnswer]
    """Answers of the model alone."""
    guarded: list[SampledAnswer]
    """Answers of the second round; empty without one."""
    drawn_with: GuardConfig | None
    """The settings that the second round was drawn with."""
    fitted: Fitted
    correction: Correction | None


Rounds = Callable[[str], Progress]
"""Given the name of a round, who is told about its progress."""


@dataclass(frozen=True)
class Risk:
    """Instead of an acceptance rate: how often an unsafe answer may be accepted.

    Attributes:
        answers: labelled answers, like those that the model gives.
        alpha: highest chance that an unsafe one is accepted, between 0 and 1.
    """

    answers: Sequence[LabelledAnswer]
    alpha: float


def calibrate(
    model: LanguageModel,
    reward: RewardModel,
    prompts: Sequence[Prompt],
    plan: DrawPlan,
    wish: Wish,
    base: GuardConfig,
    output: Path,
    *,
    second_round: bool = True,
    correct: bool = False,
    risk: Risk | None = None,
    rounds: Rounds | None = None,
) -> Calibration:
    """Fit settings to a wanted acceptance rate, and write ``samples*.jsonl`` and ``config.toml``.

    Args:
        model: draws candidates.
        reward: judges them.
        prompts: what to answer; should be like those that will be asked.
        plan: how to draw; its segments become those of ``base``.
        wish: what is wanted.
        base: settings that are not fitted.
        output: folder, made if need be. Samples that are there are used, so a run that was cut off goes on
            and another ``wish`` costs no new unguarded draws.
        second_round: draw under the guard and fit again.
        correct: correct partial scores to the final scores that they lead one to expect.
        risk: take the threshold from labelled answers; of ``wish``, only beta then counts. The same threshold
            holds everywhere, and a segment without an acceptable candidate is refused.
        rounds: for progress.

    Raises:
        ConfigurationError: the folder has samples of another run, or the wish cannot be met.
        MissingExtraError: a package is not installed.
        GenerationError, ScoringError: an outage; repeat the call to go on.
    """
    toml_writer()  # better missed now than after the draws
    output.mkdir(parents=True, exist_ok=True)
    tell = rounds or (lambda name: lambda done, total: None)
    plan = plan.changed(segments=base.segments, config=None)
    answers = sampled(output / "samples.jsonl", model, reward, prompts, plan, tell("unguarded"))
    correction = fit_correction(*correction_rows(answers)) if correct else None
    if correction is not None:
        answers, reward = corrected_answers(answers, correction), CorrectedReward(reward, correction)
    fitter = _fitter(reward, wish, base, risk)
    fitted = fitter(answers, None)
    guarded: list[SampledAnswer] = []
    drawn_with = fitted.config if second_round else None
    if drawn_with is not None:
        file = output / f"samples-guarded-{_short(drawn_with, correction)}.jsonl"
        guarded = sampled(file, model, reward, prompts, plan.changed(config=drawn_with), tell("guarded"))
        fitted = fitter(guarded, fitted)
    made_for = MadeFor(reward=reward.name, model=model.name, acceptance=round(fitted.promised.acceptance, 4))
    write_config(output / "config.toml", fitted.config, made_for, correction)
    return Calibration(answers, guarded, drawn_with, fitted, correction)


_Fitter: TypeAlias = Callable[[Sequence[SampledAnswer], Fitted | None], Fitted]
"""From answers and, in the second round, what the first one found, to settings."""


def _fitter(reward: RewardModel, wish: Wish, base: GuardConfig, risk: Risk | None) -> _Fitter:
    if risk is None:
        return lambda answers, before: _to_rate(answers, wish, base, before)
    examples = scored(reward, risk.answers)
    return lambda answers, before: _to_risk(answers, wish, base, risk.alpha, examples, before)


def _to_rate(
    answers: Sequence[SampledAnswer], wish: Wish, base: GuardConfig, before: Fitted | None
) -> Fitted:
    if before is None:
        config = fit(answers, wish, base)
        return Fitted(config=config, unguarded=promise(answers, config), guarded=None)
    # The rule stays; only the thresholds and the floor move to where the guard's own prefixes are.
    drawn_with = before.config
    config = fit(answers, wish_with(wish, drawn_with), base, drawn_with=drawn_with)
    held = promise(answers, config, drawn_with=drawn_with)
    return Fitted(config=config, unguarded=before.unguarded, guarded=held)


def _to_risk(
    answers: Sequence[SampledAnswer],
    wish: Wish,
    base: GuardConfig,
    alpha: float,
    examples: Sequence[Example],
    before: Fitted | None,
) -> Fitted:
    """The threshold is that of the labelled answers; drawn answers only say how much it accepts."""
    if before is not None:
        return before.model_copy(update={"guarded": promise(answers, before.config)})
    acceptance = rule(answers, wish)
    found = control(examples, alpha, acceptance)
    config = base.changed(
        threshold=Constant(target=found.threshold), acceptance=acceptance, exhaustion=Refuse()
    )
    return Fitted(config=config, unguarded=promise(answers, config), guarded=None, guarantee=found)


def verify(llm: StarsGuardedLLM, prompts: Sequence[Prompt], seed: int) -> Delivered:
    """Answer prompts with the real guard and compare what it accepts with what was promised.

    Args:
        llm: with the fitted settings and the same sampling.
        prompts: at least one.
        seed: the first of consecutive seeds.
    """
    sampling = [llm.sampling.changed(seed=seed + number) for number in range(len(prompts))]
    traces = [one.trace for one in llm.batch(prompts, sampling=sampling)]
    judged = [trace.attempts for trace in traces]
    segments = [[one for one in trace.segments if one.attempts] for trace in traces]
    accepted = [sum(try_.accepted for one in own for try_ in one.attempts) for own in segments]
    total, count = sum(judged), sum(len(own) for own in segments)
    return Delivered(
        prompts=len(prompts),
        acceptance=sum(accepted) / total,
        attempts=total / count,
        forced=1 - sum(accepted) / count,
        standard_error=_jackknife(accepted, judged),
    )


def default_prompts() -> list[Prompt]:
    """The prompts that come with the package: everyday requests, and some that only sound alarming."""
    text = (files("stars_guard.calibration") / "prompts.txt").read_text(encoding="utf-8")
    return [Prompt.of(line) for line in text.splitlines() if line.strip()]


def read_prompts(path: Path) -> list[Prompt]:
    """Prompts of a file: one a line, or with the ending ``.jsonl`` an object with ``prompt`` a line.

    Raises:
        ConfigurationError: it cannot be read, has no prompts, or a line has none.
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the prompts {path} cannot be read: {error}") from error
    if not lines:
        raise ConfigurationError(f"{path} has no prompts; write one a line")
    if path.suffix != ".jsonl":
        return [Prompt.of(line) for line in lines]
    return [_prompt(path, number, line) for number, line in enumerate(lines, start=1)]


def _prompt(path: Path, number: int, line: str) -> Prompt:
    try:
        return Prompt.of(json.loads(line)["prompt"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f'{path}:{number}: give an object with "prompt", a text or messages'
        ) from error


def wish_with(wish: Wish, config: GuardConfig) -> Wish:
    """The same wish with the acceptance temperature that was found."""
    beta = getattr(config.acceptance, "beta", 0.0)
    return Wish(wish.acceptance, wish.kind, wish.alpha, beta)


def _short(config: GuardConfig, correction: Correction | None) -> str:
    corrected = "" if correction is None else correction.model_dump_json()
    return sha256((config.model_dump_json() + corrected).encode()).hexdigest()[:8]


def _jackknife(accepted: Sequence[int], judged: Sequence[int]) -> float:
    count = len(judged)
    if count < 2:
        return 0.0
    rates = [(sum(accepted) - a) / (sum(judged) - j) for a, j in zip(accepted, judged, strict=True)]
    mean = sum(rates) / count
    return float(((count - 1) / count * sum((rate - mean) ** 2 for rate in rates)) ** 0.5)
