"""What the guard would make of a text: its reward, held against the bar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stars_guard.algorithm.config import GuardConfig
from stars_guard.rewards.base import ScoreRequest
from stars_guard.server.judging.wire import GuardrailAnswer, JudgedText, ModerationResult
from stars_guard.types import Channel, Reward

_CATEGORY = "stars_guard"


@dataclass(frozen=True, slots=True)
class Held:
    """A reward, held against a threshold."""

    reward: Reward
    threshold: float
    probability: float
    """Probability with which the guard accepts such a text, in [0, 1]."""
    passes: bool
    """Whether it reaches the threshold, and the floor."""


def held(
    config: GuardConfig, reward: Reward, threshold: float | None = None, channel: Channel = Channel.ANSWER
) -> Held:
    """Hold the reward of a complete text against the bar.

    Args:
        config: settings of the guard.
        reward: of the text.
        threshold: what to hold it against; None is what the guard demands of a whole answer.
        channel: which part of an answer the text is.
    """
    rules = config.rules(channel)
    bar = rules.threshold.target if threshold is None else threshold
    passes = reward.value >= max(bar, rules.lowest)
    return Held(reward, bar, rules.probability(reward.value, bar), passes)


def moderation_result(verdict: Held) -> ModerationResult:
    """A verdict in the words of the moderation endpoint."""
    flagged = not verdict.passes
    return ModerationResult(
        flagged=flagged,
        categories={_CATEGORY: flagged},
        category_scores={_CATEGORY: 1 - verdict.probability},
        category_applied_input_types={_CATEGORY: ["text"]},
        stars=JudgedText(
            reward=verdict.reward.value,
            threshold=verdict.threshold,
            components=dict(verdict.reward.components),
        ),
    )


def guardrail_answer(
    config: GuardConfig, texts: Sequence[ScoreRequest], rewards: Sequence[Reward]
) -> GuardrailAnswer:
    """What LiteLLM is to do with texts.

    Args:
        config: settings of the guard.
        texts: what was judged.
        rewards: of the texts, in order.
    """
    for place, (text, reward) in enumerate(zip(texts, rewards, strict=True), start=1):
        verdict = held(config, reward, channel=text.channel)
        if not verdict.passes:
            reason = f"text {place} of {len(texts)} has reward {reward.value:.4g}, under the bar"
            return GuardrailAnswer(action="BLOCKED", blocked_reason=f"{reason} of {verdict.threshold:.4g}")
    return GuardrailAnswer(action="NONE")
