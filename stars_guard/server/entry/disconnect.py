"""Work for a client that may go away: then it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send


class CancellableResponse(Response):
    """A response that is made while it is sent, and given up when the client goes away.

    Args:
        work: sends all of it; the last message last, so that whoever got it went too late.
        left: called when the client went away before that.
        seconds: longest time that it may take; a client that reads too slowly has gone away, too.
    """

    def __init__(
        self, work: Callable[[Send], Coroutine[Any, Any, None]], left: Callable[[], None], seconds: float
    ) -> None:
        super().__init__()
        self._work = work
        self._left = left
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response. Raises what the work raises."""
        if not await unless_gone(receive, self._work(send), self._seconds):
            self._left()


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, None], seconds: float) -> bool:
    """Do the work, unless the client goes away or it takes too long.

    The work is over, cleaned up, when this returns or is cancelled itself.

    Args:
        receive: of the request; says that the client went away.
        work: what is done.
        seconds: longest time that it may take.

    Returns:
        Whether the work was done to its end.
    """
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait([working, gone], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
            return True
        return False
    finally:
        working.cancel()
        gone.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
