"""What a guarded answer comes back as: the text, why it ended, what it cost, and every decision."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Any

from pydantic import BaseModel

from stars_guard.algorithm.advice import Advice, advice_on
from stars_guard.algorithm.trace import Trace
from stars_guard.settings import Record
from stars_guard.types import InvalidToolCall, StopReason, ToolCall


class Seconds(BaseModel):
    """Wall time of one request per phase, in seconds. Requests that share a batch share its time."""

    queued: float = 0.0
    """From submission to the first work on it."""
    prefill: float = 0.0
    """Reading the prompt."""
    propose: float = 0.0
    """Drawing candidates."""
    score: float = 0.0
    """Scoring them."""
    first_candidates: float | None = None
    """From submission to the first candidates that were drawn; None when there were none."""
    first_segment: float | None = None
    """From submission to the first accepted segment; None when there was none."""
    total: float = 0.0
    """From submission to the end."""


class Usage(BaseModel):
    """What one answer cost."""

    prompt_tokens: int = 0
    """Prompt length, chat template included."""
    proposed_tokens: int = 0
    """Tokens drawn, kept or not."""
    ahead_tokens: int = 0
    """Proposed tokens that were drawn before the segment in front of them was scored."""
    ahead_wasted_tokens: int = 0
    """Ahead tokens behind a candidate that was then not accepted."""
    kept_tokens: int = 0
    """Tokens of the answer."""
    reward_calls: int = 0
    """Texts scored, the bare prompt included."""
    forward_passes: int = 0
    """Passes through the language model that this answer took part in, prefill included."""
    seconds: Seconds = Seconds()


class ForcedText(Record):
    """What is shown of segments that no candidate earned; spans are ``(start, end)`` in characters."""

    answer: tuple[tuple[int, int], ...] = ()
    """Spans of :attr:`GuardedResult.text`."""
    reasoning: tuple[tuple[int, int], ...] = ()
    """Spans of :attr:`GuardedResult.reasoning`."""
    calls: tuple[str, ...] = ()
    """Ids of the tool calls, those that cannot be made included, with forced text in them."""

    def __bool__(self) -> bool:
        return bool(self.answer or self.reasoning or self.calls)


class GuardedResult(Record):
    """A finished guarded answer."""

    text: str
    """Everything that was shown of the answer; if it was refused, the refusal is its end."""
    reasoning: str = ""
    """Everything that was shown of the reasoning, marks left out."""
    tool_calls: tuple[ToolCall, ...] = ()
    """The calls it makes, in order; all of each was accepted."""
    invalid_tool_calls: tuple[InvalidToolCall, ...] = ()
    """Calls that cannot be made: malformed, cut off, or not allowed."""
    forced_text: ForcedText = ForcedText()
    """Which of all that was forced by the exhaustion policy."""
    token_ids: list[int]
    """Accepted ids; the refusal text adds none, and a refusal that the model wrote adds its own."""
    refusal_from: int | None = None
    """Place in :attr:`text` at which its refusal begins, in characters; None where it ends in none."""
    stop_reason: StopReason
    usage: Usage
    trace: Trace

    @property
    def refused(self) -> bool:
        """Whether the answer ended in a refusal: the refusal text, or one that the model wrote."""
        return self.stop_reason is StopReason.REFUSED

    @property
    def refusal(self) -> str:
        """The refusal with which the answer ends, without the blank lines before it; empty without one."""
        return "" if self.refusal_from is None else self.text[self.refusal_from :].lstrip("\n")

    @property
    def summary(self) -> dict[str, Any]:
        """What the guard did, in numbers, ready for JSON.

        ``segments`` counts every try at one, withdrawn ones too; ``rewards`` are those of the kept ones.
        ``forced_text`` is there where forced text is shown, and ``advice`` where there is some.
        """
        advice = self.advice
        forced_text = self.forced_text.model_dump(mode="json", exclude_defaults=True)
        return {
            "segments": len(self.trace.segments),
            "attempts": self.trace.attempts,
            "forced": self.forced,
            "escalated": self.trace.escalated,
            "withdrawn": self.trace.withdrawn,
            "refused": self.refused,
            "guarantee": self.trace.guarantee.value,
            "rewards": self.trace.kept_rewards,
            **({"forced_text": forced_text} if forced_text else {}),
            **({"advice": advice.model_dump(mode="json")} if advice else {}),
        }

    @property
    def forced(self) -> int:
        """Number of segments that no candidate earned: accepted by exhaustion, not by the rule."""
        return self.trace.forced

    @property
    def advice(self) -> Advice | None:
        """What its decisions say about the settings: a target that most segments did not reach; else None."""
        return advice_on(self.trace)

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= _SHOWN else f"{self.text[:_SHOWN]}…"
        return f"{type(self).__name__}({text!r}, {', '.join(_facts(self))})"

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """The answer for a notebook, with forced text marked, and why it ended."""
        reasoning = _marked(self.reasoning, self.forced_text.reasoning)
        parts = [
            _folded(reasoning) if reasoning else "",
            f"{_PRE}{_marked(self.text, self.forced_text.answer)}</div>",
            *(_call_as_html(call, forced=call.id in self.forced_text.calls) for call in self.tool_calls),
            f"<small>{escape(' · '.join(_facts(self)))}</small>",
        ]
        return f"<div>{''.join(parts)}</div>"


_SHOWN = 60
"""Characters of an answer in its ``repr``."""
_PRE = '<div style="white-space: pre-wrap">'
_MARK = '<mark title="forced: no candidate passed">'


def _facts(result: GuardedResult) -> list[str]:
    """How an answer ended and what it took, in words."""
    return [
        f"stop_reason={result.stop_reason.value}",
        f"tokens={result.usage.kept_tokens}",
        f"segments={len(result.trace.segments)}",
        f"attempts={result.trace.attempts}",
        f"forced={result.forced}",
        *([f"tool_calls={len(result.tool_calls)}"] if result.tool_calls else []),
    ]


def _marked(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """A text as HTML, the spans in it marked."""
    html, end = "", 0
    for start, after in spans:
        html += f"{escape(text[end:start])}{_MARK}{escape(text[start:after])}</mark>"
        end = after
    return html + escape(text[end:])


def _folded(reasoning: str) -> str:
    return f"<details><summary>reasoning</summary>{_PRE}{reasoning}</div></details>"


def _call_as_html(call: ToolCall, *, forced: bool) -> str:
    code = f"<code>{escape(call.name)}({escape(json.dumps(call.arguments, ensure_ascii=False))})</code>"
    return f"<div>{_MARK}{code}</mark></div>" if forced else f"<div>{code}</div>"


_FINISH_WORDS = {
    StopReason.EOS: "stop",
    StopReason.STOP: "stop",
    StopReason.REFUSED: "content_filter",
    StopReason.GENERATION_ERROR: "error",
    StopReason.SCORING_ERROR: "error",
}


def finish_word(result: GuardedResult) -> str:
    """Why the answer ended, in OpenAI's words: stop, tool_calls, length, content_filter or error."""
    if result.tool_calls and result.stop_reason in (StopReason.EOS, StopReason.STOP):
        return "tool_calls"
    return _FINISH_WORDS.get(result.stop_reason, "length")


def token_counts(*results: GuardedResult) -> dict[str, int]:
    """Tokens of the prompt, read once, and of its answers, by OpenAI's names; rejected ones do not count."""
    read = max((result.usage.prompt_tokens for result in results), default=0)
    kept = sum(result.usage.kept_tokens for result in results)
    return {"prompt_tokens": read, "completion_tokens": kept, "total_tokens": read + kept}


def openai_tool_call(call: ToolCall) -> dict[str, Any]:
    """A call that the model made, in OpenAI's form."""
    function = {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)}
    return {"id": call.id, "type": "function", "function": function}
