"""Requests of the OpenAI API as they come over the wire, with ours beside: ``stars`` and sampling fields.

Fields that cannot change the answer are ignored, as other servers do. Those that would, and are not served,
are refused by name, in :mod:`stars_guard.server.translate`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Wire(BaseModel):
    model_config = ConfigDict(extra="allow")


class Turn(_Wire):
    """One message. Keys that other servers answer with, and clients send back, are ignored."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    name: str | None = None


class StreamOptions(_Wire):
    """What a stream also holds."""

    include_usage: bool | None = None


class Stars(BaseModel):
    """How this request is guarded, within the limits of the operator. None: as the server is set up."""

    model_config = ConfigDict(extra="forbid")

    target: float | None = Field(default=None, allow_inf_nan=False)
    """Reward to aim at."""
    beta: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Acceptance temperature."""
    segment_tokens: int | None = Field(default=None, ge=1)
    """Longest segment."""
    max_attempts: int | None = Field(default=None, ge=1)
    """Candidates judged per segment."""
    max_seconds: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Most seconds for each choice."""
    max_proposed_tokens: int | None = Field(default=None, ge=1)
    """Most tokens drawn for each choice, kept or not."""
    max_reward_calls: int | None = Field(default=None, ge=1)
    """Most texts scored for each choice."""


class _Generation(_Wire):
    """What both kinds of request share."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(default=None, gt=0, le=1, allow_inf_nan=False)
    top_k: int | None = Field(default=None, ge=0)
    min_p: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)
    repetition_penalty: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    seed: int | None = None
    stop: str | list[str] | None = None
    stars: Stars | None = None


class ChatRequest(_Generation):
    """``POST /v1/chat/completions``."""

    messages: list[Turn] = Field(min_length=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None


class CompletionRequest(_Generation):
    """``POST /v1/completions``: a text to be continued as it stands."""

    prompt: str | list[str]


class ScoreBody(_Wire):
    """``POST /v1/guard/score``: what the reward model says of an answer, or of its beginning."""

    model: str | None = None
    prompt: str | None = None
    """The question; or a conversation in ``messages``."""
    messages: list[Turn] | None = None
    response: str
    """The answer so far; may be empty."""
    finished: bool = True
    """Whether it is complete."""
