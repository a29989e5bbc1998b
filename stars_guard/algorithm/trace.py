"""The record of every decision: a versioned pydantic model that exports to JSONL and replays.

A trace holds numbers and lengths. Text of rejected candidates is in it only when
``GuardConfig.keep_rejected_text`` asked for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from stars_guard.algorithm.candidates import AttemptDraws
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.escalation import MODEL, RETRY
from stars_guard.algorithm.rules import Best, LinearInTokens, default_floor
from stars_guard.errors import TraceError
from stars_guard.settings import readable, sized
from stars_guard.types import Channel, Finish, Guarantee, StopReason


class Verdict(StrEnum):
    """What became of a segment."""

    OPEN = "open"
    """Not decided: still being drawn, or the request ended first."""
    ACCEPTED = "accepted"
    """A candidate passed the rule."""
    FORCED = "forced"
    """No candidate passed; the exhaustion policy chose one."""
    REFUSED = "refused"
    """No candidate passed; the answer ended with the refusal text."""
    EXHAUSTED = "exhausted"
    """No candidate passed; an error was raised."""
    DECLINED = "declined"
    """No candidate passed; the model was made to write a refusal at this place."""
    BACKTRACKED = "backtracked"
    """No candidate passed; the segments before it were withdrawn and are written anew."""
    WITHDRAWN = "withdrawn"
    """Accepted or forced, and taken back before it was shown, since nothing acceptable followed."""


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Attempt(_Record):
    """One judged candidate."""

    index: int
    """Attempt number within the segment, from 0."""
    tokens: int
    """Length of the candidate, in tokens."""
    opening_tokens: int = 0
    """Tokens at its beginning that an opening put there, and that were not drawn."""
    text_length: int
    """Length of the whole answer with this candidate, in characters."""
    finish: Finish | None
    """Why it ends the answer, if it does."""
    channel: Channel = Channel.ANSWER
    """The part of the answer that decided: of those it adds to, the one with the lowest probability."""
    proposal: str = MODEL
    """Where it was drawn from: the model as asked, or at the temperature of retries, or what escalation put
    in its place."""
    temperature: float
    """Sampling temperature that it was drawn at."""
    reward: float
    components: dict[str, float]
    """Scores that the reward was combined from, by name; where several channels were judged, each one's."""
    truncated_tokens: int
    """Tokens that did not fit the reward model."""
    threshold: float
    """``tau_k``, shift included."""
    probability: float
    """Acceptance probability in [0, 1]."""
    uniform: float
    """The uniform draw; accepted exactly when it is under ``probability``."""
    accepted: bool
    text: str | None = None
    """The whole answer with this candidate; rejected ones only when asked for."""

    @property
    def escalated(self) -> bool:
        """Whether it was drawn by a policy of escalation."""
        return self.proposal not in (MODEL, RETRY)


class SegmentTrace(_Record):
    """One segment and every attempt at it."""

    index: int
    """Segment number, from 0."""
    prefix_tokens: int
    """Response tokens accepted before it."""
    candidates: int
    """Candidates drawn per round."""
    max_tokens: int
    """Longest segment allowed."""
    threshold_shift: float
    """Adaptive change to the schedule's threshold, in reward units."""
    takes_openings: bool = True
    """False where a policy has openings, and none fits here; they draw nothing then."""
    drawn: int = 0
    """Candidates drawn, judged or not; those past the first accepted were discarded unseen."""
    attempts: list[Attempt] = []
    verdict: Verdict = Verdict.OPEN
    chosen: int | None = None
    """Index of the attempt that became part of the answer."""


class Trace(_Record):
    """All decisions of one guarded answer, with everything needed to recompute them."""

    version: Literal[3, 4] = 4
    """3: planned whatever the number of attempts, so that candidates of a round stand as recorded."""
    run_id: str
    model: str
    """Name of the language model."""
    reward: str
    """Name of the reward model."""
    config: GuardConfig
    sampling: SamplingParams
    """With the seed that was used."""
    base_rewards: dict[Channel, float] = {}
    """Reward of the bare prompt per channel, where its schedule needs it."""
    segments: list[SegmentTrace]
    stop_reason: StopReason | None
    keyed: bool = False
    """Whether acceptance draws came from a key that the operator holds, rather than from the seed."""
    guarantee: Guarantee = Guarantee.TOKEN_IDS
    """How exactly the language model continued what was accepted."""

    @model_validator(mode="before")
    @classmethod
    def _of_any_version(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("version") == 1:
            values = _from_version_1(values)
        if isinstance(values, dict) and values.get("version") == 2:
            values = _from_version_2(values)
        return values

    def __repr__(self) -> str:
        why = None if self.stop_reason is None else self.stop_reason.value
        return (
            f"Trace({self.run_id!r}, segments={len(self.segments)}, attempts={self.attempts}, ended={why!r})"
        )

    @property
    def forced(self) -> int:
        """Number of segments accepted by exhaustion rather than by the rule."""
        return sum(segment.verdict is Verdict.FORCED for segment in self.segments)

    @property
    def kept_rewards(self) -> list[float]:
        """Rewards of the candidates that became the answer, one a segment."""
        kept = [segment for segment in self.segments if segment.verdict is not Verdict.WITHDRAWN]
        chosen = [(segment.attempts, segment.chosen) for segment in kept]
        return [attempts[index].reward for attempts, index in chosen if index is not None]

    @property
    def withdrawn(self) -> int:
        """Number of segments that were accepted and taken back."""
        return sum(segment.verdict is Verdict.WITHDRAWN for segment in self.segments)

    @property
    def escalated(self) -> int:
        """Number of segments of the answer that were drawn by escalation."""
        kept = [segment for segment in self.segments if segment.verdict is not Verdict.WITHDRAWN]
        chosen = [segment.attempts[segment.chosen] for segment in kept if segment.chosen is not None]
        return sum(attempt.escalated for attempt in chosen)

    @property
    def attempts(self) -> int:
        """Candidates judged."""
        return sum(len(segment.attempts) for segment in self.segments)

    @property
    def acceptance_rate(self) -> float:
        """Share of judged candidates that the rule accepted; 1.0 when none was judged."""
        judged = [attempt.accepted for segment in self.segments for attempt in segment.attempts]
        return sum(judged) / len(judged) if judged else 1.0


def _from_version_1(values: dict[str, Any]) -> dict[str, Any]:
    """A trace from before there was a floor, when the rule was that of ``GuardConfig.paper``."""
    settings = values.get("config")
    if not isinstance(settings, dict):
        return values
    # A floor said only what may be forced; where a channel has its own, an answer was refused by it.
    refused = values.get("stop_reason") == StopReason.REFUSED
    channels = {name: _before_floors(settings.get(name), keep=refused) for name in ("reasoning", "tools")}
    config = GuardConfig(**settings | channels | {"floor": "-inf", "final_at_target": False})
    if isinstance(config.threshold, LinearInTokens):
        config = config.changed(threshold=config.threshold.changed(horizon="request"))
    if config.exhaustion == Best():
        floor = default_floor(config.threshold.target, config.acceptance)
        config = config.changed(exhaustion=Best(floor=floor))
    return {**values, "version": 2, "config": dict(config)}


def _from_version_2(values: dict[str, Any]) -> dict[str, Any]:
    """A trace from before there were retries, when attempts did not say their temperature."""
    settings, sampling, segments = (values.get(name) for name in ("config", "sampling", "segments"))
    if not (isinstance(settings, dict) and isinstance(sampling, dict) and isinstance(segments, list)):
        return values
    config = GuardConfig(**settings | {"retry_temperature": None})
    draws = AttemptDraws(config.escalation, SamplingParams(**sampling).temperature, config.max_attempts)
    segments = [_with_temperatures(segment, draws) for segment in segments]
    return {**values, "version": 3, "config": config, "segments": segments}


def _with_temperatures(segment: Any, draws: AttemptDraws) -> Any:
    """A segment of version 2 whose attempts say the temperature that followed from the settings."""
    attempts = segment.get("attempts") if isinstance(segment, dict) else None
    if not isinstance(attempts, list):
        return segment
    stated = [
        {**attempt, "temperature": draws.of(number).temperature} if isinstance(attempt, dict) else attempt
        for number, attempt in enumerate(attempts)
    ]
    return {**segment, "attempts": stated}


def _before_floors(rules: Any, *, keep: bool) -> Any:
    """A channel's rules of version 1, in the words of version 2."""
    if not isinstance(rules, dict):
        return rules
    threshold = rules.get("threshold")
    if isinstance(threshold, dict) and threshold.get("kind") == "linear_in_tokens":
        rules = {**rules, "threshold": {**threshold, "horizon": "request"}}
    return rules if keep else {**rules, "floor": "-inf"}


def write_jsonl(path: Path, traces: Iterable[Trace]) -> None:
    """Append traces to a file, one JSON object a line."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(trace.model_dump_json() + "\n" for trace in traces)


def read_jsonl(path: Path) -> Iterator[Trace]:
    """Read traces back.

    Raises:
        TraceError: naming the line that is not a trace of a known version.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield Trace.model_validate_json(line)
            except ValidationError as error:
                raise TraceError(f"{path}:{number}: {readable(error, 'not a trace', sized)}") from error
