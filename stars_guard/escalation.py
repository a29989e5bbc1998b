"""What to do when a position keeps failing: draw its later attempts from elsewhere, or go back.

None of this changes what is shown: the rule judges every candidate as before. It changes where candidates
come from, and so the law, as each policy says. Off unless ``GuardConfig.escalation`` names policies.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from stars_guard.settings import Settings

MODEL = "model"
"""The proposal of every attempt before escalation: the language model as the request asks for it."""


class TemperatureLadder(Settings):
    """Later attempts are drawn at a rising temperature.

    Law: as without it while attempts under ``after`` succeed. An attempt on a rung draws from ``pi`` at that
    temperature, so an accepted segment follows the mixture, over rungs, of
    ``pi_t(s) exp(min(r, tau) / beta)``, each weighted with the chance that all earlier attempts failed. At
    temperature 0 attempts under ``after`` are all alike: let the ladder begin after the first.
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
    seen. Law: an earlier segment is now kept only if what follows it succeeds, so its law is tilted further
    by the chance of that. Each try at a segment has ``max_attempts`` of its own.
    """

    kind: Literal["backtrack"] = "backtrack"
    segments: int = Field(default=1, ge=1)
    """Accepted segments held back, and withdrawn together."""
    most: int = Field(default=2, ge=1)
    """Times that one answer may go back."""


Redraw: TypeAlias = TemperatureLadder | SafetyHint | SaferModel
Escalation: TypeAlias = Annotated[Redraw | Backtrack, Field(discriminator="kind")]


def backtrack(policies: tuple[Escalation, ...]) -> Backtrack | None:
    """The policy to go back, if there is one."""
    return next((one for one in policies if isinstance(one, Backtrack)), None)


def redraw(policies: tuple[Escalation, ...], attempt: int) -> Redraw | None:
    """The policy that an attempt is drawn by: of those that have begun, the one that began last."""
    begun = [one for one in policies if not isinstance(one, Backtrack) and one.after <= attempt]
    return max(begun, key=lambda one: one.after, default=None)


def proposal(policy: Redraw | None, temperature: float, attempt: int) -> str:
    """How the trace calls the place that an attempt was drawn from."""
    if policy is None:
        return MODEL
    if isinstance(policy, TemperatureLadder):
        return f"temperature {policy.temperature(temperature, attempt):g}"
    return "safety hint" if isinstance(policy, SafetyHint) else "safer model"


def problem(policies: tuple[Escalation, ...]) -> str | None:
    """What is wrong with a combination, if something is."""
    starts = [one.after for one in policies if not isinstance(one, Backtrack)]
    if len(set(starts)) < len(starts):
        return f"two policies begin after the same attempt ({sorted(starts)}); let one begin later"
    if sum(isinstance(one, Backtrack) for one in policies) > 1:
        return "there are two backtrack policies; keep one"
    return None
