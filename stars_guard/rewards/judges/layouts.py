"""How a judge is asked: instructions and conversation as text, and as token ids that fit.

A layout writes the turns of a conversation, the judged answer last, with the judge's instructions around
them. It is handed numbered places instead of texts, and the texts are filled in afterwards: so nothing that a
user or a model wrote is ever read as a template, and it is known of every token whether it belongs to the
instructions, to the conversation or to the judged answer. Control tokens and frame marks that are spelled out
in the texts are broken up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from stars_guard.errors import ConfigurationError
from stars_guard.prompts import Message
from stars_guard.rewards.base import ScoreRequest
from stars_guard.rewards.chat import chat_text
from stars_guard.rewards.encoding import (
    PROMPT,
    RESPONSE,
    SPECIAL,
    Encoded,
    TokenOrigin,
    broken_up,
    fitted,
    harmless,
)
from stars_guard.text.turns import TemplateInput, alternating

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Layout: TypeAlias = "Callable[[PreTrainedTokenizerBase, Sequence[Message]], str]"
"""From turns that alternate, user first and the judged answer last, to all that the judge reads."""

_PLACE = re.compile(r"@@turn (\d+)@@")


@dataclass(frozen=True, slots=True)
class OwnTemplate:
    """The judge's own chat template, which writes its instructions around the conversation.

    Attributes:
        arguments: what the template takes beside the turns, such as a policy.
        parts: the template wants the content of a turn as a list of parts, as for models that see images.
    """

    arguments: Mapping[str, Any] = field(default_factory=dict)
    parts: bool = False

    def __call__(self, tokenizer: PreTrainedTokenizerBase, turns: Sequence[Message]) -> str:
        """The template's text.

        Raises:
            ConfigurationError: the tokenizer has no chat template.
        """
        messages = [{"role": turn["role"], "content": self._content(turn["content"])} for turn in turns]
        return _template(tokenizer, messages, self.arguments)

    def _content(self, text: str) -> Any:
        return [{"type": "text", "text": text}] if self.parts else text


@dataclass(frozen=True, slots=True)
class ScriptLayout:
    """The conversation as a script, one labelled turn after the other, inside a text.

    Attributes:
        text: what is written, with ``{conversation}`` once where the script goes.
        user: label before each turn of the user.
        assistant: label before each turn of the assistant.
        as_message: the text is a user message of the tokenizer's chat template; if not, it stands as it is,
            control tokens included.
    """

    text: str
    user: str = "User: "
    assistant: str = "Assistant: "
    as_message: bool = True

    def __call__(self, tokenizer: PreTrainedTokenizerBase, turns: Sequence[Message]) -> str:
        """The text with the script in it.

        Raises:
            ConfigurationError: the tokenizer has no chat template, and one is needed.
        """
        labels = {"user": self.user, "assistant": self.assistant}
        script = "\n\n".join(labels[turn["role"]] + turn["content"] for turn in turns)
        text = self.text.replace("{conversation}", script)
        if not self.as_message:
            return text
        _check_template(tokenizer)
        return chat_text(tokenizer, [Message(role="user", content=text)], opening=True)


@dataclass(frozen=True, slots=True)
class JudgePrompt:
    """A question about an answer, and the words that mean "safe" and "unsafe".

    Attributes:
        layout: writes instructions and conversation.
        safe: words with which the judge says that the answer is safe, as they follow ``lead``: with a blank
            before them, or without. For "is it harmful?" that is ``("No",)``.
        unsafe: words that say the opposite.
        lead: beginning of the judge's reply that is written for it, so that its next token is one of the
            words; it takes the place of white space at the end of the layout.
        marks: plain texts that structure the layout, and must not be imitated inside the conversation.

    Raises:
        ConfigurationError: a side has no words.
    """

    layout: Layout
    safe: tuple[str, ...]
    unsafe: tuple[str, ...]
    lead: str = ""
    marks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not all((*self.safe, *self.unsafe)) or not self.safe or not self.unsafe:
            raise ConfigurationError(
                f"a judge needs words for safe and for unsafe, got {self.safe!r} and {self.unsafe!r}"
            )

    def text(self, tokenizer: PreTrainedTokenizerBase, request: ScoreRequest) -> str:
        """All that the judge reads, before anything is cut.

        Raises:
            ConfigurationError: the layout leaves the answer out, or the tokenizer lacks a chat template.
        """
        return "".join(text for text, _ in self._pieces(tokenizer, request))

    def encode(self, tokenizer: PreTrainedTokenizerBase, request: ScoreRequest, max_length: int) -> Encoded:
        """What the judge reads, as token ids: a format as in :mod:`stars_guard.rewards.classifiers.formats`.

        What does not fit is dropped from the beginning of the conversation, then from the beginning of the
        answer. The instructions and the end of the answer stay.

        Args:
            tokenizer: the judge's own.
            request: what is judged.
            max_length: most tokens.

        Raises:
            ConfigurationError: as for ``text``, or ``max_length`` has no room beside the instructions.
        """
        pieces = self._pieces(tokenizer, request)
        text = "".join(piece for piece, _ in pieces)
        # The layout writes bos itself, so the tokenizer must not add another one.
        encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        by_character = [origin for piece, origin in pieces for _ in piece]
        origins = [by_character[start] for start, _ in encoding["offset_mapping"]]
        return fitted(encoding, origins, max_length)

    def _pieces(
        self, tokenizer: PreTrainedTokenizerBase, request: ScoreRequest
    ) -> list[tuple[str, TokenOrigin]]:
        """The text in pieces, each with what it belongs to."""
        messages = [*request.prompt.as_messages(), Message(role="assistant", content=request.response)]
        written = self.layout(tokenizer, _turns([message["role"] for message in messages]))
        if self.lead:
            written = written.rstrip() + self.lead
        contents = self._contents(tokenizer, [message["content"] for message in messages])
        # Splitting at a group gives text, number, text, number, ..., text.
        frame, numbers = _PLACE.split(written)[::2], [int(place) for place in _PLACE.findall(written)]
        answer = len(messages) - 1
        if numbers.count(answer) != 1 or numbers[-1] != answer:
            raise ConfigurationError(
                "the layout must show the judged answer once, after the conversation, and this one does not; "
                "if it is the tokenizer's chat template, use ScriptLayout, or OwnTemplate(parts=True)"
            )
        filled: list[tuple[str, TokenOrigin]] = [(frame[0], SPECIAL)]
        for index, (number, text) in enumerate(zip(numbers, frame[1:], strict=True)):
            filled.append((contents[number], RESPONSE if number == answer else PROMPT))
            # Labels between turns can go with the turns; what comes before and after them all must stay.
            filled.append((text, PROMPT if index < len(numbers) - 2 else SPECIAL))
        return filled

    def _contents(self, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[str]:
        return [broken_up(text, self.marks).strip() for text in harmless(tokenizer, *texts)]


def _turns(roles: Sequence[str]) -> list[Message]:
    """Turns with numbered places as contents, in the form that any chat template takes."""
    places = [{"role": role, "content": f"@@turn {number}@@"} for number, role in enumerate(roles)]
    turns = alternating(TemplateInput(places)).turns
    return [Message(role=turn["role"], content=turn["content"]) for turn in turns]


def _template(tokenizer: PreTrainedTokenizerBase, messages: list[Any], arguments: Mapping[str, Any]) -> str:
    _check_template(tokenizer)
    options = {"add_generation_prompt": True, **arguments}
    return str(tokenizer.apply_chat_template(messages, tokenize=False, **options))


def _check_template(tokenizer: PreTrainedTokenizerBase) -> None:
    if not tokenizer.chat_template:
        raise ConfigurationError(
            "this judge prompt needs a tokenizer with a chat template; load the judge's own tokenizer, or "
            "use ScriptLayout(..., as_message=False)"
        )
