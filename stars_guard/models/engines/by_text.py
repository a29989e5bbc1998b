"""Going on by text, by the last turn of a chat, or not at all: for engines that take no token ids.

Each candidate is a call of its own, since only then is its number of tokens known.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

from stars_guard.algorithm.config import SamplingParams
from stars_guard.errors import GenerationError, PromptError
from stars_guard.models.base import Order
from stars_guard.models.engines.answers import (
    calls_of,
    checked_text,
    choices_of,
    drawn_tokens,
    finish_of,
    message_of,
    reasoning_of,
)
from stars_guard.models.engines.by_ids import seed_of
from stars_guard.models.engines.cut import UNKNOWN_ID, cut_text
from stars_guard.models.engines.local_tokenizer import LocalTokenizer
from stars_guard.models.engines.profiles import ServerProfile
from stars_guard.models.engines.session import EngineSession
from stars_guard.models.engines.wire import (
    CallBody,
    chat_messages,
    refuse_grammars,
    schema_fields,
    tool_fields,
)
from stars_guard.prompts import Prompt
from stars_guard.text.control_tokens import as_mere_text
from stars_guard.text.dialects import HERMES, PLAIN, Dialect
from stars_guard.text.release import whole_characters
from stars_guard.types import Candidate, Finish, Guarantee

log = logging.getLogger("stars_guard")

_CHARACTERS = 4
"""Characters of a token, about, where no tokenizer is there to count."""
_FINISHES = {"stop": Finish.EOS, "length": Finish.LENGTH}


class ByText:
    """Going on by the text of prompt and answer.

    Args:
        profile: of the engine.
        tokenizer: whose chat template is used; None: only raw prompts can be served. Where the engine's own
            template is used, only the tokenizer's control tokens are.
    """

    guarantee = Guarantee.TEXT
    path = "/v1/completions"
    finishes: Mapping[str, Finish] = _FINISHES

    def __init__(self, profile: ServerProfile, tokenizer: LocalTokenizer | None = None) -> None:
        self._profile = profile
        self._tokenizer = tokenizer
        self._warned = False

    def start(self, prompt: Prompt, sampling: SamplingParams) -> EngineSession:
        """A session on the prompt's text.

        Raises:
            PromptError: the prompt cannot be served.
        """
        refuse_grammars(prompt, sampling)
        self._check_ends(sampling)
        text, dialect = self._rendered(prompt)
        tokens = self.prompt_tokens(prompt) or 0
        return EngineSession(text, tokens, sampling, dialect, tools=prompt.tools is not None)

    def prompt_tokens(self, prompt: Prompt) -> int | None:
        """Length of the prompt, in tokens; None where the engine renders it, or none can count.

        Raises:
            PromptError: the prompt cannot be served.
        """
        if self._tokenizer is None or self.guarantee is not Guarantee.TEXT:
            return None
        return len(self._tokenizer.encode(prompt)[0])

    def opening(self, session: EngineSession, text: str, most: int) -> Candidate:
        """A text with which the answer goes on, of about ``most`` tokens at most.

        Args:
            session: the answer so far.
            text: what it goes on with.
            most: most tokens of it; without a tokenizer, four characters are taken for one.
        """
        tokenizer = self._tokenizer
        count = len(tokenizer.ids(text)) if tokenizer else math.ceil(len(text) / _CHARACTERS)
        if count > most:
            text, count = text[: len(text) * most // count], most
        return Candidate((UNKNOWN_ID,) * count, session.text + text)

    def bodies(self, order: Order, session: EngineSession, sampling: CallBody) -> list[tuple[int, CallBody]]:
        """One call a candidate: the number 1, and its body.

        Args:
            order: what is to be drawn.
            session: the answer that it goes on with.
            sampling: fields that go into all bodies.
        """
        shared = {**sampling, **self.asked(session, order), **self._ends(session.sampling)}
        attempts = range(order.first_attempt, order.first_attempt + order.candidates)
        return [
            (1, {**shared, **seed_of(self._profile, session.seed, order.segment, attempt)})
            for attempt in attempts
        ]

    def asked(self, session: EngineSession, order: Order) -> CallBody:
        """What to go on with, and how far."""
        prompt = session.opening + session.text
        return {**self._profile.text, "prompt": prompt, "max_tokens": order.cut.max_tokens}

    def candidates(
        self, order: Order, session: EngineSession, answer: Any, count: int
    ) -> list[tuple[Candidate, int]]:
        """The candidate of one call, and how many tokens were drawn for it.

        Args:
            order: for which the call was made.
            session: the answer that it goes on with.
            answer: parsed.
            count: candidates that the call was to draw: 1.

        Raises:
            GenerationError: the answer is none to that call.
        """
        (choice,) = choices_of(answer, "choices", count)
        finish = finish_of(choice, "finish_reason", self.finishes)
        tokens = drawn_tokens(answer)
        text = self.drawn(choice, session)
        whole = finish is Finish.LENGTH and tokens >= order.cut.max_tokens
        return [(self.cut(text, tokens, order, session, None if whole else finish), tokens)]

    def drawn(self, choice: Mapping[str, Any], session: EngineSession) -> str:
        """The text that a choice adds."""
        return checked_text(choice.get("text"))

    def cut(
        self, text: str, tokens: int, order: Order, session: EngineSession, finish: Finish | None
    ) -> Candidate:
        """The candidate that ends where the order wants it to.

        Args:
            text: what was drawn.
            tokens: its length.
            order: what was to be drawn.
            session: the answer that it goes on with.
            finish: why the engine drew no more; None if it drew as much as it was asked for.
        """
        return cut_text(session.text, text, tokens, order, session.answer.stops, finish)

    @property
    def _ends_field(self) -> str | None:
        """The field for ids that end a choice, if there is one."""
        return self._profile.ids.stop_token_ids if self._profile.ids else None

    def _ends(self, sampling: SamplingParams) -> CallBody:
        """What ends a choice, the end of a turn that the engine need not know included."""
        unknown = self._tokenizer.unknown_ends if self._tokenizer else {}
        if self._ends_field is None:
            return {"stop": list(unknown.values())} if unknown else {}
        ids = dict.fromkeys([*sampling.stop_token_ids, *unknown])
        return {self._ends_field: list(ids)} if ids else {}

    def _check_ends(self, sampling: SamplingParams) -> None:
        """Say what a text does not tell.

        Raises:
            PromptError: the engine cannot be told of ids that end an answer.
        """
        if sampling.stop_token_ids and self._ends_field is None:
            raise PromptError(f"{self._profile.name} takes no stop_token_ids with a text; leave them out")
        # Between dots, so that half of a token at an end of a stop string is none.
        whole = [f". {stop} ." for stop in sampling.stop]
        if not self._warned and self._mere_text(whole) != whole:
            self._warned = True
            log.warning(
                "a stop string spells a control token, which texts of %s may leave out: unless it ends "
                "answers anyway, give stop_token_ids",
                self._profile.name,
            )

    def _mere_text(self, fields: Any) -> Any:
        """Fields of a call whose template the engine renders, without control tokens of users."""
        return as_mere_text(fields, self._tokenizer.control_tokens if self._tokenizer else ())

    def _rendered(self, prompt: Prompt) -> tuple[str, Dialect]:
        if self._tokenizer is not None:
            return self._tokenizer.render(prompt, with_bos=bool(self._profile.text))
        if prompt.text is None:
            raise PromptError("messages need a chat template: pass tokenizer=, or guarantee='prefill'")
        return prompt.text, PLAIN


class ByPrefill(ByText):
    """Going on with the last turn of a chat, which the engine's own template writes."""

    guarantee = Guarantee.PREFILL
    path = "/v1/chat/completions"

    def start(self, prompt: Prompt, sampling: SamplingParams) -> EngineSession:
        """A session on the messages.

        Raises:
            PromptError: the prompt is none for a chat, or has tools, whose calls an engine keeps to itself.
        """
        refuse_grammars(prompt, sampling)
        if prompt.tools:
            raise PromptError("tools do not go with guarantee='prefill'; use token ids, text or 'whole'")
        self._check_ends(sampling)
        return EngineSession(self._mere_text(chat_messages(prompt)), 0, sampling, PLAIN, tools=False)

    def asked(self, session: EngineSession, order: Order) -> CallBody:
        """The messages, the beginning of the answer included."""
        length = {"max_tokens": order.cut.max_tokens}
        if not session.text:
            return {"messages": session.opening, **length}
        begun = {"role": "assistant", "content": session.text}
        return {"messages": [*session.opening, begun], **(self._profile.prefill or {}), **length}

    def drawn(self, choice: Mapping[str, Any], session: EngineSession) -> str:
        """What the message adds to the answer."""
        message = message_of(choice)
        text = checked_text(message.get("content") or "")
        if not text and reasoning_of(message):
            raise GenerationError(
                "the engine keeps reasoning apart, which cannot be gone on with; turn it off"
            )
        if self._profile.prefill_echo and session.text:
            if not text.startswith(session.text):
                raise GenerationError("the engine changed the beginning of the answer; use another guarantee")
            return text[len(session.text) :]
        return text


class Whole(ByText):
    """Whole answers, each judged as one segment, reasoning and calls included."""

    guarantee = Guarantee.WHOLE
    path = "/v1/chat/completions"
    finishes: Mapping[str, Finish] = {**_FINISHES, "tool_calls": Finish.EOS}

    def start(self, prompt: Prompt, sampling: SamplingParams) -> EngineSession:
        """A session on the messages.

        Raises:
            PromptError: the prompt is none for a chat, or there is a schema, and the engine takes none.
        """
        if sampling.response_schema is not None and not self._profile.response_format:
            raise PromptError(f"{self._profile.name} takes no response_schema; leave it out")
        self._check_ends(sampling)
        fields = {"messages": chat_messages(prompt), **tool_fields(prompt), **schema_fields(sampling)}
        tools = prompt.tools is not None
        return EngineSession(self._mere_text(fields), 0, sampling, HERMES, tools=tools)

    def asked(self, session: EngineSession, order: Order) -> CallBody:
        """The messages and what belongs to them."""
        return {**session.opening, "max_tokens": session.sampling.max_tokens}

    def drawn(self, choice: Mapping[str, Any], session: EngineSession) -> str:
        """All that the message says, as a Hermes model would have written it."""
        message = message_of(choice)
        reasoning = reasoning_of(message)
        thought = f"<think>{reasoning}</think>" if reasoning else ""
        return thought + checked_text(message.get("content") or "") + calls_of(message, HERMES)

    def cut(
        self, text: str, tokens: int, order: Order, session: EngineSession, finish: Finish | None
    ) -> Candidate:
        """The whole answer as one candidate, up to a stop string.

        Args:
            text: what was drawn.
            tokens: its length.
            order: what was to be drawn; no segment ends here.
            session: whose stop strings hold.
            finish: why the engine drew no more.
        """
        stopped = session.answer.stops.fork().read(text, ended=True).stopped
        ids = (UNKNOWN_ID,) * tokens
        if stopped is not None:
            return Candidate(ids, stopped, Finish.STOP)
        if finish is Finish.EOS:
            return Candidate(ids, text, Finish.EOS)
        return Candidate(ids, whole_characters(text), Finish.LENGTH)
