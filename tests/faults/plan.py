"""What will happen to each stream, drawn from a seed: the same seed plans the same faults."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from random import Random

from stars_guard import Budget, Constant, FixedLength, GuardConfig, Hard, Prompt, SamplingParams, Tools
from stars_guard.algorithm.candidates import Adaptive, Drawing, Fixed
from stars_guard.algorithm.escalation import Backtrack, Escalation, SaferModel, SafetyHint, TemperatureLadder
from stars_guard.algorithm.rules import Best, Exhaustion, LinearInTokens, Raise, Refuse, Soft
from tests.faults.ledger import REFUSAL, TOOL
from tests.faults.marks import BAD, GOOD, POOR, STOP

STREAMS = 64
"""Streams of a wave, which share a guard."""
SEGMENT_TOKENS = 3

FAULTS = {
    "start": ("raises", "prompt error"),
    "propose": ("raises", "guard error", "cancelled", "abort", "too few", "no proposals", "stalls"),
    "accept": ("raises",),
    "hold": ("raises",),
    "close": ("raises",),
    "score": (
        *("raises", "guard error", "cancelled", "abort", "stalls"),
        *("too few", "too many", "nan", "infinite", "no number", "no reward"),
    ),
    "release": ("raises",),
}
"""Where a fault may strike, and how."""
READERS = ("pieces", "events", "whole", "closes", "drops", "breaks off", "cancels", "times out")
LAYOUTS = (
    ("answer", "answer"),
    ("answer", "answer", "answer"),
    ("thought", "answer"),
    ("opened thought", "closed thought", "answer"),
    ("answer", "call"),
    ("answer", "opened call", "closed call"),
    ("thought", "call", "call"),
)
TOOLS = Tools(
    (
        {
            "type": "function",
            "function": {
                "name": TOOL,
                "parameters": {"type": "object", "properties": {"q": {"type": "string"}}},
            },
        },
    )
)


@dataclass(slots=True)
class Fault:
    """Something goes wrong from the n-th visit of a place on, always or once."""

    place: str
    how: str
    after: int
    once: bool
    visits: int = 0
    struck: int = 0

    def strikes(self) -> bool:
        """Whether it does on this visit."""
        self.visits += 1
        if self.visits <= self.after or (self.once and self.struck):
            return False
        self.struck += 1
        return True


@dataclass(slots=True)
class StreamPlan:
    """One stream: what it says, who reads it, and what goes wrong."""

    number: int
    key: int
    """Decides how good each candidate is."""
    layout: tuple[str, ...]
    reader: str
    reads: int
    """Events after which a reader that goes away does so."""
    seconds: float
    """After which one that is cancelled is."""
    sampling: SamplingParams
    budget: Budget
    faults: list[Fault] = field(default_factory=list)

    @property
    def prompt(self) -> Prompt:
        """A conversation that says the number of the stream."""
        calls = any("call" in part for part in self.layout)
        return Prompt.of(f"#{self.number}", TOOLS if calls else None)

    def strikes(self, place: str) -> str | None:
        """How a fault strikes at this visit of a place, if one does."""
        hits = [fault.how for fault in self.faults if fault.place == place and fault.strikes()]
        return hits[0] if hits else None

    @property
    def is_faultless(self) -> bool:
        """Whether nothing but its neighbours can make it fail."""
        return not self.faults

    def quality(self, segment: int, attempt: int) -> str:
        """How good a candidate is; the same for the same address."""
        share = hash((self.key, segment, attempt)) % 100
        return GOOD if share < 60 else POOR if share < 75 else BAD


_NUMBER = re.compile(r"#(\d+)")
NOBODY = -1


def number_of(prompt: Prompt) -> int:
    """The number of the stream that a prompt belongs to; ``NOBODY`` for a probe of the server's own."""
    number = _NUMBER.match(prompt.as_text())
    return int(number[1]) if number else NOBODY


@dataclass(frozen=True)
class WavePlan:
    """Streams that share a guard, and which guard it is."""

    seed: str
    lanes: bool
    served: str
    config: GuardConfig
    max_rows: int
    streams: tuple[StreamPlan, ...]


def wave(seed: int, number: int) -> WavePlan:
    """The plan of a wave; streams are numbered from ``number * STREAMS`` on."""
    name = f"{seed}:{number}"
    rng = Random(name)
    first = number * STREAMS
    served = rng.choice(("threads", "threads", "tasks", "tasks", "batches", "alone"))
    streams = tuple(stream(rng, first + n, is_async=served == "tasks") for n in range(STREAMS))
    return WavePlan(name, bool(number % 2), served, settings(rng), rng.choice((2, 8, 64)), streams)


def settings(rng: Random) -> GuardConfig:
    """Settings of a guard that never shows a bad candidate; a poor one it may force, or accept."""
    soft = rng.random() < 0.25
    ramp = rng.random() < 0.2
    return GuardConfig(
        threshold=LinearInTokens(target=1.0, alpha=0.9) if ramp and soft else Constant(target=1.0),
        acceptance=Soft(beta=1.0) if soft else Hard(),
        segments=FixedLength(max_tokens=SEGMENT_TOKENS),
        drawing=_drawing(rng),
        max_attempts=rng.randint(3, 4),
        escalation=_escalation(rng),
        exhaustion=_exhaustion(rng),
        refusal_text=REFUSAL,
        on_error=rng.choice(("raise", "raise", "stop")),
        keep_rejected_text=rng.random() < 0.1,
    )


def _drawing(rng: Random) -> Drawing:
    if rng.random() < 0.5:
        return Fixed(candidates=rng.randint(1, 3))
    return Adaptive(max_candidates=3, slack=rng.choice((0.0, 0.5)))


def _exhaustion(rng: Random) -> Exhaustion:
    return rng.choice((Best(floor=-0.5), Best(floor=-0.5), Refuse(), Raise()))


def _escalation(rng: Random) -> tuple[Escalation, ...]:
    policies: tuple[Escalation, ...] = (
        *(TemperatureLadder(after=1, every=1), SafetyHint(after=2), SaferModel(after=1)),
        *(Backtrack(segments=1), Backtrack(segments=2)),
    )
    return (rng.choice(policies),) if rng.random() < 0.5 else ()


def stream(rng: Random, number: int, *, is_async: bool) -> StreamPlan:
    """The plan of a stream.

    Args:
        rng: of the wave.
        number: of the stream.
        is_async: whether a task reads it.
    """
    reader = rng.choice(READERS) if rng.random() < 0.5 else rng.choice(READERS[:3])
    if not is_async and reader in ("cancels", "times out"):
        reader = "closes"
    return StreamPlan(
        number,
        key=rng.getrandbits(32),
        layout=rng.choice(LAYOUTS),
        reader=reader,
        reads=rng.randint(0, 4),
        seconds=rng.random() * 0.01,
        sampling=_sampling(rng),
        budget=_budget(rng),
        faults=[_fault(rng)] if rng.random() < 0.35 else [],
    )


_NO_BUDGET = Budget()


def _sampling(rng: Random) -> SamplingParams:
    return SamplingParams(
        seed=rng.getrandbits(32),
        temperature=0.0 if rng.random() < 0.05 else 0.8,
        max_tokens=rng.choice((2, 4)) if rng.random() < 0.1 else 32,
        stop=STOP if rng.random() < 0.05 else (),
    )


def _budget(rng: Random) -> Budget:
    kind = rng.random()
    if kind < 0.03:
        return Budget(max_seconds=rng.random() * 0.01 + 1e-6)
    if kind < 0.06:
        return Budget(max_reward_calls=rng.randint(1, 8))
    return Budget(max_proposed_tokens=rng.randint(1, 30)) if kind < 0.09 else _NO_BUDGET


PROBE = StreamPlan(
    NOBODY,
    key=0,
    layout=("answer",),
    reader="whole",
    reads=0,
    seconds=0.0,
    sampling=SamplingParams(),
    budget=_NO_BUDGET,
)
"""What a server asks for to see whether it is ready: nothing goes wrong."""


def _fault(rng: Random) -> Fault:
    place = rng.choice(("start", *["propose"] * 4, "accept", "hold", "close", *["score"] * 6, "release"))
    return Fault(place, rng.choice(FAULTS[place]), after=rng.randint(0, 3), once=rng.random() < 0.5)
