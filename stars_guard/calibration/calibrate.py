"""Calibration from end to end: draw, fit, draw again under the fitted guard, fit again, and write it down.

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

from pydantic import BaseModel, ConfigDict

from stars_guard.calibration.draw import DrawPlan, Progress
from stars_guard.calibration.fit import Wish, fit
from stars_guard.calibration.promises import Promise, promise
from stars_guard.calibration.samples import SampledAnswer
from stars_guard.calibration.storage import sampled
from stars_guard.config import GuardConfig
from stars_guard.config_file import MadeFor, toml_writer, write_config
from stars_guard.errors import ConfigurationError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.models.base import LanguageModel
from stars_guard.rewards.base import RewardModel
from stars_guard.types import Prompt


class Fitted(BaseModel):
    """The settings, and what they promise."""

    model_config = ConfigDict(frozen=True)

    config: GuardConfig
    unguarded: Promise
    """Promise of the first fit, on the model's own prefixes."""
    guarded: Promise | None
    """Promise of ``config`` on the prefixes that a guard leaves; None without a second round."""

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
    """What calibration found: the answers of the last round, and the settings fitted on them."""

    answers: list[SampledAnswer]
    fitted: Fitted


Rounds = Callable[[str], Progress]
"""Given the name of a round, who is told about its progress."""


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
        rounds: for progress.

    Raises:
        ConfigurationError: the folder has samples of another run, or the wish cannot be met.
        MissingExtraError: the package that writes settings is not installed.
        GenerationError, ScoringError: an outage; repeat the call to go on.
    """
    toml_writer()  # better missed now than after the draws
    output.mkdir(parents=True, exist_ok=True)
    tell = rounds or (lambda name: lambda done, total: None)
    plan = plan.changed(segments=base.segments, config=None)
    answers = sampled(output / "samples.jsonl", model, reward, prompts, plan, tell("unguarded"))
    config = fit(answers, wish, base)
    fitted = Fitted(config=config, unguarded=promise(answers, config), guarded=None)
    if second_round:
        guarded = plan.changed(config=config)
        file = output / f"samples-guarded-{_short(config)}.jsonl"
        answers = sampled(file, model, reward, prompts, guarded, tell("guarded"))
        # The rule stays; only the thresholds and the floor move to where the guard's own prefixes are.
        final = fit(answers, wish_with(wish, config), base, drawn_with=config)
        held = promise(answers, final, drawn_with=config)
        fitted = Fitted(config=final, unguarded=fitted.unguarded, guarded=held)
    made_for = MadeFor(reward=reward.name, model=model.name, acceptance=round(fitted.promised.acceptance, 4))
    write_config(output / "config.toml", fitted.config, made_for)
    return Calibration(answers, fitted)


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


def _short(config: GuardConfig) -> str:
    return sha256(config.model_dump_json().encode()).hexdigest()[:8]


def _jackknife(accepted: Sequence[int], judged: Sequence[int]) -> float:
    count = len(judged)
    if count < 2:
        return 0.0
    rates = [(sum(accepted) - a) / (sum(judged) - j) for a, j in zip(accepted, judged, strict=True)]
    mean = sum(rates) / count
    return float(((count - 1) / count * sum((rate - mean) ** 2 for rate in rates)) ** 0.5)
