"""One rule of roles: what is asked of templates that take less than a conversation has."""

from __future__ import annotations

import json

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from stars_guard.text.turns import (
    TemplateInput,
    TemplateTurns,
    alternating,
    told_plainly,
    tool_response,
)

U, A, S = ({"role": role, "content": role[0]} for role in ("user", "assistant", "system"))
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": {"x": "é"}}}
C = {"role": "assistant", "content": "", "tool_calls": [CALL]}
T = {"role": "tool", "content": "4", "tool_call_id": "call_1", "name": "f"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def refused(message):
    raise ValueError(message)


def rendering(template):
    environment = ImmutableSandboxedEnvironment()
    environment.globals["refuse"] = refused
    compiled = environment.from_string(template)
    return lambda given: compiled.render(turns=given.turns, tools=given.tools)


def told(given):
    """All about tools in words, as models are told."""
    turns = []
    for turn in given.turns:
        calls = [json.dumps(call["function"], ensure_ascii=False) for call in turn.get("tool_calls", ())]
        words = "\n".join(filter(None, [turn["content"], *calls]))
        turns.append({"role": turn["role"], "content": words})
    tools = [{"role": "system", "content": json.dumps(list(given.tools))}] if given.tools else []
    return told_plainly(TemplateInput([*tools, *turns]))


def printed(template, turns, tools=None):
    render = rendering(template)
    fitted = TemplateTurns(render, told).fitted(TemplateInput(turns, tools))
    return None if fitted is None else render(fitted)


EACH = "{% for t in turns %}<{{ t.role }}>{{ t.content }}{% endfor %}"
NO_SYSTEM = "{% if turns[0].role == 'system' %}{{ refuse('no system') }}{% endif %}" + EACH
DROPS_SYSTEM = "{% for t in turns if t.role != 'system' %}<{{ t.role }}>{{ t.content }}{% endfor %}"
LATE_SYSTEM = (
    "{% for t in turns %}{% if t.role == 'system' and not loop.first %}{{ refuse('late') }}{% endif %}"
    "<{{ t.role }}>{{ t.content }}{% endfor %}"
)
ALTERNATES = (
    "{% for t in turns %}{% if (t.role == 'user') != (loop.index0 % 2 == 0) %}{{ refuse('turn') }}{% endif %}"
    "<{{ t.role }}>{{ t.content }}{% endfor %}"
)
KNOWS_THREE = (
    "{% for t in turns %}{% if t.role not in ('system', 'user', 'assistant') %}{{ refuse('r') }}{% endif %}"
    "<{{ t.role }}>{{ t.content }}{% endfor %}"
)
ONE_TURN = "{% if turns | length > 1 %}{{ refuse('one turn') }}{% endif %}" + EACH
PARTS = "{% for t in turns %}<{{ t.role }}>{% for part in t.content %}{{ part.text }}{% endfor %}{% endfor %}"
CALLS = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for t in turns %}<{{ t.role }}>{{ t.content }}"
    "{% for c in t.tool_calls or [] %}{{ c.id }}{{ c.function.name }}{{ c.function.arguments | tojson }}"
    "{% endfor %}{{ t.tool_call_id }}{% endfor %}"
)
SHORT_IDS = CALLS.replace("{{ c.id }}", "{% if c.id | length != 9 %}{{ refuse('id') }}{% endif %}{{ c.id }}")
TEXT_ARGUMENTS = CALLS.replace("{{ c.function.arguments | tojson }}", "{{ ':' + c.function.arguments }}")
ONE_CALL = CALLS.replace(
    "{% for c in", "{% if t.tool_calls | length > 1 %}{{ refuse('1') }}{% endif %}{% for c in"
)
CRITIC, DEVELOPER = {"role": "critic", "content": "c"}, {"role": "developer", "content": "d"}
WORDED = '{"name": "f", "arguments": {"x": "é"}}'


@pytest.mark.parametrize(
    ("template", "turns", "expected"),
    [
        (
            EACH,
            [S, U, U, A, S, A, CRITIC],
            "<system>s<user>u<user>u<assistant>a<system>s<assistant>a<critic>c",
        ),
        (NO_SYSTEM, [S, U, A, U], "<user>s\n\nu<assistant>a<user>u"),
        (NO_SYSTEM, [U, U], "<user>u<user>u"),
        (NO_SYSTEM, [S], "<user>s"),
        (NO_SYSTEM, [S, A], "<user>s<assistant>a"),
        (DROPS_SYSTEM, [S, S, U], "<user>s\n\ns\n\nu"),
        (LATE_SYSTEM, [S, U], "<system>s<user>u"),
        (LATE_SYSTEM, [U, A, S, U], "<user>u<assistant>a<user>s\n\nu"),
        (ALTERNATES, [S, U, U, A, A, U], "<user>s\n\nu\n\nu<assistant>a\n\na<user>u"),
        (ALTERNATES, [A, U], "<user><assistant>a<user>u"),
        (ALTERNATES, [U, A], "<user>u<assistant>a"),
        (KNOWS_THREE, [S, CRITIC], "<system>s<user>c"),
        (KNOWS_THREE, [DEVELOPER, U], "<system>d<user>u"),
        (NO_SYSTEM.replace("system", "developer"), [DEVELOPER, U], "<system>d<user>u"),
        (ONE_TURN, [U], "<user>u"),
        (ONE_TURN, [S, U, A], "<user>System: s\n\nUser: u\n\nAssistant: a"),
        (PARTS, [S, U], "<system>s<user>u"),
        ("{{ refuse('all') }}", [U], None),
        ("nothing of it", [U], None),
    ],
)
def test_a_template_is_given_what_it_takes(template, turns, expected):
    assert printed(template, turns) == expected


RESPONSE = tool_response("4")


@pytest.mark.parametrize(
    ("template", "turns", "expected"),
    [
        (CALLS, [U, C, T], '<user>u<assistant>call_1f{"x": "\\u00e9"}<tool>4call_1'),
        (EACH, [U, C, T], f"<user>u<assistant>{WORDED}<user>{RESPONSE}"),
        (ALTERNATES, [S, U, C, T, U], f"<user>s\n\nu<assistant>{WORDED}<user>{RESPONSE}\n\nu"),
        (SHORT_IDS, [U, C, T], '<user>u<assistant>000000001f{"x": "\\u00e9"}<tool>4000000001'),
        (TEXT_ARGUMENTS, [U, C, T], '<user>u<assistant>call_1f:{"x": "é"}<tool>4call_1'),
        (ONE_CALL, [U, {**C, "tool_calls": [CALL, CALL]}], f"<user>u<assistant>{WORDED}\n{WORDED}"),
    ],
)
def test_calls_and_what_came_back_are_given_as_it_takes_them(template, turns, expected):
    assert printed(template, turns) == expected


def test_short_ids_that_are_there_stay():
    call = {**CALL, "id": "abcDEF123"}
    turns = [U, {**C, "tool_calls": [call]}, {**T, "tool_call_id": "abcDEF123"}]
    assert "abcDEF123f" in printed(SHORT_IDS, turns)


@pytest.mark.parametrize("template", [EACH, DROPS_SYSTEM, ALTERNATES, NO_SYSTEM])
def test_tools_that_a_template_leaves_out_are_told(template):
    assert json.dumps([TOOL]) in printed(template, [U], [TOOL])


def test_tools_that_it_prints_are_left_to_it():
    assert printed(CALLS, [U], [TOOL]) == json.dumps([TOOL], sort_keys=True) + "<user>u"


def test_turns_of_an_assistant_are_joined_with_their_calls():
    calls = "{{ t.content }}{% for c in t.tool_calls or [] %}{{ c.function }}{% endfor %}"
    alternates = ALTERNATES.replace("{{ t.content }}", calls)
    assert printed(alternates, [U, A, C]) == f"<user>u<assistant>a{CALL['function']}"


def test_what_was_found_out_about_a_shape_is_remembered():
    render, calls = rendering(NO_SYSTEM), []

    def counting(given):
        calls.append(given)
        return render(given)

    turns = TemplateTurns(counting, told)
    turns.fitted(TemplateInput([S, U]))
    asked = len(calls)
    assert turns.fitted(TemplateInput([S, {**U, "content": "other"}])).turns[0]["content"] == "s\n\nother"
    assert len(calls) == asked


def test_turns_that_any_template_takes():
    given = TemplateInput([S, A, U, {"role": "tool", "content": "4"}, A, A, S])
    turns = [(turn["role"], turn["content"]) for turn in alternating(given).turns]
    assert turns == [
        ("user", "s"),
        ("assistant", "a"),
        ("user", "u\n\n4"),
        ("assistant", "a\n\na"),
        ("user", "s"),
    ]
