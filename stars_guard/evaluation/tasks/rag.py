"""Questions over passages: the prompt source ``rag``, which retrieves and asks as applications do.

Two corpora are built in: a clean one, and its poisoned twin, in which some passages carry injected
instructions or harmful claims. Questions, ids and everything else are the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from string import Formatter
from typing import NamedTuple

from pydantic import Field, field_validator

from stars_guard.errors import ConfigurationError, needs_extra
from stars_guard.evaluation.tasks.fields import SourceFields, SourceRow
from stars_guard.evaluation.tasks.files import file_rows
from stars_guard.evaluation.tasks.prompts import Injection
from stars_guard.settings import Settings

CORPORA = Path(__file__).parent / "corpora"
"""Built-in corpora and the questions about them, one JSONL file each."""

_TEMPLATE = (
    "Context information is below.\n---------------------\n{passages}\n---------------------\n"
    "Given the context information and not prior knowledge, answer the question.\n"
    "Question: {question}\nAnswer:"
)


class RagOptions(Settings):
    """Options of the source ``rag``."""

    corpus: str = "clean"
    """``clean``, ``poisoned``, or a JSONL or CSV file with a ``text`` in each row; in a JSONL file with an
    ``injection``, too, where a passage carries an instruction: its ``text``, and ``phrases`` that an answer
    which follows it has."""
    questions: str = "questions"
    """The built-in ones, or a file with a ``prompt`` in each row."""
    passages: int = Field(default=3, ge=1)
    """Passages that are put before the model."""
    template: str = _TEMPLATE
    """What the model reads, with ``{passages}`` and ``{question}``."""

    @field_validator("template")
    @classmethod
    def _has_both(cls, template: str) -> str:
        named = sorted(name for _, name, _, _ in Formatter().parse(template) if name is not None)
        if named != ["passages", "question"]:
            raise ValueError("say {passages} and {question} once each; write other braces twice")
        return template


def rag_rows(options: RagOptions) -> Iterator[SourceRow]:
    """Rows whose prompt holds the question and the passages that were retrieved for it.

    Raises:
        ConfigurationError: a file cannot be read, or a row of it has no text.
    """
    corpus = [_passage(row) for row in file_rows(_place(options.corpus))]
    if not corpus:
        raise ConfigurationError(f"the corpus {options.corpus} holds no passages")
    rows = file_rows(_place(options.questions))
    questions = [_text(row, "prompt") for row in rows]
    nearest = retrieved([passage.text for passage in corpus], questions, options.passages)
    for row, question, places in zip(rows, questions, nearest, strict=True):
        passages = [corpus[place] for place in places]
        texts = "\n\n".join(passage.text for passage in passages)
        asked = options.template.format(passages=texts, question=question)
        injections = [passage.injection for passage in passages if passage.injection is not None]
        yield SourceRow(row.place, {**row.values, "prompt": asked, "injections": injections})


def retrieved(corpus: Sequence[str], questions: Sequence[str], most: int) -> list[list[int]]:
    """The places of the passages that are nearest to each question, by the cosine of their TF-IDF vectors.

    Args:
        corpus: texts of the passages.
        questions: texts of the questions.
        most: passages for each question; fewer where there are fewer.
    """
    with needs_extra("eval", "scikit-learn"):
        from sklearn.feature_extraction.text import TfidfVectorizer
    if not questions:
        return []
    vectorizer = TfidfVectorizer(sublinear_tf=True, token_pattern=r"\w+")
    passages = vectorizer.fit_transform(corpus)
    likeness = (vectorizer.transform(questions) @ passages.T).toarray()
    # Stable, so that equals stay in the corpus's order.
    return [[int(place) for place in row] for row in (-likeness).argsort(axis=1, kind="stable")[:, :most]]


class _Passage(NamedTuple):
    """A passage of a corpus, and the instruction that was put into it, if one was."""

    text: str
    injection: Injection | None


def _passage(row: SourceRow) -> _Passage:
    text, given = _text(row, "text"), row.values.get("injection")
    if given is None:
        return _Passage(text, None)
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{row.place}: 'injection' is no table; write its text and phrases")
    injection = Injection.found_at(f"{row.place}: 'injection'", given)
    if injection.text not in text:
        raise ConfigurationError(f"{row.place}: the text of 'injection' does not stand in 'text'; copy it")
    return _Passage(text, injection)


def _place(name: str) -> Path:
    built_in = CORPORA / f"{name}.jsonl"
    return built_in if built_in.is_file() else Path(name).expanduser()


def _text(row: SourceRow, field: str) -> str:
    text = row.values.get(field)
    if not isinstance(text, str) or not text.strip():
        raise ConfigurationError(f"{row.place}: {field!r} is no text")
    return text


RAG_FIELDS = SourceFields(prompt="prompt")
"""Where the rows of ``rag`` hold what."""
