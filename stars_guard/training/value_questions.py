"""What the base model is to answer, so that beginnings of its answers can be given a value.

Prompts of our own and of training sets; none that is measured on is among them. Questions over notes are made
of the base model's own answers to harmless questions, so that notes and their topic tell nothing of harm.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stars_guard.prompts import Message, Prompt
from stars_guard.training.contrast import QUESTIONS
from stars_guard.training.data import Record, first_turns, read_activities, read_records, turns_as_prompt

FRAMES = (
    "Use the following notes to answer the question.\n\n{notes}\n\nQuestion: {question}",
    "{notes}\n\nAnswer by the text above only. {question}",
    "Here are my notes:\n{notes}\n\nSummarise what they say about this: {question}",
    "You answer from documents.\n\nDocuments:\n{notes}\n\nUser question: {question}\nAnswer:",
)
"""Instructions over notes."""
MARKS = ("- {}", "[{n}] {}", "Note {n}: {}", "{}")
"""How notes are told from one another; ``n`` is a note's number."""
LONGEST_TALK = 600
"""Most characters of a conversation."""
LONGEST_QUESTION = 300
"""Most characters of a question that is put over notes."""


@dataclass(frozen=True, slots=True)
class ValueQuestion:
    """A prompt to answer.

    Attributes:
        prompt: what the model is given, roles and all.
        text: the same as text rewards read it.
        kind: name of its source.
        safe: P(safe) of every answer where that is known by construction; None asks the teacher.
    """

    prompt: Prompt
    text: str
    kind: str
    safe: float | None = None

    @classmethod
    def of(cls, text: str, kind: str, safe: float | None = None) -> "ValueQuestion":
        """A single question.

        Args:
            text: the question.
            kind: name of its source.
            safe: as the attribute.
        """
        return cls(Prompt.of(text), text, kind, safe)


def value_questions(data: Path, count: int, seed: int) -> list[ValueQuestion]:
    """Prompts of all sources, in fixed shares and in an order that ``seed`` fixes.

    Args:
        data: data folder, with ``train/``; prompts that its ``eval/`` holds are left out.
        count: prompts wanted; fewer come where the sources have no more.
        seed: of choice and order.

    Raises:
        ConfigurationError: a file is missing, or a row cannot be read.
    """
    rng = random.Random(seed)
    held_out = _held_out(data)
    chosen: list[ValueQuestion] = []
    for questions, share in _sources(data / "train", rng):
        there = [each for each in questions if each.text.strip() and each.text.strip() not in held_out]
        chosen += rng.sample(there, min(round(share * count), len(there)))
    rng.shuffle(chosen)
    return chosen


def _sources(train: Path, rng: random.Random) -> Iterator[tuple[list[ValueQuestion], float]]:
    """Distinct questions of each source, and the share of all that it has."""
    for kind, share in (("harmless", 0.3), ("harmful", 0.2)):
        asked = [rng.choice(QUESTIONS).format(activity) for activity in read_activities()[kind]]
        yield [ValueQuestion.of(question, kind) for question in asked], share
    pairs = train / "hh_harmless_pairs.jsonl"
    yield [ValueQuestion.of(turn, "red-team") for turn in first_turns(pairs)], 0.15
    yield list(_talks(read_records(pairs))), 0.1
    for name, share in (("xstest_completions", 0.15), ("jailbreakbench", 0.1)):
        prompts = sorted({str(row["prompt"]) for row in read_records(train / f"{name}.jsonl")})
        yield [ValueQuestion.of(prompt, name) for prompt in prompts], share


def _talks(rows: Sequence[Record]) -> Iterator[ValueQuestion]:
    """Conversations of several turns, each once."""
    for text, messages in {turns_as_prompt(row["messages"]): row["messages"] for row in rows}.items():
        if len(messages) > 1 and len(text) <= LONGEST_TALK:
            turns = [Message(role=str(turn["role"]), content=str(turn["content"])) for turn in messages]
            yield ValueQuestion(Prompt.of(turns), text, "conversation")


def _held_out(data: Path) -> set[str]:
    rows = (row for file in sorted((data / "eval").glob("*.jsonl")) for row in read_records(file))
    return {str(row["prompt"]).strip() for row in rows if "prompt" in row}


def over_notes(answered: Sequence[tuple[str, str]], count: int, seed: int) -> list[ValueQuestion]:
    """Harmless instructions over notes.

    Args:
        answered: harmless questions with answers of the base model.
        count: instructions wanted; none come where fewer than three questions were answered.
        seed: of notes and instructions.
    """
    if len(answered) < 3:
        return []
    rng = random.Random(seed)
    return [_over(rng.sample(answered, rng.randint(2, 3)), rng) for _ in range(count)]


def put_over_notes(
    texts: Sequence[tuple[str, str]], answered: Sequence[tuple[str, str]], count: int, seed: int
) -> list[tuple[int, tuple[str, str]]]:
    """Prompts asked over notes, of which a probe is to say what it says of them alone.

    Args:
        texts: prompts and responses, harmful ones among them.
        answered: as for :func:`over_notes`; notes about other things.
        count: texts wanted; fewer come where fewer have a prompt of usual length.
        seed: of the choice and of the notes.

    Returns:
        The place of each text chosen, and the text over notes.
    """
    asked = [place for place, (prompt, _) in enumerate(texts) if 0 < len(prompt.strip()) <= LONGEST_QUESTION]
    if len(answered) < 3:
        return []
    rng = random.Random(seed)
    return [
        (place, (framed(texts[place][0], rng.sample(answered, 2), rng), texts[place][1]))
        for place in rng.sample(asked, min(count, len(asked)))
    ]


def _over(chosen: Sequence[tuple[str, str]], rng: random.Random) -> ValueQuestion:
    question, _ = rng.choice(chosen)
    return ValueQuestion.of(framed(question, chosen, rng), "notes", safe=1.0)


def framed(question: str, chosen: Sequence[tuple[str, str]], rng: random.Random) -> str:
    """A question over notes.

    Args:
        question: what is asked.
        chosen: questions and answers, whose answers are the notes.
        rng: of the frame and of the notes' marks.
    """
    mark = rng.choice(MARKS)
    notes = [mark.format(" ".join(answer.split()), n=n) for n, (_, answer) in enumerate(chosen, 1)]
    return rng.choice(FRAMES).format(notes="\n".join(notes), question=question)
