"""What calibration looks at: answers drawn segment by segment, with the rewards of all candidates."""

from __future__ import annotations

from collections.abc import Iterable

from stars_guard.calibration.description import Figures


class SampledPosition(Figures):
    """One prefix and the candidates that were drawn to continue it, independently of each other.

    ``rewards[n]``, ``tokens[n]`` (response tokens with it) and ``finished[n]`` belong to candidate ``n``.
    """

    segment: int
    """Number of the segment, from 0."""
    prefix_tokens: int
    """Response tokens before it."""
    tokens: tuple[int, ...]
    """Response tokens with each candidate."""
    rewards: tuple[float, ...]
    """Reward of each candidate."""
    chosen: int
    """The candidate that the answer went on with."""
    finished: tuple[bool, ...] = ()
    """Whether each candidate ended the answer by itself, and was scored as whole; empty: none did."""


class SampledAnswer(Figures):
    """One answer to one prompt."""

    prompt: int
    """Index of the prompt; answers of one prompt are dependent, answers of different prompts are not."""
    seed: int
    max_tokens: int
    """Longest answer allowed, the horizon of threshold schedules."""
    base_reward: float
    """Reward of the bare prompt."""
    positions: tuple[SampledPosition, ...]
    finished: bool
    """Whether it ended by itself, and not at ``max_tokens``."""

    @property
    def path(self) -> list[float]:
        """Rewards along the answer, one per segment; the last is that of the whole answer."""
        return [position.rewards[position.chosen] for position in self.positions]

    @property
    def final_reward(self) -> float:
        """Reward of the whole answer."""
        return self.path[-1]


def positions_at(answers: Iterable[SampledAnswer], segment: int) -> list[SampledPosition]:
    """The prefixes at one segment number, of every answer that got so far."""
    return [answer.positions[segment] for answer in answers if segment < len(answer.positions)]
