"""One round of drawing: a batch of candidates, decoded together until each has ended."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch

from stars_guard.algorithm.config import SamplingParams
from stars_guard.algorithm.random_numbers import uniform
from stars_guard.algorithm.retries import redrawn_at
from stars_guard.models.base import Order, Proposal
from stars_guard.models.local import prefix_cache, sampling
from stars_guard.models.local.grammar import GrammarState
from stars_guard.models.local.passes import Passes
from stars_guard.models.local.prefix_cache import Rows
from stars_guard.models.local.session import RowState, TransformersSession, our_session
from stars_guard.models.local.sharing import Sharing
from stars_guard.models.local.unshared import UnsharedRows
from stars_guard.models.observing import chosen, extended
from stars_guard.text.answer_text import AnswerText
from stars_guard.types import Candidate, Finish, HiddenStates


@dataclass(eq=False, slots=True)
class _Row:
    """One candidate while it is drawn. ``fed`` of its ids have gone through the model."""

    order: Order
    session: TransformersSession
    attempt: int
    params: SamplingParams
    """How it is drawn, but for the seed."""
    answer: AnswerText
    """What was accepted, for itself alone to search."""
    ids: list[int] = field(default_factory=list)
    fed: int = 0
    finish: Finish | None = None
    state: RowState | None = None
    dead: bool = False
    padding: int = 0
    """Columns on the left of its row in the batch cache that hold nothing of it."""
    grammar: GrammarState | None = None
    hidden: HiddenStates | None = None

    @property
    def length(self) -> int:
        return self.session.length + self.fed

    @property
    def unread(self) -> bool:
        """Whether the model has yet to read its last token, which an end-of-sequence token never needs."""
        return self.fed < len(self.ids) and self.finish is not Finish.EOS

    def uniform(self) -> float:
        return uniform(self.session.seed, self.order.segment, self.attempt, len(self.ids))

    def candidate(self) -> Candidate:
        text, finish = self.answer.drawn(self.ids, self.finish)
        return Candidate(tuple(self.ids), text, finish, self.state, self.hidden)


class Round:
    """Draws every candidate of every order; rows leave the batch as they end.

    Args:
        passes: through the model that draws.
        eos_ids: ids that end an answer.
        orders: what is to be drawn.
    """

    def __init__(self, passes: Passes, eos_ids: Collection[int], orders: Sequence[Order]) -> None:
        self._passes = passes
        self._eos_ids = eos_ids
        self._orders = orders
        self._rows = [row for order in orders for row in _rows(order)]
        self._live = list(self._rows)

    @torch.inference_mode()
    def draw(self) -> list[Proposal]:
        """One proposal per order, candidates in attempt order."""
        cache = self._fork()
        logits = torch.stack([row.session.known_logits for row in self._live])
        while True:
            self._drop_dead()
            ended = self._cut_before(logits)
            ended |= self._extend([row for row in self._live if row not in ended and not row.dead], logits)
            staying = [row for row in self._live if row not in ended and not row.dead]
            # What is observed is observed to its last token; otherwise that one is read if it is accepted.
            unread = any(row.hidden and row.unread for row in ended)
            if unread:
                logits = self._feed(cache)
            for row in ended:
                row.state = self._state(row, cache, logits, last=not staying)
            if not staying:
                return [self._proposal(order) for order in self._orders]
            logits = self._shrink(staying, cache, logits)
            if not unread:
                logits = self._feed(cache)

    def _fork(self) -> Rows:
        room = max(order.cut.max_tokens for order in self._orders)
        lengths = [row.length for row in self._live]
        for row in self._live:
            row.padding = max(lengths) - row.length
        return prefix_cache.join_rows([row.session.cache for row in self._live], lengths, room)

    def _drop_dead(self) -> None:
        alive = {id(order): order.alive() for order in self._orders}
        for row in self._live:
            row.dead = not alive[id(row.order)]

    def _cut_before(self, logits: torch.Tensor) -> set[_Row]:
        """Rows that end before their next token, by its entropy."""
        asking = [n for n, row in enumerate(self._live) if row.ids and row.order.cut.needs_entropy]
        if not asking:
            return set()
        entropies = sampling.entropy(logits[asking]).tolist()
        rows = [self._live[n] for n in asking]
        cut = zip(rows, entropies, strict=True)
        return {row for row, nats in cut if row.order.cut.ends_before(len(row.ids), nats)}

    def _extend(self, rows: Sequence[_Row], logits: torch.Tensor) -> set[_Row]:
        """Draw one token for each row; returns the rows that it ends."""
        position = {row: n for n, row in enumerate(self._live)}
        for params, group in _by_params(rows).items():
            chosen = logits[[position[row] for row in group]]
            if params.repetition_penalty != 1:
                seen = [row.session.prompt_ids + row.session.token_ids + row.ids for row in group]
                chosen = sampling.penalised(chosen, seen, params.repetition_penalty)
            chosen = _fitting(chosen, group)
            tokens = sampling.draw_tokens(chosen, params, [row.uniform() for row in group])
            for row, token in zip(group, tokens, strict=True):
                row.ids.append(token)
                if row.grammar is not None:
                    row.grammar.advance([token])
        return {row for row in rows if self._ends_after(row)}

    def _ends_after(self, row: _Row) -> bool:
        cut, params = row.order.cut, row.session.sampling
        text = row.answer.complete(row.ids) if params.stop or cut.needs_text else ""
        if row.ids[-1] in self._eos_ids or row.ids[-1] in params.stop_token_ids:
            row.finish = Finish.EOS
        elif row.answer.stopped(row.ids, text) is not None:
            row.finish = Finish.STOP
        elif row.order.ends_answer and len(row.ids) >= cut.max_tokens:
            row.finish = Finish.LENGTH
        return row.finish is not None or cut.ends_after(len(row.ids), text)

    def _state(self, row: _Row, cache: Rows, logits: torch.Tensor, *, last: bool) -> RowState | None:
        if row.finish is not None:
            return None
        place = self._live.index(row)
        state = RowState(
            cache,
            place,
            row.length,
            side=row.session.side,
            pending=row.ids[-1:] if row.unread else [],
            logits=None if row.unread else logits[place],
        )
        if not last:
            state.detach()
        return state

    def _shrink(self, staying: list[_Row], cache: Rows, logits: torch.Tensor) -> torch.Tensor:
        if len(staying) == len(self._live):
            return logits
        places = [n for n, row in enumerate(self._live) if row in staying]
        device = self._passes.device
        cache.reorder_cache(torch.tensor(places, device=device))  # type: ignore[arg-type]
        self._live = staying
        return logits[places]

    def _feed(self, cache: Rows) -> torch.Tensor:
        ids = torch.tensor([[row.ids[-1]] for row in self._live])
        layers = next((row.hidden.layers for row in self._live if row.hidden), ())
        logits, states = self._passes.forward(
            ids,
            cache,
            cached=self._live[0].length + self._live[0].padding,
            padding=[row.padding for row in self._live],
            observing=bool(layers),
        )
        new = chosen(layers, states) if layers else ()
        for row in self._live:
            row.fed += 1
        for row, last in zip(self._live, new, strict=False):
            if row.hidden and row.finish is not Finish.EOS:
                row.hidden = extended(row.hidden, last)
        alone = isinstance(cache, UnsharedRows)
        for row in self._live if alone else {row.session: row for row in self._live}.values():
            row.session.forward_passes += 1
        return logits

    def _proposal(self, order: Order) -> Proposal:
        rows = [row for row in self._rows if row.order is order]
        whole = () if any(row.dead for row in rows) else tuple(row.candidate() for row in rows)
        return Proposal(whole, tokens=sum(len(row.ids) for row in rows))


def draw_together(passes: Passes, eos_ids: Collection[int], orders: Sequence[Order]) -> list[Proposal]:
    """One proposal per order, in as few batches as the model allows.

    Args:
        passes: through the model that draws.
        eos_ids: ids that end an answer.
        orders: what is to be drawn.
    """
    for session, room in _rooms(orders).items():
        passes.settle(session, room)
    proposals: dict[int, Proposal] = {}
    for batch in _batches(passes.sharing, orders):
        together = [orders[place] for place in batch]
        passes.catch_up(list(_rooms(together)))
        proposals |= zip(batch, Round(passes, eos_ids, together).draw(), strict=True)
    return [proposals[place] for place in range(len(orders))]


def _rooms(orders: Sequence[Order]) -> dict[TransformersSession, int]:
    """Most tokens that are drawn for each session."""
    rooms: dict[TransformersSession, int] = {}
    for order in orders:
        session = our_session(order.session)
        rooms[session] = max(order.cut.max_tokens, rooms.get(session, 0))
    return rooms


def _batches(sharing: Sharing, orders: Sequence[Order]) -> list[list[int]]:
    """Places of the orders drawn together: on one side, and of one length where rows cannot be padded."""
    batches: dict[object, list[int]] = {}
    for place, order in enumerate(orders):
        session = our_session(order.session)
        batches.setdefault((session.side, sharing.padded or session.total), []).append(place)
    return list(batches.values())


def _rows(order: Order) -> list[_Row]:
    session = our_session(order.session)
    params = session.shared_sampling
    if order.temperature is not None:
        params = redrawn_at(params, order.temperature)
    attempts = range(order.first_attempt, order.first_attempt + order.candidates)
    rows = [_Row(order, session, attempt, params, session.answer.fork()) for attempt in attempts]
    for row in rows:
        row.grammar = session.grammar.fork() if session.grammar else None
        row.hidden = session.observed
    return rows


def _fitting(logits: torch.Tensor, rows: Sequence[_Row]) -> torch.Tensor:
    """The logits ``[rows, vocabulary]``, with -inf for tokens that a row's grammar rules out."""
    masks = [(n, row.grammar.allowed()) for n, row in enumerate(rows) if row.grammar is not None]
    if not masks:
        return logits
    logits = logits.clone()
    for n, allowed in masks:
        logits[n, ~allowed.to(logits.device)] = float("-inf")
    return logits


def _by_params(rows: Sequence[_Row]) -> dict[SamplingParams, list[_Row]]:
    groups: dict[SamplingParams, list[_Row]] = {}
    for row in rows:
        groups.setdefault(row.params, []).append(row)
    return groups
