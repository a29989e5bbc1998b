"""Pages of the documentation: their code blocks, and the output that is shown under one.

``python -m tests.support.pages README.md`` writes the outputs anew.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

_CODE = re.compile(r"^```python\n(?P<code>.*?)^```\n(?:\n```text\n(?P<output>.*?)^```\n)?", flags=re.M | re.S)


def blocks(page: Path, language: str) -> list[str]:
    """Code blocks of a page in one language."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


def executed(page: Path) -> Iterator[tuple[re.Match[str], str]]:
    """Each Python block of a page, run after those before it, and what it printed."""
    namespace: dict[str, object] = {}
    for block in _CODE.finditer(page.read_text(encoding="utf-8")):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block["code"], page.name, "exec", dont_inherit=True), namespace)
        yield block, _tidy(printed.getvalue())


def with_outputs(page: Path) -> str:
    """The page, every shown output replaced by what its block prints now."""
    text, written, end = page.read_text(encoding="utf-8"), "", 0
    for block, printed in executed(page):
        if block["output"] is not None:
            written += text[end : block.start("output")] + printed
            end = block.end("output")
    return written + text[end:]


def _tidy(printed: str) -> str:
    """What was printed, without blanks that a page cannot show, and ended by one line end."""
    return "\n".join(line.rstrip() for line in printed.strip().splitlines()) + "\n"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        Path(name).write_text(with_outputs(Path(name)), encoding="utf-8")
