"""How rejected candidates compare, in whatever part of the answer, and which of them may be forced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stars_guard.algorithm.config import ChannelRules, GuardConfig
from stars_guard.types import Candidate, Channel


@dataclass(frozen=True, slots=True)
class Seen:
    """A candidate that was judged.

    Attributes:
        index: number of its attempt, from 0.
        channel: the part of the answer that decided.
        reward: what it got there.
        parts: further scores, by name.
        candidate: the candidate itself.
    """

    index: int
    channel: Channel
    reward: float
    parts: Mapping[str, float]
    candidate: Candidate


class Standing:
    """Rewards of all channels against the rules that hold there.

    Args:
        config: the STARS settings.
    """

    def __init__(self, config: GuardConfig) -> None:
        self._config = config
        self._rules: dict[Channel, ChannelRules] = {}

    def rules(self, channel: Channel) -> ChannelRules:
        """The rules that hold in a channel, filled in when they are first needed."""
        rules = self._rules.get(channel)
        if rules is None:
            rules = self._rules[channel] = self._config.rules(channel)
        return rules

    def excess(self, reward: float, channel: Channel) -> float:
        """A reward as rewards of different scales are compared: by what it is over its own target."""
        return reward - self.rules(channel).threshold.target

    def over_floor(self, reward: float, channel: Channel) -> bool:
        """Whether a reward is not under the floor of its channel."""
        return reward >= self.rules(channel).lowest

    def may_be_forced(self, seen: Seen) -> bool:
        """Whether policy ``best`` may force it."""
        if seen.reward < self._config.forced_from(seen.channel):
            return False
        # Other parts are over their floors, or one would be the hardest; the answer may have more to reach.
        answer = None if seen.channel is Channel.ANSWER else seen.parts.get(Channel.ANSWER)
        return answer is None or answer >= self._config.forced_from(Channel.ANSWER)

    def rank(self, seen: Seen) -> tuple[bool, float, float]:
        """What is compared to find the best of those that were rejected."""
        over_floor = self.over_floor(seen.reward, seen.channel)
        return over_floor, self.excess(seen.reward, seen.channel), seen.reward
