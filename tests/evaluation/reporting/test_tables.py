"""Tables in Markdown and CSV, with intervals."""

from __future__ import annotations

import csv
from io import StringIO

import pytest

from stars_guard.evaluation.methods.guarded import Guarded
from stars_guard.evaluation.methods.plain import Plain
from stars_guard.evaluation.reporting.power import power_table
from stars_guard.evaluation.reporting.sections import equal_costs, task_tables
from stars_guard.evaluation.reporting.tables import (
    as_csv,
    difference_table,
    figures_of,
    method_table,
    quality_columns,
)
from stars_guard.evaluation.statistics.estimates import MeanEstimate
from stars_guard.evaluation.statistics.wins import win_rate
from stars_guard.evaluation.tables import ReportTable, as_markdown, markdown_text, shown

QUARTER = MeanEstimate(value=0.25, low=0.125, high=0.375, prompts=8)


@pytest.mark.parametrize(
    ("entry", "unit", "text"),
    [
        (QUARTER, "share", "25.0 % [12.5, 37.5]"),
        (QUARTER, "number", "0.25 [0.12, 0.38]"),
        (MeanEstimate(value=123.4, low=99.5, high=130, prompts=8), "number", "123 [99.5, 130]"),
        (MeanEstimate(value=2.5, low=2.5, high=2.5, prompts=1), "seconds", "2.50 (1 prompt)"),
        (MeanEstimate(value=0, low=0, high=0.975, prompts=1), "share", "0.0 % [0.0, 97.5]"),
        (None, "share", "\u2013"),
        ("hard", "text", "hard"),
        (7, "count", "7"),
    ],
)
def test_figures_are_shown_with_their_intervals(entry, unit, text):
    assert shown(entry, unit) == text


def test_names_cannot_end_a_cell_or_begin_markup():
    table = ReportTable(columns=(("method", "text"),), rows=(("a|b <script>\n`x`",),), note="*n*")
    assert as_markdown(table) == "| method |\n| --- |\n| a\\|b \\<script\\> \\`x\\` |\n\n\\*n\\*\n"


def test_names_cannot_be_links_or_load_images():
    assert markdown_text("![x](http://example.org/x.png) 1 [0, 2]") == (
        "![x]\\(http://example.org/x.png) 1 [0, 2]"
    )


def test_every_cost_stands_beside_every_quality(report):
    tables = dict(task_tables(report, "asked"))
    headings = " ".join(heading for table in tables.values() for heading in table.headings)
    for cost in (
        "proposed tokens",
        "kept tokens",
        "rejected tokens",
        "hopeless tokens",
        "unseen tokens",
        "ahead wasted tokens",
        "reward calls",
        "forward passes",
        "forced",
        "refused",
        "seconds",
        "to first text",
        "longest wait",
        "took every attempt",
    ):
        assert cost in headings
    quality = tables["All methods"]
    guarded = next(row for row in quality.texts if row[0] == "guarded")
    assert guarded[1] == "50.0 % [0.0, 100.0]"
    counted = [row[0] for row in tables["What was counted"].rows]
    assert counted == ["plain", "guarded", "bon-tokens", "bon-seconds"]


def test_difficulty_is_told_with_rejections_and_passes(report):
    table = dict(task_tables(report, "asked"))["By difficulty"]
    rows = {row[:2]: dict(zip(table.headings, row, strict=True)) for row in table.rows}
    hard, easy = rows["guarded", "hardest"], rows["guarded", "easiest"]
    assert (hard["rejected"].value, easy["rejected"].value) == (pytest.approx(2 / 3, rel=1e-4), 0)
    assert hard["forward passes"].value > easy["forward passes"].value > 0
    assert "medians" in table.note


def test_worst_cases_say_where_answers_stall_and_what_ends_it(report):
    table = dict(task_tables(report, "asked"))["Worst cases"]
    guarded = next(dict(zip(table.headings, row, strict=True)) for row in table.rows if row[0] == "guarded")
    assert guarded["longest wait for the first segment"].value == 1
    assert guarded["for the second"].value == guarded["for a later one"].value == 0
    assert guarded["longest wait ended accepted"].value == 1
    assert guarded["ended forced"].value == guarded["ended refused"].value == 0


def test_how_often_the_order_of_a_pair_decided_nothing_is_shown(report):
    def with_wins(item, **wins):
        return item._replace(result=item.result.model_copy(update={"wins": wins}))

    both, once = (win_rate({"a": [verdicts]}, seed=0) for verdicts in ([1.0, 1.0], [1.0]))
    plain, guarded, *_ = figures_of(report, "asked")
    rows = [plain, with_wins(guarded, llm=both, reward=once)]
    table = method_table(rows, quality_columns(rows))
    column = table.headings.index("orders agree by llm")
    assert [row[column] for row in table.rows] == [None, both.orders_agree]
    assert "orders agree by reward" not in table.headings  # it has no orders


def test_a_scorer_that_judges_with_two_cuts_has_its_values_shown_once(report):
    def judged_twice(item):
        copied = {
            field: figures | {"strict": figures["harm"]}
            for field in ("harmful", "rewards")
            if (figures := getattr(item.result, field))
        }
        return item._replace(result=item.result.model_copy(update=copied))

    rows = [judged_twice(item) for item in figures_of(report, "asked")]
    headings = [column.name for column in quality_columns(rows)]
    assert {"harmful by harm", "harmful by strict", "value by harm"} <= set(headings)
    assert "value by strict" not in headings


def test_the_title_of_the_first_table_says_what_is_in_it(report, reported):
    first = task_tables(report, "asked")[0]
    assert first.title == "guarded, at equal tokens and at equal wall time"
    assert "Equal costs are those of the whole N that is nearest" in first.table.note
    alone = reported(["mild", "wild"], methods={"plain": Plain(), "guarded": Guarded()})
    first = task_tables(alone, "asked")[0]
    assert first.title == "guarded, beside plain decoding"
    assert "Equal costs" not in first.table.note


def test_columns_are_explained_with_their_units(reported):
    measured = reported(["mild", "wild"], measures=("length", "distinct_2"))
    note = dict(task_tables(measured, "asked"))["All methods"].note
    assert "length: tokens of an answer" in note
    assert "Value: what the judge scores, on its own scale" in note
    assert "likelihood" not in note


def test_equal_costs_are_named(report):
    table = equal_costs(report, "asked", "guarded")
    assert [row[0] for row in table.rows] == [
        "plain",
        "guarded",
        "bon-tokens, at equal tokens",
        "bon-seconds, at equal wall time",
    ]
    assert {"harmful by harm", "value by harm", "refused", "to first text, s"} <= set(table.headings)


def test_the_csv_has_every_figure_of_every_method_with_its_interval(report):
    rows = list(csv.DictReader(StringIO(as_csv(report))))
    assert {row["method"] for row in rows} == {"plain", "guarded", "bon-tokens", "bon-seconds"}
    harm = next(row for row in rows if (row["method"], row["figure"]) == ("guarded", "harmful by harm"))
    assert (harm["value"], harm["low"], harm["high"], harm["prompts"]) == ("0.5", "0.0", "1.0", "4")


def test_differences_have_their_verdict(report):
    rows = {row[1:3]: row for row in difference_table(report, "asked").rows}
    assert rows["plain", "harmful by harm"][3:] == ("0.0 % [0.0, 0.0]", "1.000", "undecided")


def test_prompts_that_two_points_need_are_unknown_where_nothing_differs(report):
    rows = {row[1:3]: row[3:] for row in power_table(report, "asked").rows}
    assert rows["plain", "refused"] == (4, None)
