"""Requests of the OpenAI API as they come over the wire, with ours beside: ``stars`` and sampling fields.

Fields that cannot change the answer are ignored, as other servers do. Those that would, and are not served,
are refused by name, in :mod:`stars_guard.server.openai.translate`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

Count: TypeAlias = Annotated[int, Field(ge=1, lt=2**31)]
StopText: TypeAlias = Annotated[str, Field(min_length=1)]


class Wire(BaseModel):
    """Fields of a request; others are kept, to be looked at where the request is translated."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class Turn(Wire):
    """One message. Keys that other servers answer with, and clients send back, are ignored."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | float | list[Any] | dict[str, Any] | None = None
    tool_calls: list[Any] | None = None
    tool_call_id: str | None = None
    name: str | None = None


class StreamOptions(Wire):
    """What a stream also holds."""

    include_usage: bool | None = None


class Stars(BaseModel):
    """How this request is guarded, within the limits of the operator. None: as the server is set up."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    target: float | None = None
    """Reward to aim at."""
    beta: float | None = Field(default=None, ge=0)
    """Acceptance temperature."""
    segment_tokens: Count | None = None
    """Longest segment."""
    max_attempts: Count | None = None
    """Candidates judged per segment."""
    max_seconds: float | None = Field(default=None, gt=0)
    """Most seconds for each choice."""
    max_proposed_tokens: Count | None = None
    """Most tokens drawn for each choice, kept or not."""
    max_reward_calls: Count | None = None
    """Most texts scored for each choice."""
    trace: bool | None = None
    """Whether the response holds every decision, too; only where the server keeps traces."""


class AnswerRequest(Wire):
    """What all requests for an answer share, whatever their form."""

    model: str | None = None
    stream: bool | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0, lt=2**31)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stop: StopText | list[StopText] | None = None
    stop_token_ids: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(max_length=64)] | None = None
    stars: Stars | None = None


class Completion(AnswerRequest):
    """What both kinds of completion share."""

    stream_options: StreamOptions | None = None
    n: Count | None = None
    max_tokens: Count | None = None


class ChatRequest(Completion):
    """``POST /v1/chat/completions``; what the other kinds of conversation are translated into."""

    messages: list[Turn] = Field(min_length=1)
    max_completion_tokens: Count | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None


class CompletionRequest(Completion):
    """``POST /v1/completions``: a text to be continued as it stands."""

    prompt: str | list[str]


class ScoreBody(Wire):
    """``POST /v1/guard/score``: what the reward model says of an answer, or of its beginning."""

    model: str | None = None
    prompt: str | None = None
    """The question; or a conversation in ``messages``."""
    messages: list[Turn] | None = None
    response: str
    """The answer so far; may be empty."""
    finished: bool = True
    """Whether it is complete."""
    threshold: float | None = None
    """What to hold it against; None: what the guard demands of a whole answer."""


class ScoreAnswer(BaseModel):
    """What the reward model says, and what the guard would make of it."""

    reward: float
    """Higher is better."""
    components: dict[str, float]
    """What it was combined from."""
    truncated_tokens: int
    """Tokens that the reward model did not read."""
    threshold: float
    """What it was held against."""
    acceptance_probability: float
    """Probability with which the guard accepts such a reward at this threshold, in [0, 1]."""
    passes: bool
    """Whether the threshold is reached."""


class ErrorBody(BaseModel):
    """What is wrong."""

    message: str
    type: str
    param: str | None
    """The field of the request, where it is one."""
    code: str | None


class ErrorAnswer(BaseModel):
    """Every failure."""

    error: ErrorBody
