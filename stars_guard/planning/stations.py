"""Where simulated work is done: an event clock, engines that share their speed, stages with a queue."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from itertools import count

from stars_guard.planning.scenario import SimulatedEngine, Stage

Then = Callable[[], None]
"""What happens next."""


class Clock:
    """Events in order of time; those of the same time in the order in which they were planned."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Then]] = []
        self._numbers = count()

    def at(self, time: float, then: Then) -> None:
        """Plan an event."""
        heapq.heappush(self._events, (time, next(self._numbers), then))

    def run(self) -> None:
        """Until nothing is left."""
        while self._events:
            self.now, _, then = heapq.heappop(self._events)
            then()


class SimulatedDraw:
    """Candidates of one round that an engine draws together.

    Attributes:
        sequences: candidates.
        tokens: of each candidate.
        ended: whether they are drawn.
        then: what happens then.
    """

    __slots__ = ("begun", "end", "ended", "sequences", "then", "tokens")

    def __init__(self, sequences: int, tokens: int, then: Then) -> None:
        self.sequences, self.tokens, self.then = sequences, tokens, then
        self.begun = self.end = 0.0
        self.ended = False


class Replica:
    """An engine with continuous batching: all sequences get tokens at the same pace, set by their number.

    ``depth`` is how many tokens a sequence would have got that was there from the beginning; so a draw that
    begins at depth ``d`` ends at ``d + tokens``, whatever joins and leaves in between. Prompts are read one
    after another, and decoding waits meanwhile.

    Attributes:
        requests: on this replica.
        drawn: tokens, those drawn in vain included.
        reading: seconds spent on prompts.
    """

    def __init__(self, clock: Clock, engine: SimulatedEngine) -> None:
        self.requests = 0
        self.drawn = 0.0
        self.reading = 0.0
        self._clock, self._engine = clock, engine
        self._paces = [0.0] + [engine.speed(batch) for batch in range(1, engine.max_batch + 1)]
        self._draws: list[tuple[float, int, SimulatedDraw]] = []
        self._numbers = count()
        self._sequences = 0
        self._depth = 0.0
        self._seen = 0.0
        self._prompts: deque[tuple[float, Then]] = deque()
        self._plan = 0

    def has_room(self, sequences: int) -> bool:
        """Whether so many more fit in the batch."""
        return self._sequences + sequences <= self._engine.max_batch

    def read(self, tokens: int, then: Then) -> None:
        """Read a prompt."""
        self._advance()
        self._prompts.append((tokens / self._engine.prefill_per_second, then))
        if len(self._prompts) == 1:
            self._read_next()

    def draw(self, draw: SimulatedDraw) -> None:
        """Begin to draw."""
        self._advance()
        draw.begun, draw.end = self._depth, self._depth + draw.tokens
        heapq.heappush(self._draws, (draw.end, next(self._numbers), draw))
        self._sequences += draw.sequences
        self._planned()

    def drop(self, draw: SimulatedDraw) -> float:
        """Stop drawing; the tokens that were drawn."""
        if draw.ended:
            return draw.sequences * draw.tokens
        self._advance()
        self._draws = [entry for entry in self._draws if entry[2] is not draw]
        heapq.heapify(self._draws)
        self._sequences -= draw.sequences
        self._planned()
        tokens = draw.sequences * (self._depth - draw.begun)
        self.drawn += tokens
        return tokens

    def _advance(self) -> None:
        if not self._prompts:
            self._depth += self._paces[self._sequences] * (self._clock.now - self._seen)
        self._seen = self._clock.now

    def _planned(self) -> None:
        """Plan the end of the draw that ends next; plans made before no longer hold."""
        self._plan += 1
        if self._draws and not self._prompts:
            left = max(0.0, self._draws[0][0] - self._depth)
            plan = self._plan
            self._clock.at(self._clock.now + left / self._paces[self._sequences], lambda: self._ended(plan))

    def _ended(self, plan: int) -> None:
        if plan != self._plan:
            return
        self._advance()
        self._depth = self._draws[0][0]
        ended = []
        while self._draws and self._draws[0][0] <= self._depth:
            ended.append(heapq.heappop(self._draws)[2])
        for draw in ended:
            draw.ended = True
            self._sequences -= draw.sequences
            self.drawn += draw.sequences * draw.tokens
        self._planned()
        for draw in ended:
            draw.then()

    def _read_next(self) -> None:
        self._planned()
        if self._prompts:
            seconds = self._prompts[0][0]
            self.reading += seconds
            self._clock.at(self._clock.now + seconds, self._has_read)

    def _has_read(self) -> None:
        self._advance()
        _, then = self._prompts.popleft()
        self._read_next()
        then()


class Station:
    """Servers with one queue in order of arrival; a server takes what waits, as far as it fits in a call.

    Args:
        clock: of the simulation.
        stage: how long a call takes, and how many candidates fit in it.
        servers: how many, 1 or more.

    Attributes:
        busy: seconds, of all servers together.
        taken: candidates.
    """

    def __init__(self, clock: Clock, stage: Stage, servers: int) -> None:
        self.busy = 0.0
        self.taken = 0
        self._clock, self._stage = clock, stage
        self._idle = servers
        self._waiting: deque[tuple[int, Then]] = deque()

    def take(self, candidates: int, then: Then) -> None:
        """Let a round through."""
        self._waiting.append((candidates, then))
        self._begin()

    def _begin(self) -> None:
        while self._idle and self._waiting:
            first, then = self._waiting.popleft()
            size, call = first, [then]
            while self._waiting and size + self._waiting[0][0] <= self._stage.max_batch:
                more, then = self._waiting.popleft()
                size += more
                call.append(then)
            self._idle -= 1
            seconds = self._stage.seconds(size)
            self.busy += seconds
            self.taken += size
            self._clock.at(self._clock.now + seconds, self._ending(call))

    def _ending(self, call: list[Then]) -> Then:
        def ended() -> None:
            self._idle += 1
            self._begin()
            for then in call:
                then()

        return ended
