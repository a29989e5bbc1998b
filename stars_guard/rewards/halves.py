"""Who made a call for many fail, found by asking again for half of them, and half of that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from stars_guard.errors import ends_program

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class ByHalves(Generic[_Item, _Result]):
    """A call for several items that leaves out those it fails for.

    Among ``n`` items with ``k`` culprits, it takes about ``k log n`` calls, where asking one by one takes
    ``n``.

    Args:
        call: the results of several items; raises for all if it fails for any.
        alone: the results of an item whose call failed though it was for nobody else.
    """

    def __init__(
        self,
        call: Callable[[Sequence[_Item]], list[_Result]],
        alone: Callable[[_Item, BaseException], list[_Result]],
    ) -> None:
        self._call = call
        self._alone = alone
        self._culprits = 0

    def results(self, items: Sequence[_Item]) -> list[_Result]:
        """The results of all items, in order."""
        if not items:
            return []
        try:
            return self._call(items)
        except BaseException as error:
            if ends_program(error):
                raise
            if len(items) > 1:
                return self._halved(items)
            self._culprits += 1
            return self._alone(items[0], error)

    def _halved(self, items: Sequence[_Item]) -> list[_Result]:
        middle = len(items) // 2
        culprits = self._culprits
        first, rest = self.results(items[:middle]), items[middle:]
        # Where the first half is innocent the rest is not, and asking for all of it would only say so.
        split = len(rest) > 1 and self._culprits == culprits
        return first + (self._halved(rest) if split else self.results(rest))
