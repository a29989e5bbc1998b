"""EvaluatorReward: any LlamaIndex evaluator as a reward model for the guard."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, SupportsFloat

from stars_guard import ConfigurationError
from stars_guard.adapters import unusable
from stars_guard.rewards import Reward, ScoreRequest, one_number

if TYPE_CHECKING:
    from llama_index.core.evaluation import BaseEvaluator, EvaluationResult


def query_and_response(prompt: str, response: str) -> dict[str, Any]:
    """The arguments that every evaluator knows."""
    return {"query": prompt, "response": response}


def result_score(result: EvaluationResult) -> float:
    """The score, which is higher for better answers: 0 or 1, 0 to 1, or 1 to 5, as the evaluator has it.

    Raises:
        ScoringError: the result is invalid, or has no score.
    """
    if result.invalid_result:
        # Its reason is a text of the evaluator, which may quote what it read.
        unusable("the evaluation is invalid; look at the evaluator")
    if result.score is None:
        unusable("the evaluation has no score; give a read= that makes a number of the result")
    return result.score


class EvaluatorReward:
    """A reward from an evaluator, such as ``GuidelineEvaluator``; higher is better.

    All candidates of a round are evaluated together, in an event loop of their own. What the evaluator raises
    and what cannot be read is an error of the guard and never an accept. Event handlers of LlamaIndex's
    instrumentation hear the calls of an evaluator's LLM, rejected text included, since they hear all calls.

    Args:
        evaluator: judges unfinished answers too, so its template should expect them.
        inputs: from the prompt as plain text and the answer so far to the arguments of ``aevaluate``;
            ``contexts`` are given here.
        read: from the result to the reward; by default its score.
        name: for traces and error messages; by default the evaluator's class.

    Raises:
        ConfigurationError: it is no evaluator.
    """

    def __init__(
        self,
        evaluator: BaseEvaluator,
        *,
        inputs: Callable[[str, str], Mapping[str, Any]] = query_and_response,
        read: Callable[[EvaluationResult], SupportsFloat] = result_score,
        name: str | None = None,
    ) -> None:
        self.name = name or type(evaluator).__name__
        if not callable(getattr(evaluator, "aevaluate", None)):
            raise ConfigurationError(f"EvaluatorReward needs an evaluator with aevaluate, got {self.name}")
        self._evaluator, self._inputs, self._read = evaluator, inputs, read

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """One reward per request, in order.

        Raises:
            ScoringError: a result has no usable score.
            Exception: whatever the evaluator raises.
        """
        # A thread of its own: the calling one may run an event loop, and belongs to some other request's run.
        with ThreadPoolExecutor(max_workers=1) as pool:
            results = pool.submit(asyncio.run, self._evaluated(requests)).result()
        return [Reward(one_number(self.name, self._read(result))) for result in results]

    def release(self, run_id: str) -> None:
        """Do nothing: nothing is cached."""

    async def _evaluated(self, requests: Sequence[ScoreRequest]) -> list[EvaluationResult]:
        return await asyncio.gather(*map(self._evaluate, requests))

    async def _evaluate(self, request: ScoreRequest) -> EvaluationResult:
        return await self._evaluator.aevaluate(**self._inputs(request.prompt.as_text(), request.response))
