"""The doors by which texts are judged that others wrote: one reward model judges, and one bar holds."""

from __future__ import annotations

from typing import Annotated

from fastapi import Body, FastAPI, Request

from stars_guard.server.entry.gate import LITELLM
from stars_guard.server.judging.texts import guarded, moderated
from stars_guard.server.judging.verdicts import guardrail_answer, held, moderation_result
from stars_guard.server.judging.wire import (
    GuardrailAnswer,
    GuardrailRequest,
    ModerationAnswer,
    ModerationRequest,
)
from stars_guard.server.openai.wire import ScoreAnswer, ScoreBody, Stars
from stars_guard.server.service import Service

_MODERATORS = ("omni-moderation-", "text-moderation-")
"""Beginnings of the names of OpenAI's models, which clients of the moderation endpoint send by default."""


def add_judges(app: FastAPI, service: Service) -> None:
    """Add the endpoints that judge.

    Args:
        app: gets them.
        service: what requests share.
    """
    _add_score(app, service)
    _add_moderation(app, service)
    _add_guardrail(app, service)


def _add_score(app: FastAPI, service: Service) -> None:
    translator = service.translator

    @app.post("/v1/guard/score", tags=["guard"])
    async def score(request: Request, body: Annotated[ScoreBody, Body()]) -> ScoreAnswer:
        """What the reward model says of an answer, or of its beginning; higher is better."""
        translator.check_model(body.model)
        text = await service.workers.run(request.state.size, translator.to_score, body)
        (reward,) = await service.scored(request.state.exchange, [text])
        verdict = held(service.llm.config, reward, body.threshold)
        return ScoreAnswer(
            reward=reward.value,
            components=dict(reward.components),
            truncated_tokens=reward.truncated_tokens,
            threshold=verdict.threshold,
            acceptance_probability=verdict.probability,
            passes=verdict.passes,
        )


def _add_moderation(app: FastAPI, service: Service) -> None:
    translator = service.translator

    @app.post("/v1/moderations", tags=["guard"])
    async def moderations(request: Request, body: Annotated[ModerationRequest, Body()]) -> ModerationAnswer:
        """Whether texts are under the bar, each judged as a whole answer."""
        if not (body.model or "").startswith(_MODERATORS):
            translator.check_model(body.model)
        config = translator.bar(body.stars or Stars())
        texts = await service.workers.run(request.state.size, moderated, body)
        translator.check_length(sum(len(text.response) for text in texts) + len(body.prompt or ""), "input")
        rewards = await service.scored(request.state.exchange, texts)
        return ModerationAnswer(
            id=f"modr-{request.state.exchange.id}",
            model=service.config.served_name,
            results=[moderation_result(held(config, reward)) for reward in rewards],
        )


def _add_guardrail(app: FastAPI, service: Service) -> None:
    translator = service.translator

    @app.post(LITELLM, tags=["guard"], response_model_exclude_none=True)
    async def guardrail(request: Request, body: Annotated[GuardrailRequest, Body()]) -> GuardrailAnswer:
        """Whether LiteLLM may pass on texts and calls, each judged as a whole answer."""
        params = body.additional_provider_specific_params
        config = translator.bar(Stars(target=params.target) if params else Stars())
        if body.images:
            return GuardrailAnswer(
                action="BLOCKED", blocked_reason="there are pictures, which cannot be judged"
            )
        texts = await service.workers.run(request.state.size, guarded, body)
        translator.check_length(sum(len(text.response) for text in texts), "texts")
        rewards = await service.scored(request.state.exchange, texts)
        return guardrail_answer(config, texts, rewards)
