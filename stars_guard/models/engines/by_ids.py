"""Going on by token ids: the prompt is the list of ids so far, and ids come back. The law is exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stars_guard.algorithm.config import SamplingParams
from stars_guard.algorithm.random_numbers import address_hash
from stars_guard.errors import GenerationError, PromptError
from stars_guard.models.base import Order
from stars_guard.models.engines.answers import choices_of, finish_of
from stars_guard.models.engines.cut import cut_ids
from stars_guard.models.engines.engine_tokenizer import EngineTokenizer
from stars_guard.models.engines.local_tokenizer import LocalTokenizer
from stars_guard.models.engines.profiles import IdsRoute, ServerProfile
from stars_guard.models.engines.session import EngineSession
from stars_guard.models.engines.wire import CallBody, refuse_grammars
from stars_guard.prompts import Prompt
from stars_guard.types import Candidate, Finish, Guarantee

_CANDIDATE = -2
"""The step whose hash seeds a candidate; acceptance is -1, and token draws count from 0."""


class ByTokenIds:
    """How an engine that takes and gives token ids is asked for candidates.

    Args:
        profile: of the engine.
        route: of its token ids.
        tokenizer: of its model.
        most: choices of one call.
    """

    guarantee = Guarantee.TOKEN_IDS

    def __init__(
        self,
        profile: ServerProfile,
        route: IdsRoute,
        tokenizer: LocalTokenizer | EngineTokenizer,
        most: int,
    ) -> None:
        self.path = route.path
        self._most = most if profile.successive_seeds else 1
        self.profile = profile
        self.route = route
        self.tokenizer = tokenizer

    def start(self, prompt: Prompt, sampling: SamplingParams) -> EngineSession:
        """A session on the prompt's ids.

        Raises:
            PromptError: the prompt cannot be served.
        """
        refuse_grammars(prompt, sampling)
        ids, dialect = self.tokenizer.encode(prompt)
        if not ids:
            raise PromptError("the prompt has no tokens; give a text")
        decode = self.tokenizer.decoder_after(prompt, ids)
        tools = prompt.tools is not None
        return EngineSession(ids, len(ids), sampling, dialect, tools=tools, decode=decode)

    def prompt_tokens(self, prompt: Prompt) -> int:
        """Length of the prompt, in tokens.

        Raises:
            PromptError: the prompt cannot be served.
        """
        return len(self.tokenizer.encode(prompt)[0])

    def opening(self, session: EngineSession, text: str, most: int) -> Candidate:
        """The ids of a text with which the answer goes on, at most ``most``.

        Args:
            session: the answer so far.
            text: what it goes on with.
            most: most tokens of it.
        """
        ids = tuple(self.tokenizer.ids(text)[:most])
        return Candidate(ids, session.answer.complete(ids))

    def bodies(self, order: Order, session: EngineSession, sampling: CallBody) -> list[tuple[int, CallBody]]:
        """How many candidates each call draws, and its body.

        Args:
            order: what is to be drawn.
            session: the answer that it goes on with.
            sampling: fields that go into all bodies.
        """
        route = self.route
        shared = {
            **route.extra,
            **sampling,
            "prompt": [*session.opening, *session.token_ids],
            route.length: order.cut.max_tokens,
        }
        stops = dict.fromkeys([*session.sampling.stop_token_ids, *self.tokenizer.unknown_ends])
        if route.stop_token_ids and stops:
            shared[route.stop_token_ids] = list(stops)
        calls, after = [], order.first_attempt + order.candidates
        for first in range(order.first_attempt, after, self._most):
            count = min(self._most, after - first)
            seed = seed_of(self.profile, session.seed, order.segment, first)
            calls.append((count, {**shared, **seed, **({route.count: count} if count > 1 else {})}))
        return calls

    def candidates(
        self, order: Order, session: EngineSession, answer: Any, count: int
    ) -> list[tuple[Candidate, int]]:
        """The candidates of one call, and how many tokens were drawn for each.

        Args:
            order: for which the call was made.
            session: the answer that it goes on with.
            answer: parsed.
            count: candidates that the call was to draw.

        Raises:
            GenerationError: the answer is none to that call.
        """
        choices = choices_of(answer, self.route.choices, count)
        return [self._candidate(order, session, choice) for choice in choices]

    def _candidate(
        self, order: Order, session: EngineSession, choice: Mapping[str, Any]
    ) -> tuple[Candidate, int]:
        ids = checked_ids(choice.get(self.route.ids), self.route.ids)
        finish = finish_of(choice, self.route.finish, self.route.finishes)
        ends = self.tokenizer.ends(ids, finish).union(session.sampling.stop_token_ids)
        whole = finish is Finish.LENGTH and len(ids) >= order.cut.max_tokens
        candidate = cut_ids(ids, order, session.answer, ends, None if whole else finish)
        return candidate, len(ids)


def checked_ids(ids: Any, field: str) -> list[int]:
    """The token ids of a choice.

    Args:
        ids: what was said.
        field: where.

    Raises:
        GenerationError: they are none.
    """
    if isinstance(ids, list) and all(type(token) is int and token >= 0 for token in ids):
        return ids
    raise GenerationError(
        f"a choice holds no token ids in {field!r}; check the engine's profile and version, or ask for a "
        "weaker guarantee"
    )


def seed_of(profile: ServerProfile, seed: int, segment: int, attempt: int) -> dict[str, int]:
    """The field that seeds the call whose first candidate is ``attempt``.

    Where the engine gives the choices of a call successive seeds, those of a segment are successive too, so
    that a candidate is the same in whatever call it is drawn.

    Args:
        profile: of the engine.
        seed: of the answer.
        segment: number of the segment, from 0.
        attempt: number of the candidate within the segment, from 0.
    """
    if profile.seed is None:
        return {}
    if not profile.successive_seeds:
        return {profile.seed: _hashed(profile, seed, segment, attempt)}
    # Half of the range is left for attempts, so that no seed is too long for its field.
    return {profile.seed: _hashed(profile, seed, segment, 0) // 2 + attempt}


def _hashed(profile: ServerProfile, seed: int, segment: int, attempt: int) -> int:
    return address_hash(seed, segment, attempt, _CANDIDATE) >> (64 - profile.seed_bits)
