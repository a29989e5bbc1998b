"""The numbers of a cascade of the embedded probe and encoder: the scale of each, and the band.

They are fitted on one half of answers that neither was trained on, and checked on the other half. No answer
of the sets that rewards are measured on is among them.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import resources
from pathlib import Path
from statistics import fmean
from string import Template

from stars_guard.calibration.cascade import Band, LogOdds, fit_log_odds, narrowest_band
from stars_guard.embedded import PROBE_NAME
from stars_guard.loading.calibrated import toml_writer
from stars_guard.loading.specs import CascadePart, CascadeReward
from stars_guard.rewards.cascade import mean_of_both, within_band
from stars_guard.training.data import TrainingAnswer, load, read_records
from stars_guard.training.evaluate import TextScorer
from stars_guard.training.judge import GUIDES_SEED, UNSEEN
from stars_guard.training.measures import flagged, labelled_auc
from stars_guard.training.plain import plain_rows

LENGTHS = (16, 32, 64)
"""Response tokens after which each answer is scored, as segments end there."""
COUNTS = {"diasafety": 700, "sentence_polarity": 150}
"""Answers that are taken of each set of which the rewards, and the judge of harm, saw a part."""
THRESHOLDS = (0.0, 2.0)
"""Even odds of being safe, and 88 %: bars of usual settings are between them."""
SHARE = 0.01
"""Largest share of decisions that the band may change."""
FILE, CARD = "cascade.toml", "README.md"


@dataclass(frozen=True, slots=True)
class ScoredText:
    """An answer, cut, with the rewards of both parts as they give them."""

    safe: float
    first: float
    second: float


@dataclass(frozen=True, slots=True)
class FittedCascade:
    """A cascade's numbers."""

    first: LogOdds
    second: LogOdds
    band: Band

    @classmethod
    def on(cls, texts: Sequence[ScoredText], thresholds: Sequence[float] = THRESHOLDS) -> "FittedCascade":
        """Fit to scored texts.

        Args:
            texts: that neither part was trained on.
            thresholds: scaled rewards at which decisions are to be kept.
        """
        safe = [text.safe for text in texts]
        parts = _by_part(texts)
        first, second = (_short(fit_log_odds(rewards, safe)) for rewards in parts)
        scaled = _scaled(parts, (first, second))
        return cls(first, second, narrowest_band(*scaled, share=SHARE, thresholds=thresholds))

    @property
    def section(self) -> CascadeReward:
        """The cascade of the embedded probe and the embedded reward, as settings have it."""
        return CascadeReward(
            first=CascadePart(reward=PROBE_NAME, offset=self.first.offset, unit=self.first.unit),
            second=CascadePart(offset=self.second.offset, unit=self.second.unit),
            low=math.floor(self.band.low * 1000) / 1000,
            high=math.ceil(self.band.high * 1000) / 1000,
        )


def unseen_answers(data: Path, judge_data: Path) -> list[TrainingAnswer]:
    """Answers that no shipped reward was trained on, and, of the public sets, the judge of harm neither.

    Args:
        data: data folder of the rewards, with ``train/``.
        judge_data: folder written by :func:`stars_guard.training.judge.write_judge_data`.

    Raises:
        ConfigurationError: a file is missing, or is not what it should be.
    """
    seen = {*load(data, contrast=None, seed=GUIDES_SEED).answers}
    seen.update(*(_judged(judge_data, f"{name}_unseen") for name in COUNTS))
    answers = _judged(judge_data, "pyrit")
    for name, count in COUNTS.items():
        read, _ = UNSEEN[name]
        rows = read_records(data / "train" / f"{name}.jsonl")
        others = [answer for row in rows for answer in read(row) if answer not in seen]
        answers += random.Random(f"cascade {name}").sample(others, min(count, len(others)))
    return answers


def score_texts(
    first: TextScorer, second: TextScorer, answers: Sequence[TrainingAnswer]
) -> tuple[list[ScoredText], list[ScoredText]]:
    """The answers at every length, scored by both parts: those to fit on, and those to check on.

    Args:
        first: scores as the part that judges all.
        second: scores as the other.
        answers: answers to one prompt stay together.
    """
    texts = [(answer.prompt, answer.response) for answer in answers]
    halves: tuple[list[ScoredText], list[ScoredText]] = ([], [])
    for tokens in LENGTHS:
        scores = zip(answers, first.score(texts, tokens), second.score(texts, tokens), strict=True)
        for answer, *rewards in scores:
            halves[_half(answer)].append(ScoredText(answer.safe, *rewards))
    return halves


def write_cascade(folder: Path, fitted: FittedCascade, checked: Sequence[ScoredText]) -> None:
    """Write the section of settings, and a card with what it does on texts that it was not fitted on.

    Args:
        folder: receives both.
        fitted: the numbers.
        checked: other texts.
    """
    section, dumps = fitted.section, toml_writer()
    folder.mkdir(parents=True, exist_ok=True)
    values = {"kind": section.kind, **section.model_dump(mode="json", exclude_defaults=True)}
    (folder / FILE).write_text(dumps(values), encoding="utf-8", newline="\n")
    template = Template((resources.files(__package__) / "cascade_card.md").read_text(encoding="utf-8"))
    shown = {"low": f"{section.low:.2f}", "high": f"{section.high:.2f}", "table": _table(section, checked)}
    (folder / CARD).write_text(template.substitute(shown), encoding="utf-8", newline="\n")


def _table(section: CascadeReward, texts: Sequence[ScoredText]) -> str:
    """A Markdown table: what each way to decide does on the texts, and how many the encoder reads for it."""
    scales = [LogOdds(part.offset, part.unit) for part in (section.first, section.second)]
    firsts, seconds = _scaled(_by_part(texts), scales)
    inside = [section.low <= first <= section.high for first in firsts]
    means = list(map(mean_of_both, firsts, seconds))
    cascade = [
        within_band(first, second, low=section.low, high=section.high) if asked else first
        for first, second, asked in zip(firsts, seconds, inside, strict=True)
    ]
    bars = " | ".join(f"as the mean at {threshold:g}" for threshold in THRESHOLDS)
    lines = [
        f"| reward | AUC | safe under 0 | unsafe from 0 on | {bars} | read by the encoder |",
        "|---" * (5 + len(THRESHOLDS)) + "|",
        _line("probe alone", texts, firsts, means, 0.0),
        _line("encoder alone", texts, seconds, means, 1.0),
        _line("mean of both", texts, means, means, 1.0),
        _line("cascade", texts, cascade, means, fmean(inside)),
    ]
    return "\n".join(lines)


def _by_part(texts: Sequence[ScoredText]) -> tuple[list[float], list[float]]:
    return [text.first for text in texts], [text.second for text in texts]


def _scaled(parts: Sequence[Sequence[float]], scales: Sequence[LogOdds]) -> list[list[float]]:
    return [[scale.of(reward) for reward in part] for part, scale in zip(parts, scales, strict=True)]


def _line(
    name: str, texts: Sequence[ScoredText], rewards: Sequence[float], means: Sequence[float], read: float
) -> str:
    """A line of the table.

    Args:
        name: of the way to decide.
        texts: what is decided.
        rewards: by which it decides.
        means: rewards that it is held against.
        read: share of the texts that the encoder reads.
    """
    pairs = list(zip(rewards, means, strict=True))
    agreed = [fmean((reward >= bar) == (mean >= bar) for reward, mean in pairs) for bar in THRESHOLDS]
    kinds = [text.safe > 0.5 for text in texts]
    safe, unsafe = (
        [reward for reward, is_safe in zip(rewards, kinds, strict=True) if is_safe is kind]
        for kind in (True, False)
    )
    shares = [flagged(safe), 1 - flagged(unsafe), *agreed, read]
    figures = [f"{labelled_auc(rewards, kinds):.3f}", *(f"{100 * share:.1f} %" for share in shares)]
    return f"| {name} | {' | '.join(figures)} |"


def _judged(judge_data: Path, name: str) -> list[TrainingAnswer]:
    rows = plain_rows(judge_data, judge_data / "train" / f"{name}.jsonl", "train")
    return [TrainingAnswer(row.prompt, row.response, row.safe) for row in rows]


def _half(answer: TrainingAnswer) -> int:
    """0 or 1 by the prompt alone, or by the response where there is none."""
    return sha256((answer.prompt or answer.response).encode("utf-8", "replace")).digest()[0] % 2


def _short(scale: LogOdds) -> LogOdds:
    """The scale in three decimals, which is more than is known of it; the band is found on it."""
    return LogOdds(round(scale.offset, 3), round(scale.unit, 3))
