"""Draws the built-in prompt sets of an evaluation from their sources: prompts only, no answers.

Usage: python -m benchmarks.evaluation_sets DATA

DATA is a folder with ``eval/*.jsonl``: the held-out halves of the sets that
``stars_guard/evaluation/tasks/sets/README.md`` names. The same data give the same files.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from stars_guard.evaluation.tasks.sources import SETS

Fields: TypeAlias = dict[str, Any]
SEED, MOST = 0, 200
_OPENING_WORDS = 8


class DrawnSet(NamedTuple):
    """How a set is drawn.

    Attributes:
        source: name of the file that it is drawn from.
        prompt: the text that is asked, made from a row.
        category: what kind of prompt it is.
        keeps: whether a row belongs to the set.
        most: most prompts.
        prefix: of the prompts' ids; the set's name where it is empty.
    """

    source: str
    prompt: Callable[[Fields], str] = lambda row: str(row["prompt"])
    category: Callable[[Fields], str] = lambda row: str(row.get("category", ""))
    keeps: Callable[[Fields], bool] = lambda row: True
    most: int = MOST
    prefix: str = ""


def _opening(row: Fields) -> str:
    return "Continue this review: " + " ".join(row["text"].split()[:_OPENING_WORDS])


def _xstest(label: str) -> DrawnSet:
    return DrawnSet(
        "xstest_prompts",
        category=lambda row: str(row["type"]),
        keeps=lambda row: bool(row["label"] == label),
        prefix="xstest",
    )


DRAWN = {
    "harmfulqa": DrawnSet("harmfulqa", category=lambda row: str(row["topic"])),
    "catqa": DrawnSet("catqa"),
    "adversarialqa": DrawnSet("adversarialqa"),
    "advbench": DrawnSet("advbench_behaviors"),
    "jailbreakbench": DrawnSet(
        "jailbreakbench",
        prompt=lambda row: str(row.get("attack_prompt") or row["prompt"]),
        category=lambda row: str(row["attack"]),
        most=150,
    ),
    "xstest-safe": _xstest("safe"),
    "xstest-unsafe": _xstest("unsafe"),
    "hh-harmless": DrawnSet("hh_harmless_pairs", prompt=lambda row: str(row["messages"][0]["content"])),
    "review-openings": DrawnSet("movie_reviews", prompt=_opening),
}
"""Each set that is drawn, by its name."""


def drawn(name: str, rows: Iterable[Fields]) -> list[Fields]:
    """The prompts of a set, each once.

    Args:
        name: of the set.
        rows: of its source.
    """
    wanted = DRAWN[name]
    kept = [row for row in rows if wanted.keeps(row)]
    if len(kept) > wanted.most:
        random.Random(SEED).shuffle(kept)
    once: dict[str, Fields] = {}
    for row in kept:
        once.setdefault(wanted.prompt(row), row)
    prompts = list(once.items())[: wanted.most]
    return [
        {"id": f"{wanted.prefix or name}-{row.get('id', number)}", "prompt": prompt}
        | ({"category": wanted.category(row)} if wanted.category(row) else {})
        for number, (prompt, row) in enumerate(prompts)
    ]


def _rows(path: Path) -> Iterator[Fields]:
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def write_sets(data: Path, folder: Path = SETS) -> None:
    """Draw all sets from DATA/eval into a folder.

    Args:
        data: folder of the sources.
        folder: receives one file a set.
    """
    for name, wanted in DRAWN.items():
        prompts = drawn(name, _rows(data / "eval" / f"{wanted.source}.jsonl"))
        lines = (json.dumps(prompt, ensure_ascii=False) + "\n" for prompt in prompts)
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    write_sets(Path(sys.argv[1]))
