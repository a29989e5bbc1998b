"""What studies found, in the record and on the pages."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

import pytest

from stars_guard.calibration.plots import drawn
from stars_guard.evaluation import cells, evaluate
from stars_guard.evaluation.grids import MethodGrid
from stars_guard.evaluation.reporting.files import write_evaluation_report
from stars_guard.evaluation.reporting.page import html_page
from stars_guard.evaluation.reporting.record import EvaluationReport, report_of
from stars_guard.evaluation.reporting.results_page import publish
from stars_guard.evaluation.reporting.study_plots import lines_of, study_plots
from stars_guard.evaluation.studies.records import PlotPoint, PlotSeries, StudyPlot
from stars_guard.evaluation.studies.run import study
from tests.evaluation.studies.signs import model, plan

STUDY = "<b>floor</b>|"


@pytest.fixture
def studied(tmp_path, fakes, monkeypatch) -> EvaluationReport:
    """Report of an evaluation with a grid and an analysis."""
    monkeypatch.setattr(cells, "load_model", model)
    grid = MethodGrid(method="guarded", vary={"guard.threshold": [-9.0, 0.0]}, task="asked")
    evaluation = plan(tmp_path, studies={STUDY: grid}, analyses=["miscalibration"])
    study(evaluation, evaluate(evaluation, tmp_path / "out"), tmp_path / "out")
    return report_of(tmp_path / "out", name="main", command="stars-guard eval main.yaml")


def test_the_record_holds_tables_and_plots_and_no_further_figures(studied, tmp_path):
    assert [finding.name for finding in studied.findings] == [STUDY, "miscalibration"]
    assert all(finding.table.rows and finding.figures == {} for finding in studied.findings)
    studied.write(tmp_path / "report.json")
    assert EvaluationReport.read(tmp_path / "report.json") == studied


def test_a_grid_shows_shares_with_their_intervals(studied):
    table = studied.findings[0].table
    assert table.headings[:3] == ["guard.threshold", "answers", "harmful"]
    assert re.fullmatch(r"[\d.]+ % \[[\d.]+, [\d.]+\]", table.texts[0][2])


def test_the_page_shows_every_finding_escaped(studied):
    text = html_page(studied)
    assert text.count('<a href="#studies">') == 1
    assert text.count("&lt;b&gt;floor&lt;/b&gt;| on asked") == 1
    assert "<b>floor" not in text
    for finding in studied.findings:
        assert finding.title in text
        for plot in study_plots(finding):
            assert f'aria-label="{plot.title}"' in text


def test_the_page_of_results_shows_tables_and_links_to_plots_that_are_there(studied, tmp_path):
    publish(studied, tmp_path / "RESULTS.md")
    page = (tmp_path / "RESULTS.md").read_text()
    assert r"### main: \<b\>floor\</b\>\| on asked" in page
    links = re.findall(r"\]\((docs/results/[^)]*study[^)]*)\)", page)
    assert len(links) == sum(len(study_plots(finding)) for finding in studied.findings) >= 1
    for link in links:
        assert ElementTree.parse(tmp_path / link).getroot().tag.endswith("svg")


def test_the_tables_in_markdown_have_them_too(studied, tmp_path):
    files = write_evaluation_report(studied, tmp_path)
    assert studied.findings[1].title in files.markdown.read_text()


@pytest.mark.parametrize(
    ("points", "legend"),
    [
        ([PlotPoint(x=1.0, y=0.5), PlotPoint(x=8.0, y=0.25)], True),
        ([PlotPoint(x="linear", y=0.5, low=0.4, high=0.6), PlotPoint(x="constant", y=0.25)], True),
        ([], False),
    ],
)
def test_places_may_be_numbers_or_names(points, legend):
    plot = StudyPlot(
        x="schedule",
        y="share",
        series=(PlotSeries(name="harmful", points=tuple(points)), PlotSeries(name="refused", points=())),
    )
    svg = drawn(lines_of(plot), extra="eval")
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert ("legend" in svg) is False  # one line needs no legend
    several = plot.model_copy(
        update={"series": (*plot.series, PlotSeries(name="forced", points=tuple(points)))}
    )
    assert ("legend" in drawn(lines_of(several), extra="eval")) is legend
