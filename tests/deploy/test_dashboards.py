"""The dashboard and the alerts ask for what a server really shows: every metric, label and value.

What there is comes from the ``/metrics`` of two servers, one that guards and one that only watches, after
requests of every kind.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import defaultdict
from itertools import combinations
from pathlib import Path

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from promql_parser import AggModifierType, AggregateExpr, VectorSelector

from stars_guard.algorithm.rules import Raise
from stars_guard.testing import FailingReward
from tests.support.server_client import BAD, CHAT, asking, guard, quiet, served

DEPLOY = Path(__file__).parents[2] / "deploy"
BOARD = json.loads((DEPLOY / "grafana" / "stars-guard.json").read_text("utf-8"))
ALERTS = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text("utf-8"))
SCRAPED = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
ADDED = {"job": ["guard", "engine", "reward"], "instance": []}
"""Labels that Prometheus adds when it reads."""
OWN = ("up",)
"""Metrics that Prometheus makes itself."""
GRAFANA = {"$__rate_interval": "5m", "$job": ".*", "$instance": ".*"}


def replaced(expression):
    """An expression of the dashboard as Prometheus gets it."""
    for name, value in GRAFANA.items():
        expression = expression.replace(name, value)
    return expression


def in_panels():
    return [
        pytest.param(target, id=f"{panel['title']} {target['refId']}")
        for panel in PANELS
        for target in panel["targets"]
    ]


EXPRESSIONS = [
    *(pytest.param(replaced(one.values[0]["expr"]), id=one.id) for one in in_panels()),
    *(pytest.param(rule["expr"], id=rule["alert"]) for rule in RULES),
]


async def read(client):
    """Label values by metric and label, as one server shows them."""
    text = (await client.get("/metrics")).text
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    found = {one.name: defaultdict(set) for one in samples}
    for one in samples:
        for label, value in one.labels.items():
            found[one.name][label].add(value)
    return found


async def traffic(client):
    """Requests of every kind that a client can make."""
    await client.get("/health/ready")
    await client.get("/v1/models")
    for stream in (False, True):
        await client.post(CHAT, json=asking(stream=stream))
    await client.post(CHAT, json=asking(logprobs=True))
    await client.post("/v1/completions", json={"prompt": "Once"})
    await client.post("/v1/guard/score", json={"prompt": "Hi", "response": "Hello."})


@pytest.fixture(scope="module")
def shown():
    return asyncio.run(everything())


async def everything():
    """What servers of every kind show together."""
    guards = [
        (guard(), {}),
        (guard([[BAD]], exhaustion=Raise()), {}),
        (guard(reward=FailingReward(OSError())), {}),
        (guard(), {"shadow": {"enabled": True, "compared": 1.0}}),
        (guard(reward=FailingReward(OSError())), {"shadow": {"enabled": True}}),
    ]
    together = defaultdict(lambda: defaultdict(set))
    for llm, sections in guards:
        async with served(llm, quiet(**sections)) as client:
            await traffic(client)
            recorder = client._transport.app.state.service.telemetry.recorder
            if recorder is not None:
                await recorder.settled()
            for name, labels in (await read(client)).items():
                mine = together[name]
                for label, values in labels.items():
                    mine[label] |= values
    return together


def walked(expression):
    """Every part of an expression."""
    found = []
    promql_parser.walk(promql_parser.parse(expression), found.append)
    return found


def selectors(expression):
    """The metrics that an expression reads, with their matchers."""
    return [one for one in walked(expression) if isinstance(one, VectorSelector)]


def test_a_parsed_expression_is_read_to_its_leaves():
    (one,) = selectors('sum by (le) (rate(stars_guard_reward_bucket{position="0"}[5m])) > 1')
    assert one.name == "stars_guard_reward_bucket"
    assert [(matcher.name, matcher.value) for matcher in one.matchers.matchers] == [("position", "0")]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_metric_label_and_value_exists(expression, shown):
    asked = selectors(expression)
    assert asked
    for one in asked:
        assert one.name in shown or one.name in OWN, one.name
        known = {**ADDED, **shown.get(one.name, {})}
        for matcher in one.matchers.matchers:
            assert matcher.name in known, f"{one.name} has no label {matcher.name}"
            assert wanted(matcher) <= set(known[matcher.name]), f"{one.name}: {matcher.name} is never that"


def wanted(matcher):
    """The values that a matcher speaks of; none for one that takes all."""
    if matcher.value == ".*":
        return set()
    return set(matcher.value.split("|")) if "Re" in str(matcher.op) else {matcher.value}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_grouping_is_by_labels_that_exist(expression, shown):
    labels = {label for one in selectors(expression) for label in shown.get(one.name, {})} | set(ADDED)
    for part in walked(expression):
        if isinstance(part, AggregateExpr) and part.modifier is not None:
            assert part.modifier.type == AggModifierType.By
            assert set(part.modifier.labels) <= labels


@pytest.mark.parametrize("target", in_panels())
def test_legends_name_labels_that_the_result_has(target):
    kept = re.findall(r"by \(([^)]*)\)", target["expr"])
    labels = {label.strip() for one in kept for label in one.split(",")}
    assert set(re.findall(r"{{\s*(\w+)\s*}}", target["legendFormat"])) <= labels


def test_counters_are_read_as_rates():
    for parameter in EXPRESSIONS:
        expression = parameter.values[0]
        for name in re.findall(r"\bstars_guard_\w+_(?:total|bucket|sum|count)\b", expression):
            assert re.search(rf"(?:rate|increase)\({name}\b", expression), f"{name} in {parameter.id}"


def test_everything_that_a_server_shows_is_on_the_dashboard(shown):
    families = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in shown}
    ours = {name.removesuffix("_total") for name in families if name.startswith("stars_guard_")}
    text = json.dumps(BOARD)
    assert {name for name in ours if name not in text} == set()


def test_the_dashboard_is_one():
    assert {"uid", "title", "schemaVersion", "templating", "panels", "time"} <= set(BOARD)
    assert BOARD["schemaVersion"] >= 39
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids) > 30
    titles = [panel["title"] for panel in BOARD["panels"]]
    assert len(set(titles)) == len(titles)
    variables = {one["name"]: one for one in BOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"


@pytest.mark.parametrize("name", ["job", "instance"])
def test_its_variables_are_read_from_a_metric_that_exists(name, shown):
    (variable,) = [one for one in BOARD["templating"]["list"] if one["name"] == name]
    query = variable["query"]["query"]
    selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", query).groups()
    assert label == name
    assert {one.name for one in selectors(replaced(selector))} <= set(shown)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_has_what_grafana_needs(panel):
    assert {"id", "type", "title", "gridPos", "targets", "fieldConfig", "options"} <= set(panel)
    sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    refs = [target["refId"] for target in panel["targets"]]
    assert len(set(refs)) == len(refs) > 0
    assert all('job=~"$job",instance=~"$instance"' in target["expr"] for target in panel["targets"])
    assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24


def test_no_panel_lies_on_another():
    def apart(one, other):
        a, b = one["gridPos"], other["gridPos"]
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        return beside or a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]

    assert all(apart(*pair) for pair in combinations(BOARD["panels"], 2))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule, shown):
    assert {"alert", "expr", "for", "labels", "annotations"} == set(rule)
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert {"summary", "description"} == set(rule["annotations"])
    promql_parser.parse_duration(rule["for"])
    named = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["description"]))
    read_by = {label for one in selectors(rule["expr"]) for label in shown.get(one.name, {})} | set(ADDED)
    kept = re.findall(r"by \(([^)]*)\)", rule["expr"])
    labels = {label.strip() for one in kept for label in one.split(",")} if kept else read_by
    assert named <= labels


def test_alerts_have_names_of_their_own():
    names = [rule["alert"] for rule in RULES]
    assert len(set(names)) == len(names) >= 10
    assert all(name.startswith("StarsGuard") for name in names)


def test_prometheus_reads_the_services_that_alerts_and_dashboards_name():
    assert [one["job_name"] for one in SCRAPED["scrape_configs"]] == ADDED["job"]
    assert SCRAPED["rule_files"] == [(DEPLOY / "prometheus" / "alerts.yml").name]
    targets = [one["static_configs"][0]["targets"] for one in SCRAPED["scrape_configs"]]
    assert [target.partition(":")[0] for (target,) in targets] == ADDED["job"]


def test_the_page_lists_every_metric_with_its_labels(shown):
    page = (DEPLOY.parent / "docs" / "observability.md").read_text("utf-8")
    rows = re.findall(r"^\| `(stars_guard_\w+)` \| (\w+) \| (.*?) \|", page, flags=re.M)
    listed = {name: set(re.findall(r"`(\w+)`", labels)) for name, _, labels in rows}
    kinds = {name: kind for name, kind, _ in rows}
    families = {name: re.sub(r"_(bucket|sum|count|created)$", "", name) for name in shown}
    found = defaultdict(set)
    for name, family in families.items():
        if family.startswith("stars_guard_"):
            metric = family + "_total" if f"{family}_total" in shown else family
            found[metric] |= set(shown[name]) - {"le"}
    assert listed == found
    assert {name for name in found if name.endswith("_total")} == {
        name for name, kind in kinds.items() if kind == "counter"
    }
