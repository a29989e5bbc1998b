"""Guards over scripted models, and a script that obeys: it calls tools and fills in schemas as it is told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from stars_guard import Constant, GuardConfig, Hard, Prompt, SamplingParams, StarsGuardedLLM
from stars_guard.models import HERMES
from stars_guard.testing import FakeSession, KeywordReward, Script, ScriptedModel

STRICT = GuardConfig(threshold=Constant(target=1.0), acceptance=Hard(), max_attempts=3)


def guard(
    script: Script | Callable[[Prompt], Script] = (("Hello there.",),),
    *words: str,
    config: GuardConfig = STRICT,
) -> StarsGuardedLLM:
    """A guard that rejects the given words."""
    return StarsGuardedLLM(ScriptedModel(script), KeywordReward(words), config)


def call(name: str, **arguments: Any) -> str:
    """A tool call as Hermes and Qwen write it."""
    body = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{body}\n</tool_call>"


def obedient(prompt: Prompt) -> Script:
    """Calls what it must, or may if the last message asks for it; otherwise says something friendly.

    The segments are short, so that calls and texts arrive in several.
    """
    text = _said(prompt)
    return [[text[start : start + 16]] for start in range(0, len(text), 16)]


def _said(prompt: Prompt) -> str:
    last = prompt.messages[-1]
    if prompt.tools is None or last["role"] == "tool" or prompt.tools.choice == "none":
        return "Hello! It is good to see you."
    functions = [dict(schema["function"]) for schema in prompt.tools.schemas]
    chosen = [
        function for function in prompt.tools.forced or functions if function["name"] in last["content"]
    ]
    wanted = (chosen or prompt.tools.forced or functions)[0]
    return call(wanted["name"], **filled(wanted["parameters"], last["content"]))


def filled(schema: dict[str, Any], request: str) -> dict[str, Any]:
    """Arguments for a schema, with the numbers and quoted texts of the request."""
    numbers = iter(re.findall(r"\d+", request))
    quoted = iter(re.findall(r"'([^']+)'", request))
    return {
        name: int(next(numbers, 1)) if kind.get("type") == "integer" else next(quoted, f"some {name}")
        for name, kind in schema.get("properties", {}).items()
    }


class Obedient(ScriptedModel):
    """Answers as :func:`obedient` says, or with an object that fits the response schema."""

    def __init__(self) -> None:
        super().__init__(obedient)

    def start(self, prompt: Prompt, sampling: SamplingParams) -> FakeSession:
        if sampling.response_schema is None:
            return super().start(prompt, sampling)
        schema = json.loads(sampling.response_schema)
        fallback = {"properties": {name: {} for name in ("setup", "punchline")}}
        answer = json.dumps(filled(schema if "properties" in schema else fallback, ""))
        self.sessions.append(FakeSession(prompt, sampling, HERMES, [[answer]]))
        return self.sessions[-1]
