"""Lines of code, and long files."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Iterable
from pathlib import Path

from tests.house.docstrings import docstrings_of
from tests.house.source import Source, sources

LONGEST_FILE = 350
"""Lines up to which a file is not called long."""

_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def total_lines(files: Iterable[Source]) -> int:
    """Number of lines in all files, blank lines, comments and docstrings included."""
    return sum(source.lines for source in files)


def code_lines(files: Iterable[Source]) -> int:
    """Number of lines in all files that are neither blank nor only a comment nor part of a docstring."""
    return sum(len(_code_rows(source)) for source in files)


def long_files(root: Path, limit: int = LONGEST_FILE) -> dict[str, int]:
    """Files of the package with more than ``limit`` lines, and their numbers of lines, the longest first."""
    over = [source for source in sources(root) if source.lines > limit]
    return {source.path.as_posix(): source.lines for source in sorted(over, key=lambda source: -source.lines)}


def _code_rows(source: Source) -> set[int]:
    rows: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type not in _NO_CODE:
            rows.update(range(token.start[0], token.end[0] + 1))
    for docstring in docstrings_of(source):
        rows.difference_update(range(docstring.line, docstring.last_line + 1))
    lines = source.text.split("\n")
    return {row for row in rows if lines[row - 1].strip()}
