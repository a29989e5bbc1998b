"""How a result is shown: its text shortened and escaped, what was forced marked, nothing of the trace."""

from __future__ import annotations

import pytest

from stars_guard.algorithm.config import GuardConfig
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.result import ForcedText
from stars_guard.testing import KeywordReward, ScriptedModel
from stars_guard.types import ToolCall

FACTS = "stop_reason=eos, tokens={tokens}, segments=1, attempts=2, forced=0"


def answered(text: str):
    llm = StarsGuardedLLM(
        ScriptedModel([["secret poison", text]]), KeywordReward(["poison"]), GuardConfig(threshold=1.0)
    )
    return llm.generate("Question?")


@pytest.mark.parametrize("text", ["Try tea.", "y" * 61])
def test_a_result_is_one_line(text):
    result = answered(text)
    shown = text if len(text) < 61 else "y" * 60 + "…"
    facts = FACTS.format(tokens=result.usage.kept_tokens)
    assert repr(result) == str(result) == f"GuardedResult({shown!r}, {facts})"
    assert repr(result.trace) == f"Trace({result.trace.run_id!r}, segments=1, attempts=2, ended='eos')"
    assert "secret" not in repr(result)
    assert "ended=None" in repr(result.trace.model_copy(update={"stop_reason": None}))


def test_a_notebook_shows_text_escaped_and_forced_text_marked():
    text = "<b>safe</b> & forced"
    calls = tuple(ToolCall(name, "look", {"at": f"<{name}>"}) for name in ("a", "b"))
    changes = {
        "reasoning": "think <i>",
        "tool_calls": calls,
        "forced_text": ForcedText(answer=((14, 20),), reasoning=((0, 5),), calls=("b",)),
    }
    html = answered(text).model_copy(update=changes)._repr_html_()
    mark = '<mark title="forced: no candidate passed">'
    assert f"&lt;b&gt;safe&lt;/b&gt; &amp; {mark}forced</mark></div>" in html
    assert f"{mark}think</mark> &lt;i&gt;</div></details>" in html
    assert "<div><code>look({&quot;at&quot;: &quot;&lt;a&gt;&quot;})</code></div>" in html
    assert f"<div>{mark}<code>look({{&quot;at&quot;: &quot;&lt;b&gt;&quot;}})</code></mark></div>" in html
    assert "stop_reason=eos · tokens=" in html
    assert "attempts=2 · forced=0 · tool_calls=2" in html
    plain = answered("Try tea.")._repr_html_()
    assert "<details>" not in plain
    assert "<mark" not in plain
