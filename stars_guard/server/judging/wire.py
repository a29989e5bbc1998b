"""Requests to judge texts, and what is answered."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from stars_guard.server.openai.wire import Stars, Wire


class ModerationRequest(Wire):
    """``POST /v1/moderations``: texts of the OpenAI API, each judged for itself."""

    input: str | list[str | dict[str, Any]]
    """A text, or a list of them; parts of content are one text together."""
    model: str | None = None
    prompt: str | None = None
    """What the texts answer, where they are answers."""
    stars: Stars | None = None
    """``target`` raises the bar."""


class JudgedText(BaseModel):
    """What the reward model says of a text, and what it was held against."""

    reward: float
    """Higher is better."""
    threshold: float
    components: dict[str, float]
    """What the reward was combined from."""


class ModerationResult(BaseModel):
    """Whether one text is under the bar. The one category there is is this guard's."""

    flagged: bool
    categories: dict[str, bool]
    category_scores: dict[str, float]
    """Probability with which the guard rejects such a text."""
    category_applied_input_types: dict[str, list[str]]
    stars: JudgedText


class ModerationAnswer(BaseModel):
    """A result for each text."""

    id: str
    model: str
    results: list[ModerationResult]


class GuardrailParams(BaseModel):
    """What LiteLLM's configuration, or a request to it, may set of the guardrail."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    target: float | None = None
    """Raises the bar."""


class GuardrailRequest(Wire):
    """``POST /beta/litellm_basic_guardrail_api``: what LiteLLM is about to pass on."""

    texts: list[str] | None = None
    images: list[str] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    structured_messages: list[dict[str, Any]] | None = None
    input_type: Literal["request", "response"] = "request"
    additional_provider_specific_params: GuardrailParams | None = None


class GuardrailAnswer(BaseModel):
    """What LiteLLM is to do. The guard judges here, and does not write anew."""

    action: Literal["NONE", "BLOCKED"]
    blocked_reason: str | None = None
