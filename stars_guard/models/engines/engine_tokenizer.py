"""The engine's own tokenizer, for whoever has none here: a call for every prompt and every text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stars_guard.errors import PromptError
from stars_guard.models.engines.profiles import TokenizingRoute
from stars_guard.models.engines.wire import wire_messages
from stars_guard.models.wanted import still_wanted
from stars_guard.prompts import Prompt
from stars_guard.text.control_tokens import BEGINNINGS, as_mere_text
from stars_guard.text.decoding import AnswerDecoder, Remote
from stars_guard.text.dialects import PLAIN, Dialect
from stars_guard.types import Finish

if TYPE_CHECKING:
    from stars_guard.http.client import JsonClient


class EngineTokenizer:
    """A tokenizer behind ``/tokenize`` and ``/detokenize``.

    Unlike a local one, it takes control tokens that are spelled out in messages for what they say, so those
    that are known are broken up by a blank; and it shows every special token but the one that ended the
    answer. Texts that must be looked at token by token (stop strings that were found, boundaries) cost a call
    for each.

    Args:
        connection: to the engine.
        route: of its tokenizer.
        shared: fields of every call, such as the model's name.
        template_arguments: passed to the chat template.
        dialect: how the model marks reasoning; tool calls need a local tokenizer.
    """

    def __init__(
        self,
        connection: JsonClient,
        route: TokenizingRoute,
        shared: Mapping[str, Any],
        template_arguments: Mapping[str, Any],
        dialect: Dialect = PLAIN,
    ) -> None:
        self._connection = connection
        self._route = route
        self._shared = dict(shared)
        self._arguments = {"chat_template_kwargs": dict(template_arguments)} if template_arguments else {}
        self._dialect = dialect

    @property
    def unknown_ends(self) -> dict[int, str]:
        """Ends of turns that an engine need not know: none, since it says itself where answers end."""
        return {}

    def encode(self, prompt: Prompt) -> tuple[list[int], Dialect]:
        """The prompt's ids, chat template included, and the dialect of an answer to it.

        Raises:
            PromptError: it has tools.
            GenerationError: the engine does not say.
        """
        if prompt.text is not None:
            ids = self._ids({self._route.text: prompt.text, **self._route.raw})
            # The engine puts the beginning of text before it, also where it is spelled out already.
            twice = ids[:1] == ids[1:2] and prompt.text.startswith(BEGINNINGS)
            return ids[1:] if twice else ids, PLAIN
        return self._ids(self._opened(prompt)), self._dialect

    def ids(self, text: str) -> list[int]:
        """The ids of a text within an answer.

        Raises:
            GenerationError: the engine does not say.
        """
        return self._ids({self._route.text: text, **self._route.templated})

    def decoder_after(self, prompt: Prompt, ids: Sequence[int]) -> AnswerDecoder:
        """What gives the text of an answer's ids."""
        return AnswerDecoder(Remote(self._text))

    def ends(self, ids: Sequence[int], finish: Finish) -> frozenset[int]:
        """The ids that end an answer: what the engine says."""
        return frozenset(ids[-1:]) if finish is Finish.EOS else frozenset()

    def _opened(self, prompt: Prompt) -> dict[str, Any]:
        """What to tokenize for a chat."""
        if prompt.tools:
            raise PromptError("tools need the model's tokenizer here: pass tokenizer=")
        messages = {"messages": as_mere_text(wire_messages(prompt.messages)), **self._arguments}
        if self._route.template is None:
            return {**messages, "add_generation_prompt": True}
        text = self._answered(self._route.template, messages, str, "prompt")
        return {self._route.text: text, **self._route.templated}

    def _text(self, ids: Sequence[int]) -> str:
        return str(self._answered("/detokenize", {"tokens": list(ids)}, str)) if ids else ""

    def _ids(self, body: dict[str, Any]) -> list[int]:
        return list(self._answered("/tokenize", body, list, "tokens"))

    def _answered(self, path: str, body: dict[str, Any], kind: type, field: str | None = None) -> Any:
        answers = self._connection.post_all(path, [{**self._shared, **body}], still_wanted)
        answer = answers[0] if answers else None
        value = answer.get(field or self._route.text) if isinstance(answer, dict) else None
        if not isinstance(value, kind):
            raise self._connection.error(path, "the answer cannot be read; check the engine's profile")
        return value
