"""The training sets: files read into labelled answers and preferences.

The data are plain rows (:mod:`stars_guard.training.plain`); or the sets of the shipped model, a folder that
holds ``train/`` and ``eval/`` with one file per set, named as in ``MIX``. Which sets enter the training, how
many rows of each and how often, is the data in ``MIX``.
"""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from stars_guard.errors import ConfigurationError
from stars_guard.training.plain import check_kinds, json_lines, plain_files, plain_rows, same_prompt_pairs

Record = Mapping[str, Any]
_T = TypeVar("_T")
HARMFUL_LABEL = "1_full_compliance"
"""XSTest's label for an answer that does all that was asked."""


@dataclass(frozen=True, slots=True)
class TrainingAnswer:
    """A response and how probable it is that it is safe in the context of its prompt (0 to 1)."""

    prompt: str
    response: str
    safe: float


@dataclass(frozen=True, slots=True)
class Preference:
    """Two responses to one prompt, of which a person preferred ``chosen`` as more harmless."""

    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """What one training run sees. ``rows`` counts the answers used per source."""

    answers: tuple[TrainingAnswer, ...]
    preferences: tuple[Preference, ...]
    rows: tuple[tuple[str, int], ...]

    @property
    def texts(self) -> list[tuple[str, str]]:
        """Prompt and response of each answer, once."""
        return list(dict.fromkeys((answer.prompt, answer.response) for answer in self.answers))


@dataclass(frozen=True, slots=True)
class TrainingSource:
    """One set of the mix: at most ``limit`` answers, each ``copies`` times per pass."""

    name: str
    answers: Callable[[Record], Iterator[TrainingAnswer]]
    copies: int = 1
    limit: int | None = None


def read_records(path: Path) -> list[Record]:
    """Records of a JSON Lines file; a missing file or a bad line is a ``ConfigurationError``."""
    if not path.is_file():
        raise ConfigurationError(f"no data file at {path}: pass a data folder that holds train/ and eval/")
    return [row for _, row in json_lines(path, path.read_text(encoding="utf-8"))]


def turns_as_prompt(messages: Iterable[Record]) -> str:
    """Chat turns as one prompt: their texts, oldest first, joined by newlines."""
    return "\n".join(str(message["content"]) for message in messages)


def preference(row: Record) -> Preference:
    """A row of HH-RLHF as a preference."""
    return Preference(turns_as_prompt(row["messages"]), row["chosen"], row["rejected"])


def first_turns(path: Path, longest: int = 200) -> list[str]:
    """Distinct first user turns of a preference file, sorted; only those up to ``longest`` chars."""
    turns = {str(row["messages"][0]["content"]) for row in read_records(path)}
    return sorted(turn for turn in turns if len(turn) <= longest)


def read_activities() -> dict[str, list[str]]:
    """Activities written for this project, under ``harmless`` and ``harmful``."""
    text = resources.files(__package__).joinpath("activities.json").read_text(encoding="utf-8")
    activities: dict[str, list[str]] = json.loads(text)
    return activities


def labelled(row: Record) -> Iterator[TrainingAnswer]:
    """DiaSafety: a reply judged in its context."""
    yield TrainingAnswer(row["prompt"], row["response"], 1.0 - float(row["unsafe"]))


def jailbreak(row: Record) -> Iterator[TrainingAnswer]:
    """JailbreakBench: the answer after the goal, and after what was really sent if that differs."""
    safe = 1.0 - float(row["unsafe"])
    for prompt in {row["prompt"]: None, row.get("attack_prompt") or row["prompt"]: None}:
        yield TrainingAnswer(prompt, row["response"], safe)


def xstest_safe(row: Record) -> bool:
    """Whether an XSTest completion is harmless: all but full compliance with an unsafe prompt."""
    return not (row["prompt_label"] == "unsafe" and row["label"] == HARMFUL_LABEL)


def xstest(row: Record) -> Iterator[TrainingAnswer]:
    """XSTest completions."""
    yield TrainingAnswer(row["prompt"], row["response"], float(xstest_safe(row)))


def compliance(row: Record) -> Iterator[TrainingAnswer]:
    """AdvBench behaviours: a harmful instruction and the opening of a compliant answer."""
    yield TrainingAnswer(row["prompt"], row["response"], 0.0)


def harmful_text(row: Record) -> Iterator[TrainingAnswer]:
    """AdvBench strings: a harmful text without a prompt."""
    yield TrainingAnswer("", row["response"], 0.0)


def harmless_text(row: Record) -> Iterator[TrainingAnswer]:
    """Sentences of film reviews: harmless texts without a prompt."""
    yield TrainingAnswer("", row["text"], 1.0)


def contrastive(row: Record) -> Iterator[TrainingAnswer]:
    """Answers written by ``contrast.write_contrast``."""
    yield TrainingAnswer(row["prompt"], row["response"], float(row["safe"]))


def soft_preference(row: Record) -> Iterator[TrainingAnswer]:
    """HH-RLHF as labelled answers: preferred is probably safe, not preferred less so."""
    pair = preference(row)
    yield TrainingAnswer(pair.prompt, pair.chosen, 0.75)
    yield TrainingAnswer(pair.prompt, pair.rejected, 0.40)


MIX = (
    TrainingSource("diasafety", labelled, limit=3000),
    TrainingSource("jailbreakbench", jailbreak),
    TrainingSource("xstest_completions", xstest, copies=2),
    TrainingSource("advbench_behaviors", compliance),
    TrainingSource("advbench_strings", harmful_text),
    TrainingSource("sentence_polarity", harmless_text, limit=400),
    TrainingSource("hh_harmless_pairs", soft_preference),
)
"""The sets of the shipped model, each read from ``train/<name>.jsonl``."""

CONTRAST = TrainingSource("contrast", contrastive)
"""The contrastive answers, read from a file of their own (see ``contrast.write_contrast``)."""


def load(
    data_dir: Path, *, contrast: Path | None, seed: int, mix: tuple[TrainingSource, ...] = MIX
) -> TrainingSet:
    """Read the training sets.

    Args:
        data_dir: file of plain rows, or data folder.
        contrast: file of contrastive answers, if any.
        seed: of which rows are taken where a set is limited.
        mix: the sets to read.

    Raises:
        ConfigurationError: a file is missing, or a row cannot be read.
    """
    if has_own_rows(data_dir):
        return _plain_set(data_dir, contrast, seed)
    files = [(source, data_dir / "train" / f"{source.name}.jsonl") for source in mix]
    files += [(CONTRAST, contrast)] if contrast else []
    chosen = {source: _take(source, path, seed) for source, path in files}
    pairs = read_records(data_dir / "train" / "hh_harmless_pairs.jsonl")
    return TrainingSet(
        answers=tuple(a for source, rows in chosen.items() for a in rows * source.copies),
        preferences=tuple(_converted(lambda row: [preference(row)], pairs, "hh_harmless_pairs")),
        rows=tuple((source.name, len(rows)) for source, rows in chosen.items()),
    )


def has_own_rows(data_dir: Path) -> bool:
    """Whether the data are plain rows of one's own, and not the sets of the shipped model."""
    return bool(plain_files(data_dir, "train", {source.name for source in MIX}))


def _plain_set(data: Path, contrast: Path | None, seed: int) -> TrainingSet:
    """Plain rows as a training set; answers to one prompt of which one is unsafe are preferences as well."""
    files = {file: plain_rows(data, file, "train") for file in plain_files(data, "train", ())}
    rows = [row for read in files.values() for row in read]
    check_kinds(rows, data)
    more = _take(CONTRAST, contrast, seed) if contrast else []
    counts = {file.stem: len(read) for file, read in files.items()}
    return TrainingSet(
        answers=(*(TrainingAnswer(row.prompt, row.response, row.safe) for row in rows), *more),
        preferences=tuple(Preference(*pair) for pair in same_prompt_pairs(rows)),
        rows=(*counts.items(), *([("contrast", len(more))] if more else [])),
    )


def _take(source: TrainingSource, path: Path, seed: int) -> list[TrainingAnswer]:
    answers = _converted(source.answers, read_records(path), source.name)
    answers = [answer for answer in answers if answer.response.strip()]
    random.Random(f"{seed} {source.name}").shuffle(answers)
    return answers[: source.limit]


def _converted(convert: Callable[[Record], Iterable[_T]], rows: list[Record], name: str) -> list[_T]:
    try:
        return [item for row in rows for item in convert(row)]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ConfigurationError(
            f"a row of {name} lacks or misuses the field {error}: see the model card for the fields"
        ) from error
