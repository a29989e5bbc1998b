"""How likely a model finds answers that are being written: each token of them is read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from stars_guard.algorithm.config import SamplingParams
from stars_guard.errors import ContextLengthError
from stars_guard.models.local import prefix_cache
from stars_guard.models.local.session import TransformersSession, our_session
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.prompts import Prompt
from stars_guard.types import Candidate


@dataclass(eq=False, slots=True)
class _Tail:
    """The end of an answer, which begins where its session stands."""

    session: TransformersSession
    ids: Sequence[int]


class GrowingLikelihoods:
    """Reads answers while they are written, and keeps a prefix cache for each.

    Args:
        model: reads them.
    """

    def __init__(self, model: TransformersModel) -> None:
        self._model = model
        self._sessions: dict[str, TransformersSession] = {}

    def read(self, answers: Sequence[tuple[str, Prompt, Sequence[int]]], last: int) -> list[list[float]]:
        """Log-probabilities, in nats at temperature 1, of the last tokens of each, given all before them.

        Args:
            answers: a key, the prompt and the token ids so far of each. Those of one key have one prompt:
                they are candidates for the same place.
            last: most tokens of each whose log-probabilities are wanted.

        Raises:
            ContextLengthError: prompt and answer are longer than the model's context.
            PromptError: the template refuses the messages.
        """
        heads: dict[str, list[tuple[int, ...]]] = {}
        for key, _, ids in answers:
            heads.setdefault(key, []).append(tuple(ids[:-last]))
        prompts = {key: prompt for key, prompt, _ in answers}
        for key, ends in heads.items():
            self._go_on(key, prompts[key], _shared(ends))
        tails = [self._tail(key, ids) for key, _, ids in answers]
        return [read[-last:] for read in self._read(tails)]

    def forget(self, key: str) -> None:
        """Free what is kept for an answer, if anything is."""
        session = self._sessions.pop(key, None)
        if session is not None:
            session.close()

    def _go_on(self, key: str, prompt: Prompt, ids: Sequence[int]) -> None:
        """Have the session of an answer stand after these ids of it; a new one where it went back."""
        session = self._sessions.get(key)
        if session is None or session.token_ids != list(ids[: len(session.token_ids)]):
            # Nothing is drawn, so how to draw plays no part.
            session = our_session(self._model.start(prompt, SamplingParams(max_tokens=1, seed=0)))
            self._sessions[key] = session
        if new := tuple(ids[len(session.token_ids) :]):
            session.accept(Candidate(new, ""))

    def _tail(self, key: str, ids: Sequence[int]) -> _Tail:
        session, limit = self._sessions[key], self._model.context_window
        if limit is not None and session.prompt_tokens + len(ids) > limit:
            raise ContextLengthError.of(session.prompt_tokens, len(ids), limit, self._model.name)
        return _Tail(session, ids[len(session.token_ids) :])

    def _read(self, tails: Sequence[_Tail]) -> list[list[float]]:
        passes = self._model.passes
        read: dict[int, list[float]] = {}
        with passes.lock:
            rooms: dict[TransformersSession, int] = {}
            for tail in tails:
                rooms[tail.session] = max(len(tail.ids), rooms.get(tail.session, 0))
            for session, room in rooms.items():
                passes.settle(session, room)
            for places in self._batches(tails):
                batch = [tails[place] for place in places]
                passes.catch_up(list(dict.fromkeys(tail.session for tail in batch)))
                read |= zip(places, self._together(batch), strict=True)
        return [read[place] for place in range(len(tails))]

    def _batches(self, tails: Sequence[_Tail]) -> list[list[int]]:
        """Places of the tails read together: on one side, of one length where rows cannot be padded."""
        batches: dict[object, list[int]] = {}
        for place, tail in enumerate(tails):
            alike = self._model.passes.sharing.padded or tail.session.total
            batches.setdefault((tail.session.side, alike), []).append(place)
        return list(batches.values())

    @torch.inference_mode()
    def _together(self, tails: Sequence[_Tail]) -> list[list[float]]:
        """Log-probability of every token, one step for all at a time."""
        lengths = [tail.session.length for tail in tails]
        longest, steps = max(lengths), max(len(tail.ids) for tail in tails)
        cache = prefix_cache.join_rows([tail.session.cache for tail in tails], lengths, room=steps)
        logits = torch.stack([tail.session.known_logits for tail in tails])
        read: list[list[float]] = []
        for step in range(steps):
            if step:
                fed = _tokens(tails, step - 1)
                padding = [longest - length for length in lengths]
                logits, _ = self._model.passes.forward(fed, cache, cached=longest + step - 1, padding=padding)
            ids = _tokens(tails, step).to(logits.device)
            read.append(logits.float().log_softmax(-1).gather(-1, ids).squeeze(-1).tolist())
        return [[read[step][row] for step in range(len(tail.ids))] for row, tail in enumerate(tails)]


def _shared(texts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The longest beginning that all have: that of the two which differ most."""
    first, last = min(texts), max(texts)
    apart = (place for place, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1])
    return first[: next(apart, len(first))]


def _tokens(tails: Sequence[_Tail], step: int) -> torch.Tensor:
    """One token of each ``[rows, 1]``; of one that has ended, any: nobody reads what comes after it."""
    return torch.tensor([[tail.ids[step] if step < len(tail.ids) else 0] for tail in tails])
