"""Going on by token ids: the prompt is the list of ids so far, and ids come back. The law is exact."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from stars_guard.config import SamplingParams
from stars_guard.errors import GenerationError, PromptError
from stars_guard.models.base import Order
from stars_guard.models.local_tokenizer import LocalTokenizer
from stars_guard.models.openai_cut import cut_candidate
from stars_guard.models.openai_seeds import seed_of
from stars_guard.models.openai_session import EngineSession
from stars_guard.models.server_profiles import IdsRoute, ServerProfile
from stars_guard.types import Candidate, Finish, Guarantee, Prompt

Body: TypeAlias = dict[str, Any]


class ByTokenIds:
    """How an engine that takes and gives token ids is asked for candidates.

    Args:
        profile: of the engine.
        route: of its token ids.
        tokenizer: of its model.
    """

    guarantee = Guarantee.TOKEN_IDS

    def __init__(self, profile: ServerProfile, route: IdsRoute, tokenizer: LocalTokenizer) -> None:
        self.path = route.path
        self._profile = profile
        self._route = route
        self._tokenizer = tokenizer

    def start(self, prompt: Prompt, sampling: SamplingParams) -> EngineSession:
        """A session on the prompt's ids.

        Raises:
            PromptError: the prompt cannot be served.
        """
        ids, dialect = self._tokenizer.encode(prompt)
        if not ids:
            raise PromptError("the prompt has no tokens; give a text")
        return EngineSession(ids, len(ids), sampling, dialect, self._tokenizer.decoder_after(prompt, ids))

    def bodies(self, order: Order, session: EngineSession, sampling: Body) -> list[tuple[int, Body]]:
        """How many candidates each call draws, and its body; ``sampling`` goes into all of them."""
        route, most = self._route, order.candidates if self._profile.successive_seeds else 1
        shared = {
            **route.extra,
            **sampling,
            "prompt": [*session.opening, *session.token_ids],
            route.length: order.cut.max_tokens,
        }
        if route.stop_token_ids and session.sampling.stop_token_ids:
            shared[route.stop_token_ids] = list(session.sampling.stop_token_ids)
        calls = []
        for first in range(order.first_attempt, order.first_attempt + order.candidates, most):
            count = min(most, order.first_attempt + order.candidates - first)
            seed = seed_of(self._profile, session.seed, order.segment, first)
            calls.append((count, {**shared, **seed, **({route.count: count} if count > 1 else {})}))
        return calls

    def candidates(
        self, order: Order, session: EngineSession, answer: Any, count: int
    ) -> list[tuple[Candidate, int]]:
        """The candidates of one call, and how many tokens were drawn for each.

        Raises:
            GenerationError: the answer is none to that call.
        """
        return [self._candidate(order, session, one) for one in self._choices(answer, count)]

    def _choices(self, answer: Any, count: int) -> list[Mapping[str, Any]]:
        if self._route.choices is not None:
            answer = answer.get(self._route.choices) if isinstance(answer, dict) else None
        choices = answer if isinstance(answer, list) else [answer]
        if len(choices) != count or not all(isinstance(one, dict) for one in choices):
            raise GenerationError(f"the answer does not hold {count} choices; check the engine's profile")
        # Those that number them need not give them in order.
        return sorted(choices, key=lambda one: _number(one.get("index")))

    def _candidate(
        self, order: Order, session: EngineSession, choice: Mapping[str, Any]
    ) -> tuple[Candidate, int]:
        ids = _checked_ids(choice.get(self._route.ids), self._route.ids)
        finish = self._finish(choice)
        short = None if finish is Finish.LENGTH and len(ids) >= order.cut.max_tokens else finish
        ends = self._tokenizer.eos_ids.union(session.sampling.stop_token_ids)
        decode = session.decode_after()
        candidate = cut_candidate(ids, order, decode, session.sampling.stop, ends, short)
        return candidate, len(ids)

    def _finish(self, choice: Mapping[str, Any]) -> Finish:
        reason = choice.get(self._route.finish)
        if not isinstance(reason, str) or reason not in self._route.finishes:
            raise GenerationError(f"a candidate ended with {str(reason)[:40]!r}; look at the engine")
        return self._route.finishes[reason]


def _number(index: Any) -> int:
    return index if isinstance(index, int) else 0


def _checked_ids(found: Any, field: str) -> list[int]:
    if isinstance(found, list) and all(type(one) is int and one >= 0 for one in found):
        return found
    raise GenerationError(
        f"a choice holds no token ids in {field!r}; check the engine's profile and version, or ask for a "
        "weaker guarantee"
    )
