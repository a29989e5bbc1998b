"""Vercel's AI SDK."""

from __future__ import annotations

from driven import InNode, error


class TestAISDK(InNode):
    client = "ai"
    wrong_key = error("APICallError")
    too_long = error("APICallError")
    refused_as = "content-filter"


class TestAnthropicProvider(InNode):
    client = "ai_anthropic"
    wrong_key = error("APICallError")
    too_long = error("APICallError")
    refused_as = "content-filter"
