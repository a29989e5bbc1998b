"""The adapter of an imaginary framework, whose turns are (who, what) or (who, what, calls)."""

from collections.abc import Iterator, Sequence
from typing import Any

from stars_guard import GuardedResult, Judged, Message, Piece, Prompt
from stars_guard import adapters as kit

ROLES = {"human": "user", "bot": "assistant"}
OPTIONS = frozenset({"tools", "tool_choice"})


class ThirdModel:
    """A guarded model, as the framework wants one."""

    def __init__(self, **settings: Any) -> None:
        self.settings = kit.AdapterSettings(**settings)

    def ask(self, turns: Sequence[Any], **options: Any) -> dict[str, Any]:
        call = self._call(turns, options)
        return answer(call, self.settings.loaded(call.model).generate(call.prompt, **call.overrides))

    async def aask(self, turns: Sequence[Any], **options: Any) -> dict[str, Any]:
        call = self._call(turns, options)
        guard = await self.settings.aloaded(call.model)
        return answer(call, await guard.agenerate(call.prompt, **call.overrides))

    def stream(self, turns: Sequence[Any], **options: Any) -> Iterator[tuple[str, Any]]:
        call = self._call(turns, options)
        with self.settings.loaded(call.model).stream(call.prompt, **call.overrides) as stream:
            for event in stream.events():
                if isinstance(event, Judged):
                    yield "decision", kit.decision_payload(event)
                elif isinstance(event, Piece):
                    yield "text", event.text
            yield "answer", answer(call, stream.result)

    def _call(self, turns: Sequence[Any], options: dict[str, Any]) -> kit.GuardedCall:
        tools = kit.offered_tools(options.get("tools"), options.get("tool_choice"))
        return self.settings.call(Prompt.of(kit.merged_turns(map(message, turns)), tools), options, OPTIONS)


def message(spoken: Sequence[Any]) -> Message:
    who, what, *calls = spoken
    functions = [(call["id"], call["function"]) for made in calls for call in made]
    past = [kit.past_tool_call(key, function["name"], function["arguments"]) for key, function in functions]
    turn = Message(role=ROLES[who], content=what)
    return Message(**turn, tool_calls=past) if past else turn


def answer(call: kit.GuardedCall, result: GuardedResult) -> dict[str, Any]:
    return {
        "text": result.text,
        "calls": [kit.openai_tool_call(made) for made in result.tool_calls],
        "finish": kit.finish_word(result),
        "usage": kit.token_counts(result),
        "guard": kit.guard_summary(result, include_trace=call.include_trace),
    }
