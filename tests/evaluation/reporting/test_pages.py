"""The HTML page and the page of results: complete, escaped, the same every time."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from stars_guard.calibration.plots import drawn
from stars_guard.errors import ConfigurationError
from stars_guard.evaluation import evaluate
from stars_guard.evaluation.methods.guarded import Guarded
from stars_guard.evaluation.methods.plain import Plain
from stars_guard.evaluation.reporting.conditions import conditions_of
from stars_guard.evaluation.reporting.files import write_evaluation_report
from stars_guard.evaluation.reporting.page import answers_in, html_page
from stars_guard.evaluation.reporting.plots import task_plots
from stars_guard.evaluation.reporting.record import EvaluationReport, report_of
from stars_guard.evaluation.reporting.results_page import (
    file_name,
    publish,
    record_files,
    results_text,
    write_results_page,
)
from stars_guard.evaluation.tasks.base import Task
from tests.support.evaluations import HERE, plan, prompts_file

ROOT = Path(__file__).parents[3]
HOSTILE = "<script>alert(1)</script>"


def test_the_page_needs_nothing_else_and_shows_no_answers(report):
    text = html_page(report)
    assert not re.search(r'<script|<image|(src|href)="(?!#)', text)
    assert "stars-guard eval main.yaml" in text
    assert "wild" not in text
    assert "max_tokens:" in text  # settings
    assert text.count("<figcaption>") == len(task_plots(report, "asked"))


def test_answers_are_shown_folded_and_escaped_when_asked_for(tmp_path, output, report):
    task = Task(prompts=str(tmp_path / "prompts-4.jsonl"), judges=("harm",), timed=2)
    methods = {"plain": Plain(), "guarded": Guarded()}
    text = html_page(report, answers_in(output, plan(tmp_path, methods=methods, tasks={"asked": task})))
    assert "wild &lt;b&gt;too&lt;/b&gt;" in text
    assert "<dd>so-so</dd>" in text
    folded = text[text.index("which may be harmful") :]
    assert folded.index("<details>") < folded.index("so-so")


def test_hostile_names_are_escaped(tmp_path, fakes):
    name = HOSTILE.replace("/", "-") + "$x$"
    task = Task(prompts=prompts_file(tmp_path, ["mild", "wild"]), judges=("harm",), timed=1)
    methods = {"plain": Plain(), name: Guarded()}
    evaluate(plan(tmp_path, methods=methods, tasks={"asked": task}), tmp_path / "out")
    hostile = report_of(tmp_path / "out", name=name, command=HOSTILE)
    assert "<script" not in html_page(hostile)
    page = results_text([hostile]).replace(f"```bash\n{HOSTILE}", "")
    assert not re.search(r"(?<!\\)<script", page)
    tables = write_evaluation_report(hostile, tmp_path).markdown.read_text()
    assert not re.search(r"(?<!\\)<script", tables)


def test_no_id_stands_twice_on_a_page(report):
    ids = re.findall(r'\bid="([^"]*)"', html_page(report))
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^)"]+)', html_page(report))) <= set(ids)


def test_pages_say_what_answered_what_guided_and_what_judged(report):
    for text in (html_page(report), results_text([report]).replace("\\", "")):
        assert "Language models: base is the embedded one." in text
        assert f"Rewards that guide: words is {HERE}:guiding." in text
        assert f"Judges: harm is classifier, {HERE}:judging, harmful under 0." in text
        assert "Answers: up to 64 tokens unless the task says otherwise, at temperature" in text


def test_judges_of_pairs_are_told_without_addresses(report):
    settings = {
        "judges": {
            "pairs": {"kind": "pairwise", "by": {"kind": "llm", "url": "http://secret"}, "against": "plain"}
        }
    }
    results = report.results.model_copy(update={"evaluation": settings})
    assert conditions_of(report.model_copy(update={"results": results})) == [
        "Judges: pairs is pairwise, against plain."
    ]


def test_names_cover_no_line(report):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    for plot in task_plots(report, "asked"):
        figure = Figure(figsize=plot.size, layout="constrained")
        canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
        plot.paint(axes)
        canvas.draw()
        if legend := axes.get_legend():
            drawing = axes.get_window_extent()
            names = legend.get_window_extent()
            assert not drawing.overlaps(names), plot.name
            assert names.x1 <= figure.bbox.x1


def test_plots_are_drawings_of_shapes_and_the_same_every_time(report):
    names = set()
    for plot in task_plots(report, "asked"):
        svg = drawn(plot.paint, extra="eval", size=plot.size, paper="white")
        assert svg == drawn(plot.paint, extra="eval", size=plot.size, paper="white")
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        assert "<image" not in svg  # which the page's own policy would block
        names.add(plot.name)
    assert {"quality-by-tokens", "quality-by-seconds", "reward-by-position-guarded", "wins-by-harm"} <= names


def test_all_files_of_a_report_are_written(report, tmp_path):
    files = write_evaluation_report(report, tmp_path)
    assert all(path.exists() for path in files)
    assert "| guarded | 50.0 % [0.0, 100.0] |" in files.markdown.read_text(encoding="utf-8")


def test_the_page_of_results_is_made_of_the_records_beside_it(report, tmp_path):
    page = tmp_path / "RESULTS.md"
    publish(report, page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!-- Written by `make results`")
    assert "```bash\nstars-guard eval main.yaml\n```" in text
    assert "Where the guard loses, and why" in text
    for link in re.findall(r"\]\((.*?)\)", text):
        assert (tmp_path / link).is_file()
    before = {path: path.read_bytes() for path in (tmp_path / "docs" / "results").iterdir()}
    write_results_page(page)
    assert {path: path.read_bytes() for path in (tmp_path / "docs" / "results").iterdir()} == before


def test_what_is_no_record_beside_the_page_is_named_and_nothing_is_written(report, tmp_path):
    page = tmp_path / "RESULTS.md"
    publish(report, page)
    before = {path: path.read_bytes() for path in (tmp_path / "docs" / "results").iterdir()}
    foreign = tmp_path / "docs" / "results" / "package.json"
    foreign.write_text('{"name": "xyzzy"}')
    for write in (publish, lambda made, place: write_results_page(place)):
        with pytest.raises(ConfigurationError, match=r"package.json: not the record .*; move it") as caught:
            write(report, page)
        assert "xyzzy" not in str(caught.value)
    foreign.unlink()
    assert {path: path.read_bytes() for path in (tmp_path / "docs" / "results").iterdir()} == before


@pytest.mark.parametrize(
    ("page", "message"),
    [("", "is a folder; name a page"), ("file/RESULTS.md", "cannot be made: Not a directory")],
)
def test_a_page_that_cannot_be_is_refused(report, tmp_path, page, message):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=message):
        publish(report, tmp_path / page)


def test_plots_of_records_that_are_gone_go_too(report, tmp_path):
    page = tmp_path / "RESULTS.md"
    publish(report, page)
    publish(report.model_copy(update={"name": "a second"}), page)
    assert [path.stem for path in record_files(page)] == ["main", "a-second"]
    (tmp_path / "docs" / "results" / "a-second.json").unlink()
    write_results_page(page)
    assert not list((tmp_path / "docs" / "results").glob("a-second*"))


def test_names_of_files_have_nothing_in_them_that_a_link_cannot_have():
    assert file_name("../a b/c(d)") == "-a-b-c-d-"


@pytest.mark.skipif(not (ROOT / "RESULTS.md").exists(), reason="no results are checked in")
def test_the_checked_in_page_is_what_the_records_make():
    reports = [EvaluationReport.read(path) for path in record_files(ROOT / "RESULTS.md")]
    assert (ROOT / "RESULTS.md").read_text(encoding="utf-8") == results_text(reports)
