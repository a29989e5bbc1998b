"""The calibration report: one page that needs nothing else, with all that was found."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from stars_guard.algorithm.config import GuardConfig
from stars_guard.algorithm.rules import Constant, Hard, LinearInTokens, Soft
from stars_guard.calibration.description import Estimate
from stars_guard.calibration.labelled import RiskGuarantee
from stars_guard.calibration.plots import attempts_at_prefixes
from stars_guard.calibration.report import estimate, rows, write_report
from stars_guard.calibration.shown import UNDER_TARGET
from stars_guard.calibration.statistics import describe
from stars_guard.errors import MissingExtraError
from tests.support.calibration_answers import answers, noise, random_walk

# Many draws; what they run is covered elsewhere.
pytestmark = [pytest.mark.slow, pytest.mark.no_cover]

GOOD = answers(random_walk, each=2)
ABOUT = describe(GOOD)
CONFIG = GuardConfig(threshold=Constant(target=0.25), acceptance=Soft(beta=0.5))


def page(path, drawn=GOOD, about=ABOUT, fitted=None, guarantee=None):
    write_report(path, drawn, about, {"settings": CONFIG} if fitted is None else fitted, guarantee)
    return path.read_text(encoding="utf-8")


def test_the_page_says_all_and_needs_nothing_else(tmp_path):
    text = page(tmp_path / "report.html", fitted={"reward model": "a <b>old one", "settings": CONFIG})
    assert "Nothing speaks against this reward" in text
    assert "a &lt;b&gt;old one" in text
    assert "120 answers to 60 prompts" in text
    assert not re.search(r"<script|(src|href)=\"(?!#)", text)
    assert "constant, target 0.25" in text
    table = text[text.rindex("<tbody>") :]
    assert table.count("<tr>") == len(ABOUT.segments)
    assert estimate(ABOUT.segments[0].spearman) in table


def test_the_page_says_how_often_a_segment_is_shown(tmp_path):
    text = page(tmp_path / "report.html")
    table = text[text.index('<table id="shown">') : text.index("</table>")]
    assert "after up to 20 tries" in table
    assert table.count("<tr>") == 1 + len(UNDER_TARGET)
    assert re.search(r"<td>-0\.75</td><td>1</td><td>14 %</td>\s*<td>95 %</td>", table)
    assert '<table id="shown">' not in page(tmp_path / "other.html", fitted={"reward": "no settings"})


def test_each_figure_is_drawn_with_its_words(tmp_path):
    text = page(tmp_path / "report.html")
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(drawings) == text.count("<figcaption>") == 4
    for one in drawings:
        paths = ElementTree.fromstring(one).iter("{http://www.w3.org/2000/svg}path")
        assert sum(1 for _ in paths) > 20


def test_a_line_at_a_schedules_target_is_not_taken_for_its_rate(tmp_path):
    ramp = CONFIG.changed(threshold=LinearInTokens(target=0.25))
    same, other = page(tmp_path / "a.html"), page(tmp_path / "b.html", fitted={"settings": ramp})
    assert "The vertical line is the target chosen." in same
    assert "its own acceptance rate is another" in other
    assert "its own acceptance rate is another" not in same


def test_the_same_answers_give_the_same_page(tmp_path):
    assert page(tmp_path / "a.html") == page(tmp_path / "b.html")


def test_doubts_come_first(tmp_path):
    drawn = answers(noise)
    text = page(tmp_path / "report.html", drawn, describe(drawn))
    assert text.index("Before you rely on this reward") < text.index("Settings chosen")
    assert "do not predict the final reward" in text


def test_one_answer_of_one_segment_and_no_settings_can_be_reported(tmp_path):
    drawn = answers(noise, prompts=1, segments=1)
    text = page(tmp_path / "report.html", drawn, describe(drawn), fitted={})
    assert "1 answers to 1 prompts" in text
    assert "<dt>none</dt>" in text


def test_a_guarantee_is_stated_with_its_assumptions(tmp_path):
    found = RiskGuarantee(
        threshold=0.5,
        acceptance=Hard(),
        alpha=0.1,
        n=40,
        empirical_risk=0.04,
        bound=0.063,
        guarantee="at most 10 %",
        assumptions=("drawn alike", "judged alike"),
        safe=20,
        safe_accepted=0.9,
    )
    text = page(tmp_path / "report.html", guarantee=found)
    assert "at most 10 %" in text
    assert "drawn alike judged alike" in text


def test_rows_are_names_and_text():
    shown = dict(rows({"a_b": None, "count": 3, "share": 0.123456789, "each": {"x": 1.5}}))
    assert shown == {"count": "3", "share": "0.123457", "each": "x 1.5"}
    assert dict(rows({"settings": CONFIG}))["max attempts"] == "20"


def test_estimates_are_short():
    assert estimate(Estimate(value=None)) == "\u2013"
    assert estimate(Estimate(value=0.514)) == "0.51"
    assert estimate(Estimate(value=0.514, low=0.32, high=0.66)) == "0.51 [0.32, 0.66]"


def test_expected_attempts_are_the_geometric_sum():
    prefixes = [[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]
    assert attempts_at_prefixes(prefixes, 0.0, Hard(), 4) == [1.0, 1.875, 4.0]
    soft = attempts_at_prefixes([[0.0]], 1.0, Soft(beta=1.0), 3)
    assert soft == pytest.approx([sum((1 - np.exp(-1)) ** n for n in range(3))])


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
def test_what_is_missing_is_named(monkeypatch, tmp_path, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"stars-guard\[calibrate\]"):
        page(tmp_path / "report.html")
