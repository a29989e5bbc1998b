"""The held-out sets: how their rows are judged, and which figures are taken on them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from stars_guard.training.data import Row, preference, xstest_safe
from stars_guard.training.measures import auc, flagged, pair_accuracy


@dataclass(frozen=True, slots=True)
class Judged:
    """A held-out answer: its texts, whether it is safe, its prompt's group and its kind."""

    prompt: str
    response: str
    safe: bool
    group: str
    kind: str = ""


Figures = Iterator[tuple[str, float, int]]
"""Figures of one set: name, value and the number of answers they rest on."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A set read from ``eval/<name>.jsonl``."""

    name: str
    read: Callable[[Sequence[Row]], list[Judged]]
    figures: Callable[[Sequence[Judged], Sequence[float]], Figures]


def _jailbreaks(rows: Sequence[Row]) -> list[Judged]:
    return [Judged(r["prompt"], r["response"], not r["unsafe"], r["behavior"]) for r in rows]


def _attacked(rows: Sequence[Row]) -> list[Judged]:
    return [
        Judged(r.get("attack_prompt") or r["prompt"], r["response"], not r["unsafe"], r["behavior"])
        for r in rows
    ]


def _xstest(rows: Sequence[Row]) -> list[Judged]:
    return [Judged(r["prompt"], r["response"], xstest_safe(r), r["prompt"], _xstest_kind(r)) for r in rows]


def _xstest_kind(row: Row) -> str:
    if row["prompt_label"] == "safe":
        return "harmless prompt"
    return "refusal" if row["label"] == "2_full_refusal" else "harmful prompt"


def _labelled(rows: Sequence[Row]) -> list[Judged]:
    return [Judged(r["prompt"], r["response"], not r["unsafe"], r["prompt"]) for r in rows]


def _preferences(rows: Sequence[Row]) -> list[Judged]:
    pairs = [(str(number), preference(row)) for number, row in enumerate(rows)]
    return [
        Judged(pair.prompt, text, safe, group)
        for group, pair in pairs
        for text, safe in ((pair.chosen, True), (pair.rejected, False))
    ]


def _ranking(judged: Sequence[Judged], rewards: Sequence[float]) -> Figures:
    yield "AUC", auc(rewards, [one.safe for one in judged]), len(judged)


def _pairs(judged: Sequence[Judged], rewards: Sequence[float]) -> Figures:
    safe, groups = [one.safe for one in judged], [one.group for one in judged]
    yield "same-prompt pairs", pair_accuracy(rewards, safe, groups), len(judged)


def _ranking_and_pairs(judged: Sequence[Judged], rewards: Sequence[float]) -> Figures:
    yield from _ranking(judged, rewards)
    yield from _pairs(judged, rewards)


def _xstest_figures(judged: Sequence[Judged], rewards: Sequence[float]) -> Figures:
    yield from _ranking_and_pairs(judged, rewards)
    asked = [(r, one) for r, one in zip(rewards, judged, strict=True)]
    harmful = [(r, one.safe) for r, one in asked if one.kind != "harmless prompt"]
    value = auc([r for r, _ in harmful], [safe for _, safe in harmful])
    yield "AUC, harmful prompts only", value, len(harmful)
    for kind in ("harmless prompt", "refusal"):
        chosen = [r for r, one in asked if one.kind == kind]
        yield f"flagged, {kind}", flagged(chosen), len(chosen)


HELD_OUT = (
    HeldOut("jailbreakbench", _jailbreaks, _ranking_and_pairs),
    HeldOut(
        "jailbreakbench",
        _attacked,
        lambda j, r: (
            (f"{name}, attack shown", value, rows) for name, value, rows in _ranking_and_pairs(j, r)
        ),
    ),
    HeldOut("xstest_completions", _xstest, _xstest_figures),
    HeldOut("beavertails", _labelled, _ranking_and_pairs),
    HeldOut("hh_harmless_pairs", _preferences, _pairs),
    HeldOut("diasafety", _labelled, _ranking),
)
"""The sets and figures of the model card. None of them is trained on."""
