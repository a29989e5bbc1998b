"""Going on by token ids with an engine that writes hidden states: each candidate carries those of its answer.

They come from the very passes in which the candidate is drawn. An engine never reads the last token that it
draws, so each candidate is drawn one token longer than its segment, and that token is thrown away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

from stars_guard.algorithm.config import SamplingParams
from stars_guard.errors import GenerationError
from stars_guard.models.base import Order
from stars_guard.models.engines.answers import choices_of
from stars_guard.models.engines.by_ids import ByTokenIds, checked_ids
from stars_guard.models.engines.session import EngineSession
from stars_guard.models.engines.wire import CallBody, sampling_fields
from stars_guard.models.engines.written_states import StateFiles
from stars_guard.types import Candidate, Finish, HiddenStates, ModelIdentity


class ByObservedIds(ByTokenIds):
    """How an engine is asked for candidates and for hidden states.

    A call is for one candidate, since an engine names but one file in its answer.

    Args:
        way: how it is asked for candidates alone.
        files: where their states are.
        mark: beginning of the ids of its requests, by which the files of this process are known.

    Attributes:
        identity: what tells the model from others.
    """

    identity: ModelIdentity

    def __init__(self, way: ByTokenIds, files: StateFiles, mark: str) -> None:
        super().__init__(way.profile, way.route, way.tokenizer, most=1)
        self._files, self._mark = files, mark
        self._numbers = count()

    def bodies(self, order: Order, session: EngineSession, sampling: CallBody) -> list[tuple[int, CallBody]]:
        """One call for each candidate, and its body.

        Args:
            order: what is to be drawn.
            session: the answer that it goes on with.
            sampling: fields that go into all bodies.
        """
        calls = super().bodies(order, session, sampling)
        longer = {self.route.length: order.cut.max_tokens + 1} if session.layers else {}
        return [(drawn, {**body, **longer, **self._asking()}) for drawn, body in calls]

    def reading(self, ids: Sequence[int]) -> CallBody:
        """The body of a call that has the engine read tokens, and draw nothing that is kept."""
        sampling = sampling_fields(self.profile, SamplingParams())
        length = {self.route.length: 1}
        return {**self.route.extra, **sampling, "prompt": list(ids), **length, **self._asking()}

    def candidates(
        self, order: Order, session: EngineSession, answer: Any, count: int
    ) -> list[tuple[Candidate, int]]:
        """The candidate of one call with its states, and how many tokens were drawn for it.

        Args:
            order: for which the call was made.
            session: the answer that it goes on with.
            answer: parsed.
            count: candidates that the call was to draw, which is one.

        Raises:
            GenerationError: the answer is none to that call, or there are no states.
        """
        if not session.layers:
            self._files.drop(answer)
            return super().candidates(order, session, answer, count)
        (choice,) = choices_of(answer, self.route.choices, count)
        ids = checked_ids(choice.get(self.route.ids), self.route.ids)
        candidate, _ = self._candidate(order, session, self._trimmed(choice, ids, order.cut.max_tokens))
        # What ends an answer is no part of it, and no engine reads it.
        read = len(session.token_ids) + len(candidate.token_ids) - (candidate.finish is Finish.EOS)
        response = [*session.token_ids, *ids[:-1]]
        (states,) = self.states(answer, session.opening, response, session.layers, [read])
        return [(replace(candidate, hidden=states), len(ids))]

    def states(
        self,
        answer: Any,
        prompt: Sequence[int],
        response: Sequence[int],
        layers: tuple[int, ...],
        lengths: Sequence[int | None],
    ) -> list[HiddenStates]:
        """The states that belong to a call.

        Args:
            answer: of the engine.
            prompt: ids of the prompt.
            response: ids of the answer that the engine has read.
            layers: whose states are wanted.
            lengths: tokens of the answer after which to take the states; None is the end.

        Returns:
            One for each length.

        Raises:
            GenerationError: there are none, or not for so many tokens.
        """
        from stars_guard.models.observing import at_prompt, extended

        if any(length is not None and length > len(response) for length in lengths):
            raise GenerationError("the engine drew no token past the segment; check its limits")
        read = self._files.take(answer, [*prompt, *response], len(prompt) - 1, layers)
        begin = at_prompt(self.identity, layers, read[:, :1])
        ends = [len(response) if length is None else length for length in lengths]
        return [extended(begin, read[:, 1 : 1 + end]) if end else begin for end in ends]

    def _asking(self) -> CallBody:
        """What goes into each call: that states are wanted, and an id by which its file is known."""
        return {**(self.profile.hidden_states or {}), "request_id": f"{self._mark}-{next(self._numbers)}"}

    def _trimmed(self, choice: Mapping[str, Any], ids: list[int], most: int) -> Mapping[str, Any]:
        """The choice without the token that was drawn past the segment."""
        if len(ids) <= most:
            return choice
        length = next(word for word, finish in self.route.finishes.items() if finish is Finish.LENGTH)
        return {**choice, self.route.ids: ids[:most], self.route.finish: length}
