"""What the operator lets a request ask for: how much of it, and which settings of the guard."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, model_validator

from stars_guard.server.openai.faults import bad_request
from stars_guard.settings import Settings


class SizeLimits(Settings):
    """How long a prompt may be, how long its answers, and how many."""

    max_prompt_characters: int = Field(default=400_000, ge=1)
    """Longest prompt, all messages together."""
    max_tokens: int = Field(default=2048, ge=1)
    """Longest answer that a request may ask for."""
    default_tokens: int = Field(default=256, ge=1)
    """Longest answer where a request does not ask."""
    max_choices: int = Field(default=8, ge=1)
    """Most choices (``n``) of one request."""
    max_values: int = Field(default=50_000, ge=1)
    """Most JSON values of one request: texts, numbers, lists and objects, wherever they are."""
    max_messages: int = Field(default=2048, ge=1)
    """Most messages of one request."""
    max_tools: int = Field(default=128, ge=1)
    """Most tools of one request."""
    max_stops: int = Field(default=16, ge=0)
    """Most stop strings of one request. The OpenAI API takes 4, and engines more."""
    max_stop_characters: int = Field(default=256, ge=1)
    """Longest stop string."""
    max_reward_calls: int = Field(default=4096, ge=1)
    """Most texts scored for each choice, which bounds the memory that its decisions take."""

    def check_values(self, body: bytes) -> None:
        """Refuse a body, before it is parsed, that holds more JSON values than it may.

        Raises:
            Fault: 400, naming the limit.
        """
        # First as if all were marks of JSON, which takes no time; only then without those in texts.
        most = self.max_values
        if sum(body.count(mark) for mark in (b",", b"[", b"{")) >= most and _has_more_values(body, most):
            raise bad_request(f"the body has more values than limits.max_values={most} here")

    def check(self, body: Any) -> None:
        """Refuse a request, as parsed but not yet validated, that holds more of anything than it may.

        Raises:
            Fault: 400, naming the limit.
        """
        if not isinstance(body, dict):
            return
        for field in ("messages", "input", "texts", "structured_messages"):
            self._check(field, "entries", _listed(body.get(field)), "max_messages")
        self._check("tools", "entries", _listed(body.get("tools")), "max_tools")
        for field in ("stop", "stop_sequences"):
            self._check_stops(field, body.get(field))

    def _check_stops(self, field: str, stop: Any) -> None:
        stops = [stop] if isinstance(stop, str) else _listed(stop)
        self._check(field, "strings", stops, "max_stops")
        for text in stops:
            self._check(field, "characters", text if isinstance(text, str) else "", "max_stop_characters")

    def _check(self, field: str, unit: str, value: Sequence[Any], limit: str) -> None:
        most = getattr(self, limit)
        if len(value) > most:
            raise bad_request(f"{field} has {len(value)} {unit}, over limits.{limit}={most} here", field)


_TEXTS_AND_MARKS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[,\[{]', re.DOTALL)
_QUOTE = ord('"')


def _has_more_values(body: bytes, most: int) -> bool:
    """Whether a body has more JSON values: each stands first in a list or an object, or after a comma.

    No more of it is looked at than that takes. Of each value there are two texts at most, its key and it.
    """
    values = 1
    for place, found in enumerate(_TEXTS_AND_MARKS.finditer(body)):
        values += body[found.start()] != _QUOTE
        if values > most or place > 3 * most:
            return True
    return False


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


class Range(Settings):
    """The values that a request may choose; None is no bound."""

    least: float | None = None
    """The lowest of them."""
    most: float | None = None
    """The highest of them."""

    @model_validator(mode="after")
    def _not_empty(self) -> Range:
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"least={self.least:g} is over most={self.most:g}, so no value would do")
        return self

    def problem(self, value: float) -> str | None:
        """What is wrong with a value; None if it may be chosen."""
        if self.least is not None and value < self.least:
            return f"at least {self.least:g} is allowed here"
        if self.most is not None and value > self.most:
            return f"at most {self.most:g} is allowed here"
        return None


def _form(rule: object) -> str:
    return "range" if isinstance(rule, dict | Range) else "word"


StricterOrRange: TypeAlias = Annotated[
    Annotated[Literal["stricter", "fixed"], Tag("word")] | Annotated[Range, Tag("range")],
    Discriminator(_form),
]
FixedOrRange: TypeAlias = Annotated[
    Annotated[Literal["fixed"], Tag("word")] | Annotated[Range, Tag("range")], Discriminator(_form)
]
AnyOrFixed: TypeAlias = Literal["any", "fixed"]


class RequestLimits(Settings):
    """What a request may choose, field by field.

    ``fixed``: the server's own value only. ``stricter``: that, or one with which the guard lets less pass. A
    :class:`Range`: any value in it, taken as it is, weaker or not. ``any``: whatever the field can hold.
    """

    target: StricterOrRange = "stricter"
    """Higher is stricter."""
    beta: StricterOrRange = "stricter"
    """Lower is stricter."""
    # A shorter segment ends at a lower threshold of a ramp, a longer one is judged less often.
    segment_tokens: FixedOrRange = "fixed"
    max_attempts: StricterOrRange = "stricter"
    """Lower is stricter: each attempt is a chance that a bad segment is accepted."""
    max_seconds: StricterOrRange = "stricter"
    """A request never gets more than the server's budget; likewise the next two."""
    max_proposed_tokens: StricterOrRange = "stricter"
    max_reward_calls: StricterOrRange = "stricter"
    # Clients of the OpenAI API send 0 and 1 as a matter of course. Whatever is drawn is held against the bar.
    temperature: StricterOrRange = Range(least=0, most=1)
    """Lower is stricter; at 0, what is rejected is drawn again at the operator's ``retry_temperature``."""
    top_p: StricterOrRange = Range(most=1)
    """Lower is stricter."""
    top_k: StricterOrRange = "stricter"
    """Lower is stricter, but 0, which keeps all."""
    min_p: StricterOrRange = "stricter"
    """Higher is stricter."""
    # It makes unlikely what the prompt says, which may be the words of a refusal.
    repetition_penalty: FixedOrRange = "fixed"
    seed: AnyOrFixed = "any"
    stop: AnyOrFixed = "any"
    """Beside the stop strings of the server; likewise ``stop_token_ids``."""
    stop_token_ids: AnyOrFixed = "any"
    tools: AnyOrFixed = "any"
    response_format: AnyOrFixed = "any"
