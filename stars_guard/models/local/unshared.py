"""Rows of which nothing is kept but their ids: what stands in for a cache where none can be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch


class UnsharedRows:
    """Texts that are read anew for every token, each whole and in a pass of its own.

    Args:
        rows: token ids of each; copied.
    """

    def __init__(self, rows: Iterable[Sequence[int]]) -> None:
        self.rows = [list(row) for row in rows]

    @classmethod
    def joined(cls, prefixes: Sequence[UnsharedRows]) -> UnsharedRows:
        """The rows of several, in that order."""
        return cls(row for prefix in prefixes for row in prefix.rows)

    def row(self, number: int) -> UnsharedRows:
        """One row, independent of the others."""
        return UnsharedRows([self.rows[number]])

    def extend(self, ids: torch.Tensor) -> None:
        """Append ``[rows, new]`` token ids."""
        for row, new in zip(self.rows, ids.tolist(), strict=True):
            row.extend(new)

    def reorder_cache(self, places: torch.Tensor) -> None:
        """Keep the rows of ``places``, in that order; the name is that of transformers' caches."""
        self.rows = [self.rows[place] for place in places.tolist()]
