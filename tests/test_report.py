"""The report: numbers are right, and model output stays text."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from stars_guard import report
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Constant, Last
from stars_guard.algorithm.segments import FixedLength
from stars_guard.errors import MissingExtraError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.testing import KeywordReward, ScriptedModel
from tests.support.guards import guarded, hard

HOSTILE = "<script>alert(1)</script>"


def made(script: list[list[str]], prompt: str = "Hi", attempts: int = 3) -> report.DemoReport:
    config = hard(exhaustion=Last(), floor=-1.0, max_attempts=attempts)
    llm = guarded(script, KeywordReward(["poison"]), config, sampling=SamplingParams(seed=1))
    return report.DemoReport(
        model=llm.model.name,
        reward=llm.reward.name,
        config=llm.config,
        sampling=llm.sampling,
        comparisons=[report.compare(llm, prompt)],
    )


def test_the_unguarded_answer_takes_every_first_candidate() -> None:
    (one,) = made([["poison ", "good "], ["poison"], ["poison", "poison", "end"]]).comparisons
    assert one.unguarded.result.text == "poison poisonpoison"
    assert one.unguarded.result.trace.acceptance_rate == 1.0
    assert one.guarded.result.text.startswith("good ")
    assert (one.unguarded.reward, one.guarded.reward) == (-1.0, -1.0)


def test_unguarded_keeps_the_segments() -> None:
    config = GuardConfig(threshold=Constant(target=1.0), segments=FixedLength(max_tokens=5))
    assert report.unguarded(config).segments == FixedLength(max_tokens=5)


def test_whole_answers_are_scored_as_finished_and_released() -> None:
    reward = KeywordReward([])
    llm = StarsGuardedLLM(ScriptedModel([["one"]]), reward, GuardConfig(threshold=Constant(target=1.0)))
    report.compare(llm, "Hi")
    whole = [one for one in reward.seen if one.run_id.startswith("report-")]
    assert [(one.response, one.finished) for one in whole] == [("one", True)] * 2
    assert {one.run_id for one in whole} <= set(reward.released)


def test_strips_place_rewards_and_thresholds() -> None:
    (one,) = made([["poison", "poison", "poison"]]).comparisons
    (strip,) = report.strips(one.guarded.result.trace)
    assert (strip.verdict, strip.width) == ("forced", 3 * report.STEP)
    assert [mark.outcome for mark in strip.marks] == ["rejected", "rejected", "forced"]
    assert strip.marks[0].threshold_y == report.MARGIN
    assert strip.marks[0].reward_y == report.HEIGHT - report.MARGIN
    assert strip.marks[1].title == (
        "segment 1, attempt 2: reward -1.0000, threshold 1.0000, probability 0.0000, rejected"
    )


def test_equal_numbers_make_a_flat_strip() -> None:
    (one,) = made([["good"]]).comparisons
    (strip,) = report.strips(one.guarded.result.trace)
    assert strip.marks[0].reward_y == strip.marks[0].threshold_y == report.HEIGHT / 2


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [name for name, _ in attrs]


def test_model_output_and_prompts_are_escaped() -> None:
    page = report.render(made([[HOSTILE]], prompt=f'"><img src=x onerror=alert(1)>{HOSTILE}'))
    tags = Tags(page)
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4
    assert not {"script", "img"} & set(tags.names)
    assert not [name for name in tags.attributes if name.startswith("on") or name == "src"]


def test_the_page_needs_nothing_else() -> None:
    page = report.render(made([["good"]]))
    assert "http://" not in page
    assert "https://" not in page
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page
    assert "accepts the first\ncandidate, whatever its reward" in page


def test_files_and_json_round_trip(tmp_path: Path) -> None:
    one = made([["poison", "good"]])
    files = report.write(one, tmp_path)
    assert report.DemoReport.model_validate_json(files.json.read_text(encoding="utf-8")) == one
    assert files.html.read_text(encoding="utf-8") == report.render(one)


def test_folders_are_shown_by_their_last_part() -> None:
    assert report.short_name(str(Path("models", "chat").absolute())) == "chat"
    assert report.short_name("organisation/chat") == "organisation/chat"


def test_missing_jinja_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match="transformers"):
        report.render(made([["good"]]))
