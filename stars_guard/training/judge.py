"""Rows for the shipped judge of harm, which must owe as little as possible to the rewards that guide.

PyRIT (MIT) carries answers whose severity, success or refusal people have scored; it is read from its wheel,
or from the folder that the wheel unpacks to, and is not installed. To these come rows of the public sets:
those that no guiding reward was trained on, and halves of the two sets of which there are no others.
"""

import csv
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from importlib.resources.abc import Traversable
from io import StringIO
from pathlib import Path
from typing import Any
from zipfile import Path as ZipPath

from stars_guard.errors import ConfigurationError
from stars_guard.training.data import (
    TrainingAnswer,
    harmless_text,
    labelled,
    load,
    read_records,
    xstest,
)

GUIDES_SEED = 7
"""Seed with which the guiding rewards drew their rows."""
UNSEEN = {"diasafety": (labelled, 1500), "sentence_polarity": (harmless_text, 150)}
"""Sets of which the guiding rewards saw a part: how to read a row, and how many of the others to take."""
HALVES = {"jailbreakbench": (labelled, "behavior"), "xstest_completions": (xstest, "prompt")}
"""Sets that the guiding rewards saw wholly: how to read a row, and the field by which they are halved."""

_SCORED = "pyrit/datasets/scorer_evals"
_HELD_OUT = 0.2
"""Share of PyRIT's requests whose answers are measured on."""
_HARM_BY_SUCCESS = {True: 0.9, False: 0.25}
"""P(unsafe) of an answer that reached its objective or did not, as severities of the same answers have it."""


def write_judge_data(data: Path, pyrit: Path, output: Path) -> dict[str, int]:
    """Write plain rows to train and to measure the judge on.

    Args:
        data: data folder of the guiding rewards, with ``train/`` and ``eval/``.
        pyrit: wheel of PyRIT, or the folder that it unpacks to.
        output: folder that receives ``train/`` and ``eval/``.

    Returns:
        How many rows each file of ``train/`` has.

    Raises:
        ConfigurationError: a file is missing, or is not what it should be.
    """
    asked = {row["prompt"].strip() for file in (data / "eval").glob("*.jsonl") for row in _prompted(file)}
    scored = list(dict.fromkeys(pyrit_answers(pyrit)))
    held_out = [a for a in scored if a.prompt in asked or _share(a.prompt) < _HELD_OUT]
    seen = set(load(data, contrast=None, seed=GUIDES_SEED).answers)
    train = {
        "pyrit": [answer for answer in scored if answer not in set(held_out)],
        **{f"{name}_unseen": _unseen(data, name, seen) for name in UNSEEN},
        **{f"{name}_half": _half(data, name) for name in HALVES},
    }
    for name, answers in train.items():
        _write(output / "train" / f"{name}.jsonl", answers)
    _write(output / "eval" / "pyrit.jsonl", held_out)
    return {name: len(answers) for name, answers in train.items()}


def pyrit_answers(pyrit: Path) -> Iterator[TrainingAnswer]:
    """The scored answers of PyRIT; one that several scales scored comes once, by its severity if it has one.

    Args:
        pyrit: wheel of PyRIT, or the folder that it unpacks to.

    Raises:
        ConfigurationError: there are none.
    """
    root: Traversable = ZipPath(pyrit) if pyrit.is_file() else pyrit
    done: set[tuple[str, str]] = set()
    for part, unsafe in _SCALES.items():
        for row in _scored_rows(root / _SCORED / part, pyrit):
            probability = unsafe(_mean_score(row))
            texts = row["objective"].strip(), row["assistant_response"].strip()
            if probability is not None and all(texts) and texts not in done:
                done.add(texts)
                yield TrainingAnswer(*texts, safe=1.0 - probability)


def _by_severity(severity: float) -> float:
    # The scales call 0.5 "moderate", which a judge of harm should rather flag than pass.
    return min(1.0, 1.5 * severity)


def _by_refusal(refused: float) -> float | None:
    return 0.0 if refused > 0.5 else None  # what was answered may have been a harmless request


_SCALES: Mapping[str, Callable[[float], float | None]] = {
    "harm": _by_severity,
    "objective": lambda achieved: _HARM_BY_SUCCESS[achieved > 0.5],
    "refusal_scorer": _by_refusal,
}
"""P(unsafe) by people's mean score, for each of PyRIT's folders; None: the score does not tell."""


def _scored_rows(folder: Traversable, pyrit: Path) -> Iterator[Mapping[str, str]]:
    if not folder.is_dir():
        raise ConfigurationError(f"no {_SCORED} in {pyrit}: pass a wheel of pyrit 1.1, or its folder")
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".csv") and not file.name.startswith("mini_"):  # those are samples of others
            text = file.read_bytes().decode("utf-8-sig")
            while text.startswith("#"):
                text = text.partition("\n")[2]
            yield from csv.DictReader(StringIO(text, newline=""))


def _mean_score(row: Mapping[str, str]) -> float:
    scores = [float(text) for name, text in row.items() if name and name.startswith("human_score") and text]
    return sum(scores) / len(scores)


def _prompted(file: Path) -> Iterable[Mapping[str, Any]]:
    return (row for row in read_records(file) if "prompt" in row)


def _unseen(data: Path, name: str, seen: set[TrainingAnswer]) -> list[TrainingAnswer]:
    read, count = UNSEEN[name]
    rows = read_records(data / "train" / f"{name}.jsonl")
    answers = [answer for row in rows for answer in read(row) if answer not in seen]
    return random.Random(name).sample(answers, min(count, len(answers)))


def _half(data: Path, name: str) -> list[TrainingAnswer]:
    read, field = HALVES[name]
    rows = read_records(data / "train" / f"{name}.jsonl")
    return [answer for row in rows if _share(row[field]) < 0.5 for answer in read(row)]


def _share(text: str) -> float:
    """A number from 0 to 1 that depends on the text alone, so that answers to one request stay together."""
    return int.from_bytes(sha256(text.encode("utf-8", "replace")).digest()[:4]) / 2**32


def _write(file: Path, answers: Sequence[TrainingAnswer]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = ({"prompt": a.prompt, "response": a.response, "unsafe": round(1.0 - a.safe, 4)} for a in answers)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
