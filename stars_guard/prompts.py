"""What is asked: messages, tools and prompts, checked when they are made. No torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NotRequired, Self, TypeAlias, TypedDict, TypeVar

from pydantic import ConfigDict, model_validator

from stars_guard.errors import PromptError
from stars_guard.settings import Settings


class CalledFunction(TypedDict):
    """Name and arguments of a call in a conversation."""

    name: str
    arguments: dict[str, Any]


class MessageToolCall(TypedDict):
    """A call that an assistant message of the conversation made."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class Message(TypedDict):
    """One chat turn, in the form every chat template takes.

    A tool's result is a message with role ``tool`` and the ``tool_call_id`` and ``name`` of its call.
    """

    role: str
    content: str
    tool_calls: NotRequired[list[MessageToolCall]]
    tool_call_id: NotRequired[str]
    name: NotRequired[str]


@dataclass(frozen=True, slots=True)
class Tools:
    """The functions an answer may call.

    Attributes:
        schemas: ``{"type": "function", "function": {"name", "description", "parameters"}}`` each, with a JSON
            schema under ``parameters``.
        choice: ``auto`` leaves it to the model; ``none`` shows the tools but takes no call; ``any`` and a
            tool's name force a call by constrained decoding.
        parallel: whether one answer may make several calls.

    Raises:
        PromptError: a schema has no name, or ``choice`` names no tool.
    """

    schemas: tuple[Mapping[str, Any], ...]
    choice: str = "auto"
    parallel: bool = True

    def __post_init__(self) -> None:
        names = self.names
        if not names:
            raise PromptError(
                "tools were given, but there is none in them; pass at least one or leave them out"
            )
        if len(set(names)) < len(names):
            raise PromptError("two tools have the same name; give each a name of its own")
        if self.choice not in ("auto", "any", "none", *names):
            raise PromptError(
                f"the tool choice is unknown; use auto, any, none, or the name of one of {len(names)} tools"
            )

    @property
    def names(self) -> list[str]:
        """The tools' names."""
        return [_tool_name(schema) for schema in self.schemas]

    def parameters(self, name: str) -> Mapping[str, Any]:
        """The JSON schema of a tool's arguments; an empty one for a tool that is not offered."""
        functions = (schema["function"] for schema in self.schemas)
        return next((each.get("parameters") or {} for each in functions if each["name"] == name), {})

    @property
    def forced(self) -> list[Mapping[str, Any]]:
        """The functions of which one must be called; empty when none must."""
        functions = [schema["function"] for schema in self.schemas]
        if self.choice in ("auto", "none"):
            return []
        return [function for function in functions if self.choice in ("any", function["name"])]


def _tool_name(schema: Mapping[str, Any]) -> str:
    name = schema.get("function", {}).get("name")
    if not isinstance(name, str) or not name:
        raise PromptError(
            'a tool must look like {"type": "function", "function": {"name": ...}}, with a text for a name'
        )
    return name


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the answer answers: chat ``messages``, or raw ``text`` to be continued as it stands.

    Exactly one of the two is set; ``tools`` go with messages. ``as_messages`` and ``as_text`` give either
    view to a reward model. Half a surrogate pair, which no tokenizer takes, is U+FFFD in all of it.
    """

    messages: tuple[Message, ...] = ()
    text: str | None = None
    tools: Tools | None = None

    @classmethod
    def of(cls, prompt: PromptLike, tools: Tools | None = None) -> Prompt:
        """Normalise what users pass: a string is one user message, a list is a conversation.

        Raises:
            PromptError: the prompt is empty, or a message has no string ``role`` and ``content``.
        """
        if isinstance(prompt, Prompt):
            if prompt.text and tools:
                raise PromptError("a raw text takes no tools; give the prompt as messages")
            if prompt.text:
                return cls.raw(prompt.text) if prompt.text != whole(prompt.text) else prompt
            tools = tools or prompt.tools
        given = prompt.messages if isinstance(prompt, Prompt) else prompt
        if isinstance(given, str):
            given = [{"role": "user", "content": given}]
        if not isinstance(given, Sequence):
            raise PromptError(f"a prompt is a text or a list of messages, got {type(given).__name__}")
        messages = tuple(_checked_message(message) for message in given)
        if not any(message["content"].strip() for message in messages):
            raise PromptError("the prompt is empty; give a text, or at least one message with content")
        if tools is not None and tools.schemas != (schemas := whole(tools.schemas)):
            tools = replace(tools, schemas=schemas)
        return cls(messages=messages, tools=tools)

    @classmethod
    def raw(cls, text: str) -> Prompt:
        """Text to be continued as it stands, without a chat template."""
        if not text:
            raise PromptError("the raw prompt is empty; give a text to continue")
        return cls(text=whole(text))

    def as_messages(self) -> list[Message]:
        """The conversation as plain turns: a raw text is one user message, calls are said in content."""
        if self.text is not None:
            return [Message(role="user", content=self.text)]
        return [Message(role=message["role"], content=_spoken(message)) for message in self.messages]

    def as_text(self) -> str:
        """The conversation as plain text, one turn a line; what pair and text classifiers read."""
        return "\n".join(message["content"] for message in self.as_messages())


class AskedSettings(Settings):
    """A line of a file that asks something. Messages about a wrong line quote none of its texts."""

    model_config = ConfigDict(hide_input_in_errors=True)

    prompt: str | None = None
    """A text; it or ``messages``."""
    messages: tuple[dict[str, Any], ...] | None = None
    """Chat turns, each with ``role`` and ``content``."""

    @model_validator(mode="after")
    def _asks_once(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("give either 'prompt' or 'messages'")
        return self

    @property
    def as_prompt(self) -> Prompt:
        """What is asked.

        Raises:
            PromptError: it is empty or malformed.
        """
        content: Any = self.prompt if self.messages is None else list(self.messages)
        return Prompt.of(content)


PromptLike: TypeAlias = str | Sequence[Message] | Prompt

_Data = TypeVar("_Data")


def whole(data: _Data) -> _Data:
    """Plain data whose texts hold no half characters.

    Two halves that belong together become their character, and a lone one U+FFFD, as where bytes are decoded.
    They come from texts that were cut in UTF-16, from documents, and from names of files.
    """
    value: Any = data
    if isinstance(value, str) and not value.isascii():
        value = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    elif isinstance(value, Mapping):
        value = {whole(key): whole(item) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        value = type(value)(map(whole, value))
    made: _Data = value
    return made


def _checked_message(message: Any) -> Message:
    try:
        role, content = message["role"], message["content"]
    except (TypeError, KeyError, IndexError):
        role = content = None
    if not isinstance(role, str) or not isinstance(content, str):
        raise PromptError(
            f"a message must be a dict with string 'role' and 'content', got {type(message).__name__}"
        )
    checked = Message(role=whole(role), content=whole(content))
    for key in ("tool_calls", "tool_call_id", "name"):
        if message.get(key):
            checked[key] = whole(message[key])
    for call in checked.get("tool_calls", ()):
        _check_call(call)
    return checked


def _check_call(call: Any) -> None:
    try:
        fits = isinstance(call["function"]["name"], str) and isinstance(call["function"]["arguments"], dict)
    except (TypeError, KeyError):
        fits = False
    if not fits:
        raise PromptError(
            'a tool call in a message must look like {"id": ..., "type": "function", "function": '
            '{"name": ..., "arguments": {...}}}: a text and an object'
        )


def _spoken(message: Message) -> str:
    """The content, and what its calls say."""
    calls = [call["function"] for call in message.get("tool_calls", ())]
    spoken = [f"{call['name']} {json.dumps(call['arguments'], ensure_ascii=False)}" for call in calls]
    return "\n".join([message["content"], *spoken] if message["content"] else spoken)
