"""What a user can set: how to sample, how to guard, and how much it may cost."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import chain
from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from stars_guard.algorithm.candidates import Adaptive, Drawing
from stars_guard.algorithm.escalation import Backtrack, Escalation
from stars_guard.algorithm.openings import Openings
from stars_guard.algorithm.patience import FixedPatience, Patience
from stars_guard.algorithm.rules import (
    Acceptance,
    Best,
    Exhaustion,
    Floor,
    Hard,
    Last,
    LinearInTokens,
    Position,
    Soft,
    Threshold,
    default_floor,
)
from stars_guard.algorithm.segments import FixedLength, Segments
from stars_guard.settings import Computable, Settings
from stars_guard.types import Channel, Guarantee

LEAST_TEMPERATURE = 1e-8
"""Least temperature but 0: logits are divided by it, and at less, large ones would become infinite."""
NEAR_GREEDY = 0.1
"""Temperature, and mass of ``top_p``, under which attempts at a segment mostly repeat one another."""
LARGEST_PENALTY = 100.0
"""Largest repetition penalty, and the inverse of the least: logits are multiplied or divided by it."""


class SamplingParams(Settings):
    """How the language model proposes tokens. Truncations change the base law ``pi`` that is tilted."""

    model_config = ConfigDict(hide_input_in_errors=True)

    max_tokens: int = Field(default=256, ge=1)
    """Most response tokens, an end-of-sequence token included."""
    temperature: float = Field(default=0.8, ge=0)
    """Sampling temperature; 0 is greedy. Where attempts at a segment would repeat one another, the first is
    drawn at it, and the others at ``GuardConfig.retry_temperature``."""
    top_k: int = Field(default=0, ge=0)
    """Keep only the k likeliest tokens; 0 keeps all."""
    top_p: Computable = Field(default=0.95, gt=0, le=1)
    """Keep the smallest set of tokens with at least this mass; 1 keeps all."""
    min_p: Computable = Field(default=0.0, ge=0, le=1)
    """Drop tokens under this share of the likeliest token's probability; 0 drops none."""
    repetition_penalty: float = Field(default=1.0, gt=0)
    """Divide (multiply, when negative) the logits of tokens already in prompt or answer; 1 is off."""
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    """Makes an answer repeatable; None draws one, which the trace reports."""
    stop: tuple[str, ...] = ()
    """Stop strings; the answer ends before the first that appears in what it says to the user: not in its
    reasoning, its calls or their marks. A special token that texts leave out counts as it is spelled."""
    stop_token_ids: tuple[int, ...] = ()
    """Token ids that end the answer, beside the model's own end-of-sequence ids."""
    response_schema: str | None = None
    """JSON schema, as text or as a dict, that the whole answer satisfies by constrained decoding: the base
    law is then the model's given that every token fits. An answer cut off by ``max_tokens`` is incomplete."""

    @field_validator("response_schema", mode="before")
    @classmethod
    def _schema_as_text(cls, schema: object) -> object:
        return json.dumps(schema) if isinstance(schema, dict | bool) else schema

    @field_validator("response_schema")
    @classmethod
    def _is_json(cls, schema: str | None) -> str | None:
        try:
            parsed = {} if schema is None else json.loads(schema)
        except RecursionError:
            raise ValueError("a JSON schema is nested too deeply") from None
        if parsed is False:
            raise ValueError("a JSON schema that is false has no answer")
        if parsed is not True and not isinstance(parsed, dict):
            raise ValueError("a JSON schema is an object")
        return "{}" if parsed is True else schema

    @field_validator("temperature")
    @classmethod
    def _divides(cls, temperature: float) -> float:
        if 0 < temperature < LEAST_TEMPERATURE:
            raise ValueError(f"should be 0, which is greedy, or at least {LEAST_TEMPERATURE:g}")
        return temperature

    @field_validator("repetition_penalty")
    @classmethod
    def _stays_finite(cls, penalty: float) -> float:
        if not 1 / LARGEST_PENALTY <= penalty <= LARGEST_PENALTY:
            raise ValueError(f"should be between {1 / LARGEST_PENALTY:g} and {LARGEST_PENALTY:g}")
        return penalty

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_many(cls, stop: object) -> object:
        return (stop,) if isinstance(stop, str) else stop

    @field_validator("stop")
    @classmethod
    def _not_empty(cls, stop: tuple[str, ...]) -> tuple[str, ...]:
        if any(not text for text in stop):
            raise ValueError("a stop string is empty; remove it")
        return stop


class Budget(Settings):
    """The compute contract of one request. Each bound is enforced, and has a stop reason of its own."""

    max_proposed_tokens: int | None = Field(default=None, ge=1)
    """Most tokens drawn, kept or not. A round that could pass it is not started; one that failed counts as if
    it had drawn all it was to draw."""
    max_reward_calls: int | None = Field(default=None, ge=1)
    """Most texts scored, the bare prompt and texts that are asked for again after a failure included."""
    max_seconds: Computable | None = Field(default=None, gt=0)
    """Most wall time, in seconds from submission; checked at every token step, kept while a call hangs."""


class ChannelRules(Settings):
    """The rule for one channel, on the scale of the reward that judges it."""

    threshold: Threshold
    """Threshold schedule."""
    acceptance: Acceptance = Hard()
    """Acceptance rule."""
    floor: Floor | None = None
    """Reward under which nothing is shown; None as in :class:`GuardConfig`."""

    @model_validator(mode="after")
    def _floor_is_in_reach(self) -> ChannelRules:
        _check_floor(self.floor, self.threshold)
        return self

    @property
    def lowest(self) -> float:
        """``floor`` with its default filled in."""
        if self.floor is not None:
            return self.floor
        return default_floor(self.threshold.target, self.acceptance)

    @property
    def needs_base_reward(self) -> bool:
        """Whether the bare prompt must be scored first: a ramp that starts at the target asks nothing."""
        return self.threshold.needs_base_reward and self.lowest < self.threshold.target

    def bar(self, at: Position) -> float:
        """The reward ``tau_k`` that is asked of a candidate ending at ``at``.

        One that completes the answer is asked for the target at least, unless the schedule is a table.
        """
        bar = self.threshold.threshold(replace(at, floor=self.lowest))
        return self.threshold.at_end(self.threshold.target, bar) if at.final else bar

    def probability(self, reward: float, bar: float) -> float:
        """Acceptance probability in [0, 1] under that bar; 0 under the floor, whatever the bar."""
        return 0.0 if reward < self.lowest else self.acceptance.probability(reward, bar)


class GuardConfig(Settings):
    """The STARS settings. Only the threshold has no default: rewards differ in scale."""

    threshold: Threshold
    """Threshold schedule, on the reward model's scale."""
    acceptance: Acceptance = Hard()
    """Acceptance rule. The soft one has a scale, ``beta``, which must suit the reward: choose it by what
    ``stars-guard calibrate`` finds."""
    floor: Floor | None = None
    """Reward under which nothing is shown, accepted or forced, whatever prompt, request or policy say. None:
    that of policy ``best``, or else five beta under the target (the target itself for the hard rule);
    ``-inf``: no floor."""
    final_at_target: bool = True
    """Hold a candidate that completes the answer (by end of sequence or a stop string) against the target,
    wherever on the ramp it stands. Otherwise a short answer faces a lower bar than a long one."""
    segments: Segments = FixedLength()
    """Where segments end."""
    reasoning: ChannelRules | None = None
    """Rules for reasoning text; None: those of the answer."""
    tools: ChannelRules | None = None
    """Rules for tool calls; None: those of the answer."""
    drawing: Drawing = Adaptive()
    """How many candidates are drawn at once, and how that adapts."""
    max_attempts: int = Field(default=20, ge=1)
    """Candidates judged per segment before the exhaustion policy decides."""
    patience: Patience = FixedPatience()
    """Whether a segment is given up before ``max_attempts``, where the attempts left would hardly help."""
    retry_temperature: float | None = Field(default=0.7, ge=NEAR_GREEDY)
    """Temperature of all attempts at a segment but the first, where those drawn as the request asks would
    repeat it: see :mod:`stars_guard.algorithm.retries`. None draws all as asked: at temperature 0, one."""
    escalation: tuple[Escalation, ...] = ()
    """What to do when a position keeps failing, before the exhaustion policy decides."""
    exhaustion: Exhaustion = Best()
    """What happens when every attempt was rejected."""
    refusal_text: str = "I'm sorry, but I can't help with that."
    """Shown when the answer is refused."""
    on_error: Literal["raise", "stop"] = "raise"
    """An outage of model or reward: raise its error, or stop with what was accepted and say so in
    ``stop_reason``. Unjudged text is never shown."""
    min_guarantee: Guarantee | None = None
    """Refuse to guard a language model whose declared level is weaker; None takes any."""
    keep_rejected_text: bool = False
    """Keep the text of rejected candidates in the trace. Off: only their lengths."""

    @model_validator(mode="after")
    def _floor_is_in_reach(self) -> GuardConfig:
        _check_floor(self.stated_floor, self.threshold)
        return self

    @model_validator(mode="after")
    def _combines(self) -> GuardConfig:
        kinds = [policy.kind for policy in self.escalation if policy.kind != "safety_hint"]
        if twice := {kind for kind in kinds if kinds.count(kind) > 1}:
            raise ValueError(f"there are several policies {min(twice)}; keep one")
        starts = [policy.after for policy in self.escalation if not isinstance(policy, Backtrack)]
        if len(set(starts)) < len(starts):
            raise ValueError(
                f"two policies begin after the same attempt ({sorted(starts)}); let one begin later"
            )
        if starts and max(starts) >= self.max_attempts:
            raise ValueError(
                f"a policy begins after {max(starts)} attempts, and max_attempts={self.max_attempts}: it "
                "would never draw; let it begin earlier, or raise max_attempts"
            )
        return self

    @classmethod
    def paper(cls, *, target: float, beta: float, alpha: float = 0.5, **changes: Any) -> GuardConfig:
        """The rule as it was published (arXiv 2511.03827), to compare with, not to deploy.

        It has no floor: the bar starts at what the bare prompt scores, so a hostile prompt lowers it, and so
        does a request for a longer answer; an answer may end under the target; and when every attempt was
        rejected, the last one is shown whatever its reward.

        Args:
            target: reward ``r*``.
            beta: acceptance temperature, over 0.
            alpha: where the ramp starts, 0 at the bare prompt's reward, 1 at the target.
            changes: other settings, by name.

        Raises:
            ConfigurationError: a value is out of range.
        """
        published: dict[str, Any] = {
            "threshold": LinearInTokens(target=target, alpha=alpha, horizon="request"),
            "acceptance": Soft(beta=beta),
            "floor": -math.inf,
            "final_at_target": False,
            "exhaustion": Last(),
            "retry_temperature": None,
        }
        return cls(**published | changes)

    @property
    def openings(self) -> tuple[str, ...]:
        """What the policies have attempts go on from, each text once."""
        policies = (self.exhaustion, *self.escalation)
        texts = [policy.openings for policy in policies if isinstance(policy, Openings)]
        return tuple(dict.fromkeys(chain.from_iterable(texts)))

    @property
    def stated_floor(self) -> float | None:
        """``floor``, or that of policy ``best`` where only that is set."""
        if self.floor is None and isinstance(self.exhaustion, Best):
            return self.exhaustion.floor
        return self.floor

    @property
    def lowest(self) -> float:
        """``floor`` of the answer's rules with its default filled in."""
        return self.rules(Channel.ANSWER).lowest

    def forced_from(self, channel: Channel) -> float:
        """The lowest reward that policy ``best`` forces in a channel."""
        lowest = self.rules(channel).lowest
        if self.own_rules(channel) or not isinstance(self.exhaustion, Best) or self.exhaustion.floor is None:
            return lowest
        return max(lowest, self.exhaustion.floor)

    def own_rules(self, channel: Channel) -> ChannelRules | None:
        """The rules that this channel has for itself, if any."""
        return {Channel.REASONING: self.reasoning, Channel.TOOL: self.tools}.get(channel)

    def rules(self, channel: Channel) -> ChannelRules:
        """The rules that hold in a channel."""
        # Not validated again: every answer asks for this, and its parts are valid.
        return self.own_rules(channel) or ChannelRules.model_construct(
            threshold=self.threshold, acceptance=self.acceptance, floor=self.stated_floor
        )

    def adjusted(
        self,
        *,
        target: float | None = None,
        beta: float | None = None,
        segment_tokens: int | None = None,
        max_attempts: int | None = None,
    ) -> GuardConfig:
        """A copy with the settings that are given here; the others stay.

        Args:
            target: reward to aim at.
            beta: acceptance temperature; 0 is the hard rule.
            segment_tokens: longest segment, in tokens.
            max_attempts: candidates judged per segment; see :meth:`with_attempts`.

        Raises:
            ConfigurationError: a value is out of range, or the schedule is a table, which has no one target.
        """
        changes: dict[str, object] = {}
        if target is not None:
            changes["threshold"] = self.threshold.changed(target=target)
        if beta is not None:
            changes["acceptance"] = Soft(beta=beta) if beta else Hard()
        if segment_tokens is not None:
            changes["segments"] = self.segments.changed(max_tokens=segment_tokens)
        base = self if max_attempts is None else self.with_attempts(max_attempts)
        return base.changed(**changes) if changes else base

    def with_attempts(self, max_attempts: int) -> GuardConfig:
        """A copy with so many candidates per segment; policies that would begin after them are left out."""
        early = tuple(
            policy
            for policy in self.escalation
            if isinstance(policy, Backtrack) or policy.after < max_attempts
        )
        return self.changed(max_attempts=max_attempts, escalation=early)


def _check_floor(floor: float | None, threshold: Threshold) -> None:
    if floor is not None and floor > threshold.target:
        raise ValueError(
            f"floor={floor} is over the target {threshold.target}: nothing between them would be shown; "
            "lower the floor, or raise the target"
        )
