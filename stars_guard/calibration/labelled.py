"""Labelled answers: a threshold that lets few unsafe ones through, with a guarantee."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from pydantic import ConfigDict

from stars_guard.algorithm.rules import Acceptance
from stars_guard.calibration.risk import UNSAFE_MISSED, Example, RiskControl, control_risk, shown_within
from stars_guard.errors import ConfigurationError
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import RewardModel, ScoreRequest, score_checked
from stars_guard.settings import Settings
from stars_guard.settings_file import parsed_json

_BATCH = 32
_WHOLE = (
    "Each labelled answer counts as one segment: the last, with which the answer is judged as a whole. The "
    "guard also judges the segments before it, at the same threshold."
)


def _tries(attempts: int) -> str:
    if attempts > 1:
        return (
            f"It counts {attempts} attempts that all score what the labelled answer scored, as where a model "
            "has nothing safe to say; where it has, unsafe answers are shown less often."
        )
    return (
        "It is about each answer that the model proposes. A guard that rejects one proposes others, so what "
        "is shown in the end may be unsafe more often where a model has hardly anything safe to say."
    )


class LabelledAnswer(Settings):
    """An answer that somebody judged. Messages about a wrong one quote none of its texts."""

    model_config = ConfigDict(hide_input_in_errors=True)

    prompt: str
    response: str
    unsafe: bool


class RiskGuarantee(RiskControl):
    """What :func:`control` found: the threshold, its promise, and what it costs."""

    safe: int
    """Answers labelled safe."""
    safe_accepted: float | None
    """Mean acceptance probability of those; None if there are none."""


def read_labelled(path: Path) -> list[LabelledAnswer]:
    """Answers of a JSONL file with ``prompt``, ``response`` and ``unsafe`` (true or false) in each line.

    Other keys are ignored.

    Raises:
        ConfigurationError: it cannot be read, a line is wrong, or there is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the labelled answers {path} cannot be read: {error}") from error
    answers = [_answer(f"{path}:{n}", line) for n, line in enumerate(lines, start=1) if line.strip()]
    if not answers:
        raise ConfigurationError(f"{path} is empty; write an object with prompt, response and unsafe a line")
    return answers


def _answer(place: str, line: str) -> LabelledAnswer:
    try:
        given = parsed_json(line)
        values = {name: given[name] for name in LabelledAnswer.model_fields}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{place}: give an object with prompt, response and unsafe") from error
    return LabelledAnswer.found_at(place, values)


def scored_examples(reward: RewardModel, answers: Sequence[LabelledAnswer]) -> list[Example]:
    """Each answer with its reward, as one that is complete.

    Raises:
        ScoringError: the reward model failed, or gave no finite number.
        PromptError: a prompt is empty.
    """
    requests = iter(
        ScoreRequest(Prompt.of(answer.prompt), answer.response, finished=True, run_id=f"labelled-{n}")
        for n, answer in enumerate(answers)
    )
    values: list[float] = []
    while batch := list(islice(requests, _BATCH)):
        try:
            values += [score.value for score in score_checked(reward, batch)]
        finally:
            for request in batch:
                reward.release(request.run_id)
    return [Example((value,), (answer.unsafe,)) for value, answer in zip(values, answers, strict=True)]


def control(
    examples: Sequence[Example], alpha: float, acceptance: Acceptance, attempts: int = 1
) -> RiskGuarantee:
    """The lowest threshold at which an unsafe answer is accepted with a chance of at most ``alpha``.

    Args:
        examples: from :func:`scored_examples`.
        alpha: between 0 and 1.
        acceptance: the rule that will decide.
        attempts: how many tries that chance counts, each as bad as the answer; 1 is a proposal alone.

    Raises:
        ConfigurationError: ``alpha`` is out of range, or there are too few unsafe answers for it.
    """
    loss = UNSAFE_MISSED if attempts == 1 else shown_within(attempts)
    controlled = control_risk(examples, loss, alpha, acceptance)
    safe = [example.rewards[0] for example in examples if not any(example.unsafe)]
    chances = [acceptance.probability(reward, controlled.threshold) for reward in safe]
    return RiskGuarantee(
        **{**dict(controlled), "assumptions": (*controlled.assumptions, _WHOLE, _tries(attempts))},
        safe=len(safe),
        safe_accepted=sum(chances) / len(chances) if chances else None,
    )
