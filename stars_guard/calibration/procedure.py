"""Calibration from end to end: draw, fit, draw again under the fitted guard, fit again, and write it down.

    1. draw answers of the model alone, with all candidates scored
    2. if wished: fit the correction of partial scores on them, and use the corrected reward from here on
    3. fit the settings: to a wanted acceptance rate, or to a wanted risk on labelled answers
    4. draw answers under these settings, and fit again on guarded answers; repeat until the rate is there

Accepted prefixes score higher than those of the model alone, and depend on the settings that are looked for.
Answers of earlier guarded rounds still count, weighed as the new settings would leave them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TypeAlias

from stars_guard.algorithm.candidates import Adaptive
from stars_guard.algorithm.config import GuardConfig
from stars_guard.algorithm.rules import Constant, Refuse
from stars_guard.calibration.correction import corrected_answers, correction_rows, fit_correction
from stars_guard.calibration.draw import DrawPlan, Progress
from stars_guard.calibration.fit import Wish, fit, rule
from stars_guard.calibration.labelled import LabelledAnswer, RiskGuarantee, control, scored_examples
from stars_guard.calibration.promises import Drawn, Pool, Promise, jackknife, promise
from stars_guard.calibration.samples import SampledAnswer
from stars_guard.calibration.storage import sampled
from stars_guard.errors import ConfigurationError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading.calibrated import MadeFor, toml_writer, write_config
from stars_guard.models.base import LanguageModel
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import RewardModel
from stars_guard.rewards.corrected import CorrectedReward, Correction
from stars_guard.settings import Record, parsed_json


class Fitted(Record):
    """The settings, and what they promise."""

    config: GuardConfig
    promised: Promise
    """What they do on the prefixes that the guard leaves."""
    unguarded: Promise
    """What the settings do on the model's own prefixes, which a guard does not see: for comparison."""
    guarantee: RiskGuarantee | None = None
    """What was found on labelled answers, if the threshold is theirs."""


class Delivered(Record):
    """What the real guard did with the settings, with seeds that nothing was fitted on."""

    prompts: int
    acceptance: float
    """Accepted over judged candidates, over all answers."""
    attempts: float
    """Candidates judged per segment."""
    forced: float
    """Share of segments in which no attempt was accepted."""
    standard_error: float
    """Standard error of ``acceptance``, by leaving out one prompt at a time."""
    made: tuple[float, ...]
    """Share of segments in which a first, second, ... attempt was made."""


@dataclass(frozen=True)
class Calibration:
    """What calibration found. Rewards are corrected ones if there is a correction."""

    rounds: list[Drawn]
    """The answers of the model alone, then those of each guarded round."""
    fitted: Fitted
    correction: Correction | None

    @property
    def unguarded(self) -> Sequence[SampledAnswer]:
        """The answers of the model alone."""
        return self.rounds[0].answers


SETTLED = 0.02
"""A rate is met when it is as near as this."""
Rounds = Callable[[str], Progress]
"""Given the name of a round, who is told about its progress."""


@dataclass(frozen=True)
class Risk:
    """Instead of an acceptance rate: how often an unsafe answer may be accepted.

    Attributes:
        answers: labelled answers, like those that the model gives.
        alpha: highest chance that an unsafe one is accepted, between 0 and 1.
        attempts: how many tries that chance counts, each as bad as the labelled answer.
    """

    answers: Sequence[LabelledAnswer]
    alpha: float
    attempts: int = 1


def calibrate(
    model: LanguageModel,
    reward: RewardModel,
    prompts: Sequence[Prompt],
    plan: DrawPlan,
    wish: Wish,
    base: GuardConfig,
    output: Path,
    *,
    guarded_rounds: int = 3,
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
        output: folder, made if need be; samples that are there are used, so a run that was cut off goes on.
        guarded_rounds: most rounds under the fitted guard; fewer if the rate is met within ``SETTLED``.
        correct: correct partial scores to the final scores that they lead one to expect.
        risk: take one threshold for all positions from labelled answers; of ``wish``, only beta then counts,
            and a segment without an acceptable candidate is refused.
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
    answers, reward, correction = _corrected(answers, reward) if correct else (answers, reward, None)
    fitter, unmet = _fitter(reward, wish, base, answers, risk), None if risk else wish

    def guarded(number: int, config: GuardConfig) -> Drawn:
        file = output / f"samples-guarded-{number}-{_short(config, correction)}.jsonl"
        round_plan = plan.changed(config=config, round=number)
        return Drawn(sampled(file, model, reward, prompts, round_plan, tell(f"guarded ({number})")), config)

    calibration = _foreseeing(_rounds(Drawn(answers), fitter, guarded, guarded_rounds, unmet))
    return _saved(replace(calibration, correction=correction), output, reward.name, model.name)


def _corrected(
    answers: list[SampledAnswer], reward: RewardModel
) -> tuple[list[SampledAnswer], RewardModel, Correction]:
    """Answers and reward model with the correction that the answers suggest."""
    correction = fit_correction(*correction_rows(answers))
    return corrected_answers(answers, correction), CorrectedReward(reward, correction), correction


def _foreseeing(calibration: Calibration) -> Calibration:
    """With the rate that is promised for the one that answers begin with, where drawing adapts to it."""
    fitted = calibration.fitted
    if not isinstance(fitted.config.drawing, Adaptive):
        return calibration
    rate = min(0.99, max(0.01, round(fitted.promised.acceptance, 2)))
    config = fitted.config.changed(drawing=fitted.config.drawing.changed(prior_rate=rate))
    return replace(calibration, fitted=fitted.model_copy(update={"config": config}))


def _saved(calibration: Calibration, output: Path, reward: str, model: str) -> Calibration:
    """The settings, in a file that says what they were made for."""
    acceptance = round(calibration.fitted.promised.acceptance, 4)
    made_for = MadeFor(reward=reward, model=model, acceptance=acceptance)
    write_config(output / "config.toml", calibration.fitted.config, made_for, calibration.correction)
    return calibration


_Fitter: TypeAlias = Callable[[Pool], Fitted]
"""From drawn answers to settings."""


def _rounds(
    first: Drawn, fitter: _Fitter, guarded: Callable[[int, GuardConfig], Drawn], most: int, wish: Wish | None
) -> Calibration:
    """Draw and fit in turn; one guarded round is enough where there is no wish to be met."""
    rounds, fitted = [first], fitter(Pool(first))
    for number in range(1, most + 1):
        rounds.append(guarded(number, fitted.config))
        pool = Pool(*rounds[1:])
        held = pool.acceptance(fitted.config)
        fitted = fitter(pool)
        if wish is None or abs(held - wish.acceptance) <= SETTLED:
            break
    return Calibration(rounds, fitted, None)


def _fitter(
    reward: RewardModel, wish: Wish, base: GuardConfig, unguarded: Sequence[SampledAnswer], risk: Risk | None
) -> _Fitter:
    """How to fit; the rule is that of the model's own answers in every round."""
    acceptance = rule(unguarded, wish)

    def fitted(pool: Pool, config: GuardConfig, guarantee: RiskGuarantee | None = None) -> Fitted:
        naive = promise(unguarded, config)
        return Fitted(config=config, promised=pool.promise(config), unguarded=naive, guarantee=guarantee)

    if risk is None:
        wish_with_beta = replace(wish, beta=getattr(acceptance, "beta", 0.0))
        return lambda pool: fitted(pool, fit(pool, wish_with_beta, base))
    examples = scored_examples(reward, risk.answers)
    risk_guarantee = control(examples, risk.alpha, acceptance, risk.attempts)
    target = risk_guarantee.threshold
    config = base.changed(
        threshold=Constant(target=target),
        acceptance=acceptance,
        exhaustion=Refuse(),  # what is forced would be outside the guarantee
        floor=None if base.stated_floor is None else min(base.stated_floor, target),
    )
    return lambda pool: fitted(pool, config, risk_guarantee)


def measure_delivery(llm: StarsGuardedLLM, prompts: Sequence[Prompt], seed: int) -> Delivered:
    """Answer prompts with the real guard and compare what it accepts with what was promised.

    Args:
        llm: with the fitted settings and the same sampling.
        prompts: at least one.
        seed: the first of consecutive seeds.
    """
    sampling = [llm.sampling.changed(seed=seed + number) for number in range(len(prompts))]
    traces = [result.trace for result in llm.batch(prompts, sampling=sampling)]
    judged = [trace.attempts for trace in traces]
    accepted = [sum(attempt.accepted for s in trace.segments for attempt in s.attempts) for trace in traces]
    tries = [len(s.attempts) for trace in traces for s in trace.segments if s.attempts]
    total, count = sum(judged), len(tries)
    return Delivered(
        prompts=len(prompts),
        acceptance=sum(accepted) / total,
        attempts=total / count,
        forced=1 - sum(accepted) / count,
        standard_error=_error(accepted, judged),
        made=tuple(sum(taken > n for taken in tries) / count for n in range(max(tries))),
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
        return Prompt.of(parsed_json(line)["prompt"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f'{path}:{number}: give an object with "prompt", a text or messages'
        ) from error


def _short(config: GuardConfig, correction: Correction | None) -> str:
    corrected = "" if correction is None else correction.model_dump_json()
    return sha256((config.model_dump_json() + corrected).encode()).hexdigest()[:8]


def _error(accepted: Sequence[int], judged: Sequence[int]) -> float:
    pairs = list(zip(accepted, judged, strict=True))
    return jackknife([(sum(accepted) - a) / (sum(judged) - j) for a, j in pairs] if len(pairs) > 1 else [])
