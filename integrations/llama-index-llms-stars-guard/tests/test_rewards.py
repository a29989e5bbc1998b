"""Evaluators as reward models."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from guards import HARD, guard_of, user
from llama_index.core.evaluation import (
    BaseEvaluator,
    CorrectnessEvaluator,
    EvaluationResult,
    GuidelineEvaluator,
)
from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata
from stars_guard import ConfigurationError, Prompt, ScoringError
from stars_guard.rewards import RewardModel, ScoreRequest, score_checked

from llama_index.llms.stars_guard import EvaluatorReward, StarsGuardedLLM

SCRIPT = [["Go away! ", "Hello. "], ["What now!", "How are you?"]]


class Judge(CustomLLM):
    """An LLM that thinks ill of exclamation marks, and replies as evaluators want it."""

    bad: str
    good: str

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata()

    def complete(self, prompt: str, formatted: bool = False, **options: Any) -> CompletionResponse:
        return CompletionResponse(text=self.bad if "!" in prompt else self.good)

    def stream_complete(self, prompt: str, formatted: bool = False, **options: Any) -> Any:
        raise NotImplementedError


class Scripted(BaseEvaluator):
    """Gives one result, or raises it; remembers what it was asked."""

    def __init__(self, result: Any) -> None:
        self.result = result
        self.asked: list[dict[str, Any]] = []

    def _get_prompts(self) -> dict[str, Any]:
        return {}

    def _update_prompts(self, prompts: dict[str, Any]) -> None:
        """There are none."""

    async def aevaluate(self, **arguments: Any) -> EvaluationResult:
        self.asked.append(arguments)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


def requests(*answers: str) -> list[ScoreRequest]:
    return [ScoreRequest(Prompt.of("Hi"), answer, finished=False) for answer in answers]


def values(reward: EvaluatorReward, *answers: str) -> list[float]:
    return [scored.value for scored in score_checked(reward, requests(*answers))]


def kind() -> EvaluatorReward:
    replies = {"bad": '{"passing": false, "feedback": "rude"}', "good": '{"passing": true, "feedback": ""}'}
    return EvaluatorReward(GuidelineEvaluator(llm=Judge(**replies), guidelines="Be kind."))


def test_guidelines() -> None:
    reward = kind()
    assert isinstance(reward, RewardModel)
    assert reward.name == "GuidelineEvaluator"
    assert values(reward, "Hello.", "Go!", "") == [1.0, 0.0, 1.0]
    assert reward.score([]) == []
    reward.release("run")


def test_correctness_is_a_score_of_five() -> None:
    evaluator = CorrectnessEvaluator(llm=Judge(bad="1.5\nrude", good="4.5\nkind"))
    assert values(EvaluatorReward(evaluator, name="kind"), "Hello.", "Go!") == [4.5, 1.5]


def test_inputs_and_reading_are_choices() -> None:
    evaluator = Scripted(EvaluationResult(passing=True))
    reward = EvaluatorReward(
        evaluator,
        inputs=lambda prompt, response: {"query": prompt, "response": response, "contexts": ["notes"]},
        read=lambda result: 2.0 if result.passing else -2.0,
    )
    assert values(reward, "Hello.") == [2.0]
    assert evaluator.asked == [{"query": "Hi", "response": "Hello.", "contexts": ["notes"]}]


def test_candidates_are_evaluated_together() -> None:
    arrived = []

    async def aevaluate(query: str, response: str) -> EvaluationResult:
        arrived.append(response)
        while len(arrived) < 3:  # never ends unless all are awaited together
            await asyncio.sleep(0)
        return EvaluationResult(score=float(len(response)))

    reward = EvaluatorReward(SimpleNamespace(aevaluate=aevaluate))  # type: ignore[arg-type]
    assert values(reward, "a", "bb", "") == [1.0, 2.0, 0.0]


async def test_it_works_where_a_loop_is_running() -> None:
    assert values(kind(), "Hello.") == [1.0]


FAILURES = [
    (
        EvaluationResult(invalid_result=True, invalid_reason="no reply", score=1.0),
        "the evaluation is invalid;",
    ),
    (EvaluationResult(passing=True), "no score; give a read="),
    (EvaluationResult(score=float("nan")), "must be finite"),
    (None, "AttributeError"),
    (TimeoutError("the judge is away"), "failed: TimeoutError$"),
]


@pytest.mark.parametrize(("result", "message"), FAILURES)
def test_what_is_no_judgement_passes_nothing(result: Any, message: str) -> None:
    llm = StarsGuardedLLM(guard=guard_of(SCRIPT, EvaluatorReward(Scripted(result))))
    with pytest.raises(ScoringError, match=message):
        llm.chat(user("Hi"))
    shown = []
    with pytest.raises(ScoringError, match=message):
        shown.extend(llm.stream_chat(user("Hi")))
    assert shown == []


def test_the_guard_shows_what_the_evaluator_passes() -> None:
    assert HARD.threshold.target == 1.0
    response = StarsGuardedLLM(guard=guard_of(SCRIPT, kind())).chat(user("Hi"))
    assert response.message.content == "Hello. How are you?"
    assert response.raw["stars"]["attempts"] == 4


def test_what_is_no_evaluator_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="needs an evaluator with aevaluate, got object"):
        EvaluatorReward(object())  # type: ignore[arg-type]
