"""Texts that others wrote, judged by the reward model: scores, moderation, a guardrail for LiteLLM."""
