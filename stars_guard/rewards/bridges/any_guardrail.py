"""Any guardrail of Mozilla's `any-guardrail` package (0.7 and later) as a reward model.

Their ``validate()`` returns an object with ``valid`` (the verdict), ``score`` (a risk between 0 and 1, higher
is riskier, or None), ``categories`` and, when the guardrail could not read its own model, ``extra`` with
``parse_failure``. Nothing of the package is imported here; it comes with the guardrail.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

from stars_guard.errors import ConfigurationError, ScoringError, failures_as
from stars_guard.rewards.base import ScoreRequest
from stars_guard.rewards.function import one_number
from stars_guard.types import Named, Reward

Arguments: TypeAlias = tuple[Any, Mapping[str, Any]]
"""What ``validate`` is called with: its first argument, and the others by name."""
Ask: TypeAlias = Callable[[str, str], Arguments]
"""From the prompt as plain text and the answer so far to arguments."""
OutputReading: TypeAlias = Callable[[Any], float]
"""From the guardrail's output to a reward; higher is safer."""

_ROUNDING = 1e-6  # how far outside 0 to 1 float32 may put a score


class Validates(Protocol):
    """A guardrail: whatever has ``validate``."""

    @property
    def validate(self) -> Callable[..., Any]:
        """Judge a text."""


def answer_only(prompt: str, answer: str) -> Arguments:
    """The answer as the text to be judged; for guardrails that take one text."""
    return answer, {}


def prompt_and_answer(prompt: str, answer: str) -> Arguments:
    """The prompt as the text and the answer as ``output_text``; for guardrails that judge exchanges.

    Some of them, such as WildGuard, are not valid when the prompt alone is harmful, whatever the answer; read
    the category of the answer's own harm then: ``read=category("harmful_response")``.
    """
    return prompt, {"output_text": answer}


def verdict(output: Any) -> float:
    """1 for a valid text, -1 for one that is not.

    Raises:
        ScoringError: there is no verdict, or it was not read from the guardrail's model.
    """
    valid = getattr(output, "valid", None)
    if not isinstance(valid, bool):
        raise ScoringError(f"the guardrail returned {_kind(output)} without a verdict; valid must be a bool")
    if (getattr(output, "extra", None) or {}).get("parse_failure"):
        raise ScoringError(
            "the guardrail could not read its own model's reply (parse_failure); that is no judgement, so "
            "use a read= of your own to count it as one"
        )
    return 1.0 if valid else -1.0


def scored(*, higher_is: Literal["riskier", "safer"]) -> OutputReading:
    """The verdict refined by the score: 0.5 to 1 for valid texts, -1 to -0.5 for others.

    With p the score as a risk, the reward is ``1 - p / 2`` where valid and ``-(1 + p) / 2`` where not. So a
    target of 0 with the hard rule is the guardrail's verdict, with all of its own thresholds and word lists
    in it, and the score ranks texts of one verdict. An output without a score is 1 or -1. Scores outside 0 to
    1 are a :class:`ScoringError`.

    Args:
        higher_is: what a higher score means; ``riskier`` for the guardrails in the package.

    Raises:
        ConfigurationError: another direction.
    """
    if higher_is not in ("riskier", "safer"):
        raise ConfigurationError(f"higher_is={higher_is!r} must be 'riskier' or 'safer'")

    def read(output: Any) -> float:
        sign = verdict(output)
        if getattr(output, "score", None) is None:
            return sign
        score = _share(output.score, "score")
        return _refined(sign, score if higher_is == "riskier" else 1 - score)

    return read


def category(name: str) -> OutputReading:
    """Only one category counts: as in :func:`scored`, with its ``triggered`` as the verdict and its score p.

    A category without a score is 1 or -1, one without ``triggered`` is ``1 - 2 * p``. One that is missing, or
    has neither, is a :class:`ScoringError`, and so is an output without a verdict.
    """

    def read(output: Any) -> float:
        verdict(output)
        named = [judged for judged in output.categories if judged.name == name]
        if len(named) != 1 or (named[0].triggered is None and named[0].score is None):
            raise ScoringError(f"the guardrail said nothing about the category {name!r}; check its name")
        triggered, score = named[0].triggered, named[0].score
        if score is None:
            return -1.0 if triggered else 1.0
        risk = _share(score, f"the score of {name}")
        return 1 - 2 * risk if triggered is None else _refined(-1.0 if triggered else 1.0, risk)

    return read


class AnyGuardrailReward(Named):
    """A reward from a guardrail of ``any_guardrail``; higher is safer.

    The guardrail is called once for each candidate. What it raises, and whatever cannot be read, is a
    :class:`ScoringError`: a guardrail that cannot judge passes nothing.

    Args:
        guardrail: what ``AnyGuardrail.create(...)`` returns, or any object with such a ``validate``.
        ask: what is judged: :func:`answer_only`, :func:`prompt_and_answer`, or a function of one's own from
            prompt and answer to the arguments of ``validate``: ``lambda prompt, answer: (answer, {"policy":
            POLICY})``. It is tried out at construction.
        read: from the output to the reward: :func:`verdict`, :func:`scored`, :func:`category`, or one's own.
            By default scores count as risks, as the package defines them, for its own guardrails; for all
            others only the verdict counts.
        name: for traces and error messages; by default the guardrail's class.

    Raises:
        ConfigurationError: there is no ``validate``, or it does not take what ``ask`` gives: an argument that
            only its ``**kwargs`` would take counts as ignored, and an answer that is ignored is not judged.

    Example:
        >>> from types import SimpleNamespace
        >>> class Calm:
        ...     def validate(self, input_text):
        ...         return SimpleNamespace(valid="!" not in input_text)
        >>> AnyGuardrailReward(Calm(), ask=answer_only).name
        'Calm'
    """

    def __init__(
        self, guardrail: Validates, *, ask: Ask, read: OutputReading | None = None, name: str | None = None
    ) -> None:
        self.name = name or type(guardrail).__name__
        for what, value in (("validate", getattr(guardrail, "validate", None)), ("ask", ask)):
            if not callable(value):
                raise ConfigurationError(f"{self.name}: {what} is {_kind(value)}; it must be a function")
        self._guardrail, self._ask = guardrail, ask
        self._read = read or _usual_reading(guardrail)
        self._check_arguments()

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """One reward per request, in order; ``components`` holds the scores of output and categories.

        Raises:
            ScoringError: an output cannot be read.
            Exception: whatever the guardrail raises.
        """
        return [self._reward(request) for request in requests]

    def release(self, run_id: str) -> None:
        """Does nothing: no answer is cached."""

    def _reward(self, request: ScoreRequest) -> Reward:
        text, others = self._ask(request.prompt.as_text(), request.response)
        output = self._guardrail.validate(text, **others)
        return Reward(one_number(self.name, self._read(output)), components=_components(output))

    def _check_arguments(self) -> None:
        with failures_as(ConfigurationError, f"asking {self.name} as ask= says"):
            text, others = self._ask("prompt", "answer")
            signature = inspect.signature(self._guardrail.validate)
            signature.bind(text, **others)
            ignored = set(others) - _named(signature) - self._named_by_the_first_stage(signature)
        if ignored:
            raise ConfigurationError(
                f"{self.name}.validate names no argument {', '.join(sorted(ignored))} and may ignore it; "
                "judge the answer_only, or give ask= a function that fits"
            )

    def _named_by_the_first_stage(self, signature: inspect.Signature) -> set[str]:
        """Guardrails in three stages pass what ``**kwargs`` takes on to the first."""
        first = getattr(self._guardrail, "_pre_processing", None)
        takes_any = any(argument.kind is argument.VAR_KEYWORD for argument in signature.parameters.values())
        return _named(inspect.signature(first)) if takes_any and first is not None else set()


def _usual_reading(guardrail: object) -> OutputReading:
    from_package = type(guardrail).__module__.partition(".")[0] == "any_guardrail"
    return scored(higher_is="riskier") if from_package else verdict


def _named(signature: inspect.Signature) -> set[str]:
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name for name, argument in signature.parameters.items() if argument.kind in kinds}


def _refined(sign: float, risk: float) -> float:
    return 1 - risk / 2 if sign > 0 else -(1 + risk) / 2


def _share(value: object, what: str) -> float:
    """A number between 0 and 1, give or take what rounding does."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not -_ROUNDING <= float(value) <= 1 + _ROUNDING:  # type: ignore[arg-type]
        shown = f"{value:.4g}" if number else type(value).__name__
        raise ScoringError(f"the guardrail returned {shown} as {what}; it must be between 0 and 1")
    return min(max(float(value), 0.0), 1.0)  # type: ignore[arg-type]


def _components(output: Any) -> dict[str, float]:
    """Every score there is, for the trace."""
    by_category = {category.name: category.score for category in getattr(output, "categories", ())}
    scores = {"score": getattr(output, "score", None), **by_category}
    return {
        name: float(score)
        for name, score in scores.items()
        if isinstance(score, int | float) and math.isfinite(score)
    }


def _kind(value: object) -> str:
    return "None" if value is None else type(value).__name__
