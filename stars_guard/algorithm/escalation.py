"""What to do when a position keeps failing: draw its later attempts from elsewhere, or go back.

None of this changes what is shown: the rule judges every candidate as before. It changes where candidates
come from, and so the law, as each policy says. Off unless ``GuardConfig.escalation`` names policies.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from stars_guard.algorithm.kinds import any_kind
from stars_guard.algorithm.openings import RefusalOpening
from stars_guard.settings import Computable, Settings

MODEL = "model"
"""The proposal of every attempt before escalation: the language model as the request asks for it."""
RETRY = "retry"
"""The proposal of attempts at ``GuardConfig.retry_temperature``: the language model, more freely."""


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
    step: Computable = Field(default=0.25, gt=0)
    """Added to the temperature on each rung."""
    every: int = Field(default=4, ge=1)
    """Attempts on each rung."""
    highest: Computable = Field(default=1.5, gt=0)
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
    So an early segment is tilted further, towards those that can be continued. Near temperature 0, where only
    later attempts are drawn at ``retry_temperature``, the place that the answer goes back to has all its
    attempts drawn so, since the first would be what was withdrawn; without ``retry_temperature``, nothing is
    held back at temperature 0.
    """

    kind: Literal["backtrack"] = "backtrack"
    segments: int = Field(default=1, ge=1)
    """Accepted segments held back, and withdrawn together."""
    most: int = Field(default=2, ge=1)
    """Times that one answer may go back."""


OtherSource: TypeAlias = SafetyHint | SaferModel
"""Policies that draw from another prompt or another model than those of the answer."""
Redraw: TypeAlias = TemperatureLadder | OtherSource | RefusalOpening
"""Policies that draw attempts otherwise."""
_ESCALATION = any_kind(
    "one of TemperatureLadder, SafetyHint, SaferModel, RefusalOpening, Backtrack, or its name"
)
Escalation: TypeAlias = Annotated[Redraw | Backtrack, Field(discriminator="kind"), _ESCALATION]
