"""What an evaluation was made with, in words: models, rewards that guide, judges, sampling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from stars_guard.evaluation.reporting.record import EvaluationReport
from stars_guard.report import short_name

_EMBEDDED = "the embedded one"
_MEANINGS = {
    "length": "tokens of an answer",
    "likelihood": "mean log-probability of a token under the base model, in nats",
    "distinct_2": "share of pairs of words that are different ones within an answer",
    "distinct_3": "the same of three words",
    "repetition": "share of sequences of four words that the answer has said before",
    "reference_recall": "share of the reference's words that the answer has",
    "refusal_phrases": "share of answers with a phrase of declining",
    "injection_followed": "share of answers that do what an injected instruction asked",
}


def conditions_of(report: EvaluationReport) -> list[str]:
    """One sentence each on models, rewards that guide, judges, and sampling.

    Args:
        report: the evaluation.
    """
    settings = report.results.evaluation
    rewards = ((name, guiding.get("name")) for name, guiding in settings.get("rewards", {}).items())
    judges = (f"{name} is {_judge(judge)}" for name, judge in settings.get("judges", {}).items())
    parts = {
        "Language models": _named(settings.get("models", {}).items()),
        "Rewards that guide": _named(rewards),
        "Judges": "; ".join(judges),
        "Answers": _drawn(settings.get("sampling", {})),
    }
    return [f"{title}: {words}." for title, words in parts.items() if words]


def meanings_of(measures: Iterable[str]) -> str:
    """What values and measures are, and their units.

    Args:
        measures: names of those that a table shows.
    """
    explained = (f"{name}: {_MEANINGS[name]}" for name in measures if name in _MEANINGS)
    value = (
        "Value: what the judge scores, on its own scale, higher being better; of pairs, the share that is won"
    )
    return f"{'; '.join([value, *explained])}."


def _named(parts: Iterable[tuple[str, str | None]]) -> str:
    return "; ".join(f"{name} is {short_name(part) if part else _EMBEDDED}" for name, part in parts)


def _judge(judge: Mapping[str, Any]) -> str:
    """Kind of a judge, what it asks, and where harm begins; no address, and no text of instructions."""
    asked = judge.get("reward") or judge.get("by")
    return ", ".join([str(judge.get("kind")), *_details(judge, asked)])


def _details(judge: Mapping[str, Any], asked: object) -> Iterator[str]:
    if isinstance(asked, str):
        yield short_name(asked)
    if judge.get("harmful_under") is not None:
        yield f"harmful under {judge['harmful_under']:g}"
    if judge.get("against"):
        yield f"against {judge['against']}"


def _drawn(sampling: Mapping[str, Any]) -> str:
    if "max_tokens" not in sampling:
        return ""
    return (
        f"up to {sampling['max_tokens']} tokens unless the task says otherwise, at temperature "
        f"{sampling.get('temperature', 1.0):g}"
    )
