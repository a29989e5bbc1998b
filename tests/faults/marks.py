"""Text whose every character says which candidate it belongs to, and how good that candidate is.

A token is one mark, ``~g0001a2f;``: a quality, and a serial number that no other candidate of the process
has. Nothing else that a guard may say holds a tilde, so a mark is found wherever it turns up.
"""

from __future__ import annotations

import re
from itertools import count

GOOD, POOR, BAD = "g", "p", "b"
LENGTH = 10
"""Characters of a mark."""

MARK = re.compile(r"~[gpb][0-9a-f]{7}")
"""What tells one candidate from another; the semicolon that ends a mark is left out."""
ONLY_MARKS = re.compile(rf"(?:{MARK.pattern};)*(?:{MARK.pattern})?")
"""Text of nothing but marks; a stop string may take the semicolon of the last."""
STOP = ";~"
"""Stop string that every border of two marks holds, also one between segments."""

_serials = count()


def new_mark(quality: str) -> str:
    """The mark of a new candidate."""
    return f"~{quality}{next(_serials):07x};"
