"""How well a probe forecasts itself: the Bellman error on values of beginnings that it was not trained on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev

from stars_guard.rewards.classifiers.probe import ProbeReward
from stars_guard.training.probe import head_rewards
from stars_guard.training.value_rows import ValueRow, children_of, values_for


@dataclass(frozen=True, slots=True)
class ForecastError:
    """Errors of what is said of beginnings of one length; means over them."""

    tokens: int | None
    """Response tokens of the beginnings; None is all lengths."""
    beginnings: int
    logits: float
    """``|r(beginning) - E r(end)|``, where E is over the ends that were drawn from it."""
    spreads: float
    """Error in standard deviations of the rewards of all ends."""
    probability: float
    """Error of ``P(safe)``, which decisions near even odds depend on."""
    value: float
    """``|P(safe) - value|``, the value being the teacher's."""


def forecast_errors(rewards: Sequence[float], rows: Sequence[ValueRow]) -> list[ForecastError]:
    """The errors by length of the beginnings, and last over all; none where nothing continues another.

    Args:
        rewards: of all rows, in log-odds.
        rows: beginnings and ends.
    """
    children = children_of(rows)
    said = list(map(_probability, rewards))
    ends = _expected(rewards, children), _expected(said, children)
    unit = pstdev(rewards[n] for n in range(len(rows)) if n not in children) or 1.0
    lengths = sorted({rows[place].tokens for place in children})

    def at(tokens: int | None) -> ForecastError:
        places = [place for place in children if tokens in (None, rows[place].tokens)]
        logits = fmean(abs(rewards[n] - ends[0][n]) for n in places)
        return ForecastError(
            tokens=tokens,
            beginnings=len(places),
            logits=logits,
            spreads=logits / unit,
            probability=fmean(abs(said[n] - ends[1][n]) for n in places),
            value=fmean(abs(said[n] - rows[n].value) for n in places),
        )

    return [at(tokens) for tokens in (*lengths, None)] if children else []


def _expected(said: Sequence[float], children: dict[int, list[int]]) -> list[float]:
    """What is said of an end; for a beginning, the mean over its continuations of what is expected."""
    expected = list(said)
    for place in sorted(children, reverse=True):  # parents stand before their children
        expected[place] = fmean(expected[child] for child in children[place])
    return expected


def _probability(reward: float) -> float:
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, reward))))


def measure_forecasts(folder: Path, values: Path) -> list[ForecastError]:
    """Errors of a saved probe.

    Args:
        folder: of the probe.
        values: folder that ``values`` wrote, of prompts that it was not trained on.

    Raises:
        ConfigurationError: one of them cannot be read, or the states are not those that the probe reads.
    """
    probe = ProbeReward.load(folder)
    drawn = values_for(probe.settings, values)
    rewards: list[float] = head_rewards(probe.head, drawn.features).tolist()
    return forecast_errors(rewards, drawn.rows)


def forecast_table(errors: Sequence[ForecastError]) -> str:
    """A Markdown table, one line per length."""
    lines = [
        "| after | beginnings | log-odds | in spreads | P(safe) | to the teacher's value |",
        "|---|---|---|---|---|---|",
    ]
    for error in errors:
        after = "all" if error.tokens is None else f"{error.tokens} tokens"
        figures = error.logits, error.spreads, error.probability, error.value
        lines.append(f"| {after} | {error.beginnings} | {' | '.join(f'{each:.3f}' for each in figures)} |")
    return "\n".join(lines)
