"""A reward model of its own for each channel."""

from __future__ import annotations

from collections.abc import Sequence

from stars_guard.errors import ConfigurationError
from stars_guard.rewards.base import RewardModel, ScoreRequest
from stars_guard.types import Channel, Named, Reward


class ByChannel(Named):
    """Sends each text to the reward model of its channel.

    Rewards differ in scale, so give a channel with a reward model of its own its own rules too:
    ``GuardConfig.reasoning`` and ``GuardConfig.tools``.

    Args:
        answer: judges the answer, and every channel that has no reward model here.
        reasoning: judges reasoning text.
        tool: judges tool calls; it reads ``I will use NAME with KEY: VALUE, KEY: VALUE``.

    Raises:
        ConfigurationError: a part is not a reward model.
    """

    def __init__(
        self, answer: RewardModel, *, reasoning: RewardModel | None = None, tool: RewardModel | None = None
    ) -> None:
        self._models = {
            Channel.ANSWER: answer,
            Channel.REASONING: reasoning or answer,
            Channel.TOOL: tool or answer,
        }
        for channel, model in self._models.items():
            if not isinstance(model, RewardModel):
                raise ConfigurationError(
                    f"{channel}={type(model).__name__}: pass a reward model with name, score and release"
                )

    @property
    def name(self) -> str:
        """The names of the parts, ``answer=a, tool=b``."""
        answer = self._models[Channel.ANSWER]
        others = [channel for channel, model in self._models.items() if model is not answer]
        return ", ".join(f"{channel}={self._models[channel].name}" for channel in (Channel.ANSWER, *others))

    @property
    def parts(self) -> list[RewardModel]:
        """The reward models in use, each once."""
        return list({id(model): model for model in self._models.values()}.values())

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """Score each channel's requests in one call."""
        rewards: dict[int, Reward] = {}
        for model in self.parts:
            places = [n for n, request in enumerate(requests) if self._models[request.channel] is model]
            if places:
                scores = model.score([requests[n] for n in places])
                rewards |= dict(zip(places, scores, strict=True))
        return [rewards[n] for n in range(len(requests))]

    def release(self, run_id: str) -> None:
        """Tell every part that the answer ``run_id`` is over."""
        for model in self.parts:
            model.release(run_id)
