"""From a prompt to token ids: chat template, tools, and the dialect in which the model will write."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any, Literal

from stars_guard.errors import PromptError
from stars_guard.models.control_tokens import ControlTokens
from stars_guard.models.readings import reading_of
from stars_guard.prompts import Message, Prompt, Tools
from stars_guard.text.decoding import AnswerDecoder
from stars_guard.text.dialects import Dialect, dialect_of, unknown_marks
from stars_guard.text.turns import TemplateInput, TemplateTurns, tool_response

log = logging.getLogger(__name__)
PromptFormat = Literal["auto", "chat", "raw"]
"""Whether prompts go through the chat template; ``auto`` is ``chat`` where there is one."""


_ANSWER = "zqanswerzq"
"""What an assistant says in a conversation that shows how its turns end."""


def _unmarked(value: Any) -> Any:
    return value


class ChatTemplate:
    """A tokenizer's chat template, with tools for those that know none.

    Args:
        tokenizer: with a chat template.
        name: of the model, for error messages.
        dialect: how the model marks reasoning and calls.
        arguments: passed to the template.
        sanitize_control_tokens: whether control tokens spelled out anywhere in messages and tools stay mere
            text.
    """

    def __init__(
        self,
        tokenizer: Any,
        name: str,
        dialect: Dialect,
        arguments: Mapping[str, Any],
        *,
        sanitize_control_tokens: bool,
    ) -> None:
        self._tokenizer = tokenizer
        self._name = name
        self._dialect = dialect
        self._source = str(arguments.get("chat_template") or template_text(tokenizer))
        self._marks = {*dialect.marks(tools=True), *dialect.inside}
        self._marked: Callable[[Any], Any] = _unmarked
        self._ids: Callable[[str], list[int]] = lambda text: list(
            tokenizer.encode(text, add_special_tokens=False)
        )
        if sanitize_control_tokens:
            control = ControlTokens(tokenizer, self._source, self._marks)
            self._marked, self._ids = control.marked, control.ids
        self._arguments = {
            key: value if key == "chat_template" else self._marked(value) for key, value in arguments.items()
        }
        self._turns = TemplateTurns(self._printed, self._told)

    def encode(self, prompt: Prompt) -> list[int]:
        """Token ids of the conversation and the beginning of the assistant's turn.

        Raises:
            PromptError: the template refuses the messages.
        """
        tools = [dict(schema) for schema in prompt.tools.schemas] if prompt.tools else None
        asked = TemplateInput([dict(message) for message in prompt.messages], tools)
        fitted = self._turns.fitted(asked) or asked
        try:
            return self._ids(self._printed(fitted, self._marked))
        except Exception as error:
            raise PromptError(
                f"the chat template of {self._name} refuses these messages: {self._reason(error)}"
            ) from error

    def turn_ends(self) -> frozenset[int]:
        """The ids with which the template ends a turn of the assistant, which need not be an end of text."""
        ends = TemplateTurns(partial(self._printed, opening=False), self._told)
        question, answer = ({"role": "user", "content": "a"}, {"role": "assistant", "content": _ANSWER})
        for turns in ([question, answer], [question, answer, question]):
            fitted = ends.fitted(TemplateInput(turns))
            tail = self._printed(fitted, opening=False).rpartition(_ANSWER)[2].lstrip() if fitted else ""
            added = {number: text for number, text in _added_tokens(self._tokenizer).items() if text.strip()}
            begins = {len(text): number for number, text in added.items() if tail.startswith(text)}
            if begins:
                end = begins[max(begins)]
                return frozenset() if added[end] in self._marks else frozenset({end})
        return frozenset()

    def _printed(
        self,
        conversation: TemplateInput,
        marked: Callable[[Any], Any] = _unmarked,
        *,
        opening: bool = True,
    ) -> str:
        text: str = self._tokenizer.apply_chat_template(
            marked(list(conversation.turns)),
            tools=marked(conversation.tools),
            add_generation_prompt=opening,
            tokenize=False,
            **self._arguments,
        )
        return text

    def _told(self, conversation: TemplateInput) -> TemplateInput:
        tools = Tools(tuple(conversation.tools)) if conversation.tools else None
        messages: Any = conversation.turns
        turns: Any = spelled_out(messages, tools, self._dialect)
        return TemplateInput(turns)

    def _reason(self, error: Exception) -> str:
        """Words that the template itself has for a refusal; an error that may quote a message by its type."""
        words = str(error)
        return words if words and words in self._source else type(error).__name__

    def dialect_after(self, ids: Sequence[int]) -> Dialect:
        """The dialect of an answer to these ids: the template may have opened the reasoning already."""
        think = self._dialect.think
        end = self._tokenizer.decode(ids[-16:], skip_special_tokens=False).rstrip() if think else ""
        return replace(self._dialect, prefilled=bool(think) and end.endswith(think[0] if think else ""))


def template_text(tokenizer: Any) -> str:
    """The source of the chat template, of all of them where there are several."""
    template = tokenizer.chat_template or ""
    return "\n".join(template.values()) if isinstance(template, dict) else str(template)


def detect_dialect(tokenizer: Any) -> Dialect:
    """The dialect that template and vocabulary speak; Hermes calls where they speak none.

    A template with control tokens of its own for calls or reasoning is worth a warning.
    """
    template = template_text(tokenizer)
    dialect = dialect_of(template, _added_tokens(tokenizer).values())
    if marks := unknown_marks(template, dialect):
        log.warning(
            "the chat template of %s has control tokens that no dialect knows: %s; what the model writes "
            "between them is guarded and shown as part of the answer (pass dialect= to tell them apart)",
            tokenizer.name_or_path or "the model",
            ", ".join(marks),
        )
    return dialect


def spelled_out(messages: Sequence[Message], tools: Tools | None, dialect: Dialect) -> list[Message]:
    """The conversation for a template that knows no tools: all about them is said in the messages.

    Args:
        messages: the conversation.
        tools: what may be called; None for none.
        dialect: how the model marks calls.
    """
    turns = [_plain_turn(message, dialect) for message in messages]
    if tools is not None:
        system = turns.pop(0)["content"] + "\n\n" if turns[0]["role"] == "system" else ""
        turns.insert(0, Message(role="system", content=system + _instructions(tools, dialect)))
    merged: list[Message] = []
    for role, stretch in groupby(turns, lambda turn: turn["role"]):
        if role == "user":
            merged.append(Message(role=role, content="\n".join(turn["content"] for turn in stretch)))
        else:
            merged.extend(stretch)
    return merged


def _plain_turn(message: Message, dialect: Dialect) -> Message:
    if message["role"] == "tool":
        return Message(role="user", content=tool_response(message["content"]))
    functions = [call["function"] for call in message.get("tool_calls", ())]
    calls = [dialect.call(function["name"], function["arguments"]) for function in functions]
    return Message(role=message["role"], content="\n".join(filter(None, [message["content"], *calls])))


def _instructions(tools: Tools, dialect: Dialect) -> str:
    schemas = "\n".join(json.dumps(schema["function"], ensure_ascii=False) for schema in tools.schemas)
    example = dialect.call("the name of the function", {"argument": "value"})
    return f"You can call these functions:\n{schemas}\nTo call a function, answer with:\n{example}"


def raw_ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text to be continued as it stands, the beginning of text once however it is written."""
    ids = list(tokenizer(text)["input_ids"])
    first = list(tokenizer("")["input_ids"])[:1]
    return ids[1:] if first and ids[:2] == first * 2 else ids


def decoder(tokenizer: Any, dialect: Dialect, ends: Collection[int] = ()) -> AnswerDecoder:
    """Ids to text without special tokens, except those that are marks of the dialect.

    Args:
        tokenizer: whose ids they are.
        dialect: how the model marks reasoning and calls.
        ends: ids that end an answer, and are no part of its text.
    """
    added, special = _added_tokens(tokenizer), _added_tokens(tokenizer, special_only=True)
    marks = {*dialect.marks(tools=True), *dialect.inside}
    hidden = {number: text for number, text in special.items() if text not in marks}
    hidden |= {number: added[number] for number in ends}

    def decode(ids: Sequence[int]) -> str:
        # Cleaned-up blanks would take back what was shown.
        text: str = tokenizer.decode(
            ids, skip_special_tokens=hidden.keys() >= special.keys(), clean_up_tokenization_spaces=False
        )
        return text

    return AnswerDecoder(reading_of(tokenizer, decode), hidden)


def _added_tokens(tokenizer: Any, *, special_only: bool = False) -> dict[int, str]:
    added = tokenizer.added_tokens_decoder.items()
    return {number: str(token) for number, token in added if token.special or not special_only}
