"""Conversations in a form that a chat template prints whole: one rule of roles, for models and rewards.

Templates differ in what they take: some raise at a system turn, at tools or at two turns of one role, and
some leave them out without a word. So a template is tried on a made-up conversation of the same shape, whose
texts must come out again. Where one does not, the conversation is reshaped as little as will do: every step
that the template can do without is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from typing import Any, TypeAlias

TemplateTurn: TypeAlias = dict[str, Any]
"""A message as a template is given it."""


@dataclass(frozen=True, slots=True)
class TemplateInput:
    """What a template is given: turns, and the schemas of tools."""

    turns: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] | None = None


Render: TypeAlias = Callable[[TemplateInput], str]
"""Prints a conversation as a template does, and raises whatever the template raises."""
Step: TypeAlias = Callable[[TemplateInput], TemplateInput]
"""One way to ask less of a template."""

_BLANK_LINE = "\n\n"
_SHORT_ID = re.compile(r"[a-zA-Z0-9]{9}")
_REMEMBERED = 64
"""Shapes of conversations whose steps are remembered for a template."""


class TemplateTurns:
    """The form in which one chat template prints all of a conversation.

    Args:
        render: prints by the template.
        told: says in words what tools there are, what was called and what came back.
    """

    def __init__(self, render: Render, told: Step) -> None:
        self._render = render
        self._applied: tuple[Step, ...] = (
            told,
            with_json_arguments,
            with_short_ids,
            with_known_roles,
            with_merged_system,
            with_joined_roles,
            with_user_first,
            as_script,
            in_parts,
        )
        drastic_first = (
            *(as_script, with_user_first, told, with_merged_system, with_joined_roles),
            *(with_known_roles, with_short_ids, with_json_arguments, in_parts),
        )
        self._left_out = drastic_first
        self._steps = lru_cache(_REMEMBERED)(self._needed)

    def fitted(self, conversation: TemplateInput) -> TemplateInput | None:
        """The conversation, reshaped as little as will do; None if the template prints no form of it."""
        steps = self._steps(_shape(conversation))
        return None if steps is None else _after(steps, conversation)

    def _needed(self, shape: _Shape) -> tuple[Step, ...] | None:
        """The steps that a conversation of this shape needs."""
        sample, texts = _sample(shape)

        def prints(steps: Sequence[Step]) -> bool:
            printed = None
            with suppress(Exception):  # whatever a template raises, it does not print this
                printed = self._render(_after(steps, sample))
            return printed is not None and all(text in printed for text in texts)

        if prints(()):
            return ()
        whole = (self._applied, self._applied[:-1])  # some take parts only, others texts only
        steps = next((steps for steps in whole if prints(steps)), None)
        for step in self._left_out if steps else ():
            fewer = tuple(other for other in steps or () if other is not step)
            steps = fewer if prints(fewer) else steps
        return steps


def alternating(conversation: TemplateInput) -> TemplateInput:
    """The turns in the form that any chat template takes: user and assistant in turn, the user first.

    Who is no assistant is a user. Calls are said in words already.
    """
    turns = [{**turn, "role": "user"} if turn["role"] == "tool" else turn for turn in conversation.turns]
    steps = (with_known_roles, with_merged_system, with_joined_roles, with_user_first)
    return _after(steps, TemplateInput(turns))


def told_plainly(conversation: TemplateInput) -> TemplateInput:
    """Tool turns as turns of the user, for turns that say calls in words already."""
    turns = [
        {"role": "user", "content": tool_response(turn["content"])} if turn["role"] == "tool" else turn
        for turn in conversation.turns
    ]
    return TemplateInput(turns)


def tool_response(text: str) -> str:
    """What a tool answered, as a user may say it."""
    return f"<tool_response>\n{text}\n</tool_response>"


def with_json_arguments(conversation: TemplateInput) -> TemplateInput:
    """Arguments of calls as JSON texts instead of objects."""

    def worded(call: Mapping[str, Any]) -> Mapping[str, Any]:
        function = call["function"]
        text = json.dumps(function["arguments"], ensure_ascii=False)
        return {**call, "function": {**function, "arguments": text}}

    return _with_calls(conversation, worded)


def with_short_ids(conversation: TemplateInput) -> TemplateInput:
    """Ids of calls as nine digits, which some templates ask for."""
    numbers = count(1)
    ids: dict[str, str] = {}

    def short(call_id: str) -> str:
        return ids.setdefault(call_id, f"{next(numbers):09d}")

    renamed = _with_calls(conversation, lambda call: {**call, "id": short(call["id"])})
    turns = [
        {**turn, "tool_call_id": short(turn["tool_call_id"])} if turn.get("tool_call_id") else turn
        for turn in renamed.turns
    ]
    return replace(renamed, turns=turns)


def with_known_roles(conversation: TemplateInput) -> TemplateInput:
    """Other roles as those that every template knows: a developer is the system, anybody else a user."""

    def known(role: str) -> str:
        return role if role in ("system", "user", "assistant", "tool") else _OTHER_NAMES.get(role, "user")

    return replace(conversation, turns=[{**turn, "role": known(turn["role"])} for turn in conversation.turns])


_OTHER_NAMES = {"developer": "system", "model": "assistant"}


def with_merged_system(conversation: TemplateInput) -> TemplateInput:
    """System turns as the beginning of the next turn of the user, or as a turn of the user."""
    turns: list[Mapping[str, Any]] = []
    held: list[str] = []
    for turn in conversation.turns:
        if turn["role"] == "system":
            held.append(turn["content"])
            continue
        if held and turn["role"] == "user":
            turn = {**turn, "content": _BLANK_LINE.join([*held, turn["content"]])}
        elif held:
            turns.append({"role": "user", "content": _BLANK_LINE.join(held)})
        held = []
        turns.append(turn)
    if held:
        turns.append({"role": "user", "content": _BLANK_LINE.join(held)})
    return replace(conversation, turns=turns)


def with_joined_roles(conversation: TemplateInput) -> TemplateInput:
    """Turns of one role that follow each other as one turn, but for those of tools."""
    turns: list[Mapping[str, Any]] = []
    for turn in conversation.turns:
        if turns and turn["role"] == turns[-1]["role"] != "tool":
            turns[-1] = _joined(turns[-1], turn)
        else:
            turns.append(turn)
    return replace(conversation, turns=turns)


def with_user_first(conversation: TemplateInput) -> TemplateInput:
    """A conversation that the user begins, with an empty turn if need be."""
    turns = list(conversation.turns)
    first = next((place for place, turn in enumerate(turns) if turn["role"] != "system"), len(turns))
    if first == len(turns) or turns[first]["role"] != "user":
        turns.insert(first, {"role": "user", "content": ""})
    return replace(conversation, turns=turns)


def as_script(conversation: TemplateInput) -> TemplateInput:
    """All turns as one turn of the user, each with who speaks."""
    turns = conversation.turns
    if len(turns) == 1 and turns[0]["role"] == "user":
        return conversation
    script = _BLANK_LINE.join(f"{turn['role'].capitalize()}: {turn['content']}" for turn in turns)
    return replace(conversation, turns=[{"role": "user", "content": script}])


def in_parts(conversation: TemplateInput) -> TemplateInput:
    """The content of each turn as a list of one part."""
    turns = [{**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in conversation.turns]
    return replace(conversation, turns=turns)


def _after(steps: Iterable[Step], conversation: TemplateInput) -> TemplateInput:
    for step in steps:
        conversation = step(conversation)
    return conversation


def _with_calls(
    conversation: TemplateInput, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> TemplateInput:
    turns = [
        {**turn, "tool_calls": [change(call) for call in turn["tool_calls"]]}
        if turn.get("tool_calls")
        else turn
        for turn in conversation.turns
    ]
    return replace(conversation, turns=turns)


def _joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> TemplateTurn:
    calls = [*first.get("tool_calls", ()), *second.get("tool_calls", ())]
    content = _BLANK_LINE.join(filter(None, [first["content"], second["content"]]))
    return {**first, "content": content, **({"tool_calls": calls} if calls else {})}


@dataclass(frozen=True, slots=True)
class _TurnShape:
    role: str
    content: bool
    name: bool
    calls: int
    called: bool
    """Whether it answers a call by its id."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """What of a conversation a template may mind, but for its texts."""

    turns: tuple[_TurnShape, ...]
    tools: bool
    short_ids: bool


def _shape(conversation: TemplateInput) -> _Shape:
    turns = tuple(
        _TurnShape(
            turn["role"],
            bool(turn["content"]),
            bool(turn.get("name")),
            len(turn.get("tool_calls", ())),
            bool(turn.get("tool_call_id")),
        )
        for turn in conversation.turns
    )
    ids = [call["id"] for turn in conversation.turns for call in turn.get("tool_calls", ())]
    return _Shape(turns, bool(conversation.tools), all(_SHORT_ID.fullmatch(call_id) for call_id in ids))


def _sample(shape: _Shape) -> tuple[TemplateInput, list[str]]:
    """A conversation of this shape, and the texts in it that must be printed."""
    texts: list[str] = []
    numbers = count()

    def text() -> str:
        texts.append(f"zq{next(numbers):05d}zq")
        return texts[-1]

    def call(number: int) -> TemplateTurn:
        function = {"name": text(), "arguments": {"argument": text()}}
        return {"id": _sample_id(number, short=shape.short_ids), "type": "function", "function": function}

    turns: list[TemplateTurn] = []
    calls, answers = count(), count()
    for turn in shape.turns:
        sample: TemplateTurn = {"role": turn.role, "content": ""}
        if turn.calls:
            # Many templates print no content beside calls, which is no more than a remark on them.
            sample |= {
                "content": "so" if turn.content else "",
                "tool_calls": [call(next(calls)) for _ in range(turn.calls)],
            }
        elif turn.content:
            sample["content"] = text()
        if turn.name:
            sample["name"] = "name"
        if turn.called:
            sample["tool_call_id"] = _sample_id(next(answers), short=shape.short_ids)
        turns.append(sample)
    return TemplateInput(turns, [_sample_tool(text())] if shape.tools else None), texts


def _sample_id(number: int, *, short: bool) -> str:
    return f"{number:09d}" if short else f"call_{number:012d}"


def _sample_tool(name: str) -> Mapping[str, Any]:
    argument = {"type": "string", "description": "A text."}
    parameters = {"type": "object", "properties": {"argument": argument}, "required": ["argument"]}
    return {
        "type": "function",
        "function": {"name": name, "description": "A tool.", "parameters": parameters},
    }
