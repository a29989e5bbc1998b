"""What to do when a position keeps failing: draw its later attempts from elsewhere, or go back.

None of this changes what is shown: the rule judges every candidate as before. It changes where candidates
come from, and so the law, as each policy says. Off unless ``GuardConfig.escalation`` names policies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from stars_guard.settings import Settings

MODEL = "model"
"""The proposal of every attempt before escalation: the language model as the request asks for it."""


class TemperatureLadder(Settings):
    """Later attempts are drawn at a rising temperature.

    Law: with ``pi_j`` for what attempt ``j`` draws from, ``a`` for the acceptance probability and ``F_j`` for
    the chance that all attempts before ``j`` fail, a segment ``s`` is accepted with probability
    ``sum_j F_j pi_j(s) a(s)``. Without policies every ``pi_j`` is ``pi``, and this is the tilted law; with
    them it is a mixture of the tilts of several laws. Here ``pi_j`` is ``pi`` at the temperature of its rung.
    """

    kind: Literal["temperature_ladder"] = "temperature_ladder"
    after: int = Field(default=4, ge=1)
    """Attempts at a segment that are drawn as usual."""
    step: float = Field(default=0.25, gt=0)
    """Added to the temperature on each rung."""
    every: int = Field(default=4, ge=1)
    """Attempts on each rung."""
    highest: float = Field(default=1.5, gt=0)
    """Temperature that is never passed; a request that starts higher stays where it is."""

    def temperature(self, base: float, attempt: int) -> float:
        """The temperature of an attempt, which is ``after`` or later."""
        rung = 1 + (attempt - self.after) // self.every
        return max(base, min(self.highest, base + rung * self.step))


class SafetyHint(Settings):
    """Later attempts are drawn from the model with a hint after the last user message.

    Law: these attempts draw from ``pi(. | prompt, hint, prefix)``; the rest as for the ladder. The hint is in
    no other prompt, is not judged, and the reward is told the prompt without it.
    """

    kind: Literal["safety_hint"] = "safety_hint"
    after: int = Field(default=4, ge=1)
    """Attempts at a segment that are drawn as usual."""
    text: str = Field(
        default="(Answer in a safe and kind way. If this asks for something harmful, say so and refuse.)",
        min_length=1,
    )
    """What is added."""


class SaferModel(Settings):
    """Later attempts are drawn by another language model, given to the guard as ``safer_model``.

    Law: these attempts draw from the other model's ``pi(. | prompt, prefix)``; the rest as for the ladder.
    The prefix is handed over as token ids, so both models must have the same vocabulary.
    """

    kind: Literal["safer_model"] = "safer_model"
    after: int = Field(default=4, ge=1)
    """Attempts at a segment that are drawn as usual."""


class Backtrack(Settings):
    """Where every attempt failed, the last accepted segments are withdrawn and written anew.

    The last ``segments`` accepted segments are held back and not shown, so that what is withdrawn was never
    seen; those that are held when the answer ends are shown then. Each try at a segment has ``max_attempts``
    of its own.

    Law, for two segments and ``most=1``: with ``q`` for the law of the first, ``g(. | s1)`` for that of the
    second where an attempt is accepted, and ``e(s1)`` for the chance that all fail, ``(s1, s2)`` comes with
    ``q(s1) g(s2 | s1) + E_q[e] q(s1) h(s2 | s1)``, where ``h`` is ``g`` and what the exhaustion policy adds.
    So an early segment is tilted further, towards those that can be continued. At temperature 0 nothing is
    held back or withdrawn, since the same would be written again.
    """

    kind: Literal["backtrack"] = "backtrack"
    segments: int = Field(default=1, ge=1)
    """Accepted segments held back, and withdrawn together."""
    most: int = Field(default=2, ge=1)
    """Times that one answer may go back."""


Redraw: TypeAlias = TemperatureLadder | SafetyHint | SaferModel
Escalation: TypeAlias = Annotated[Redraw | Backtrack, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class AttemptDraw:
    """How one attempt at a segment is drawn."""

    temperature: float
    """Sampling temperature."""
    policy: Redraw | None = None
    """What it is drawn by; None: by the language model as the request asks for it."""

    @property
    def override(self) -> float | None:
        """The temperature, where it is not the one that the session was opened with."""
        return self.temperature if isinstance(self.policy, TemperatureLadder) else None

    @property
    def name(self) -> str:
        """How the trace calls it."""
        if isinstance(self.policy, TemperatureLadder):
            return f"temperature {self.temperature:g}"
        return MODEL if self.policy is None else self.policy.kind.replace("_", " ")


class AttemptDraws:
    """How the attempts at a segment are drawn.

    At temperature 0 a proposal gives the same candidate every time, so it is asked once, and what comes after
    it follows at once: of 20 attempts without policies one is left.

    Args:
        policies: those of the settings.
        temperature: what the request asks for.
        most: attempts that the settings allow.

    Attributes:
        count: attempts that may differ.
    """

    def __init__(self, policies: tuple[Escalation, ...], temperature: float, most: int) -> None:
        redraws = [policy for policy in policies if not isinstance(policy, Backtrack)]
        self._temperature = temperature
        self._policies = sorted(redraws, key=lambda policy: policy.after)
        self.count = most
        if temperature == 0:
            self._leave_out_alike(most)

    def _leave_out_alike(self, most: int) -> None:
        begins, shifted = 1, []
        ends = [*(policy.after for policy in self._policies), most]
        for policy, end in zip(self._policies, ends[1:], strict=True):
            shifted.append(policy.changed(after=begins))
            begins += end - policy.after if isinstance(policy, TemperatureLadder) else 1
        self._policies, self.count = shifted, begins

    def of(self, attempt: int) -> AttemptDraw:
        """By the policy that began last, of those that have begun."""
        begun = [policy for policy in self._policies if policy.after <= attempt]
        policy = begun[-1] if begun else None
        if isinstance(policy, TemperatureLadder):
            return AttemptDraw(policy.temperature(self._temperature, attempt), policy)
        return AttemptDraw(self._temperature, policy)

    def alike(self, first: int, most: int) -> int:
        """How many attempts from ``first`` on are drawn alike, at most ``most``."""
        draw = self.of(first)
        return next((n for n in range(1, most) if self.of(first + n) != draw), most)


def backtrack(policies: tuple[Escalation, ...], temperature: float) -> Backtrack | None:
    """The policy to go back, if there is one. At temperature 0 the same would be written again."""
    return next((policy for policy in policies if isinstance(policy, Backtrack) and temperature > 0), None)


def problem(policies: tuple[Escalation, ...], max_attempts: int) -> str | None:
    """What is wrong with a combination, if something is."""
    kinds = [policy.kind for policy in policies if policy.kind != "safety_hint"]
    if twice := {kind for kind in kinds if kinds.count(kind) > 1}:
        return f"there are several policies {min(twice)}; keep one"
    starts = [policy.after for policy in policies if not isinstance(policy, Backtrack)]
    if len(set(starts)) < len(starts):
        return f"two policies begin after the same attempt ({sorted(starts)}); let one begin later"
    if starts and max(starts) >= max_attempts:
        return (
            f"a policy begins after {max(starts)} attempts, and max_attempts={max_attempts}: it would never "
            "draw; let it begin earlier, or raise max_attempts"
        )
    return None
