"""Alert rules and dashboard: right by promtool, about metrics that exist, each alert with its place in the handbook."""

import json
import re
from pathlib import Path

import pytest
import yaml

from daemon.ops.metrics import Metrics
from tests.channels import CHANNELS
from tests.ops import promtool
from tests.ops.named import ALERTS, ALERTS_TEST, DASHBOARD, alerts, dashboard_queries, named, panels
from tests.ops.scrape import parse

HANDBOOK = Path(__file__).parents[2] / "docs" / "operations.md"


def test_the_rules_are_right_by_promtool() -> None:
    promtool.run("check", "rules", ALERTS)


def test_the_rules_do_what_their_tests_say() -> None:
    promtool.run("test", "rules", ALERTS_TEST)


def test_every_alert_is_tried_both_ways() -> None:
    tried: dict[str, set[bool]] = {name: set() for name in alerts()}
    for test in yaml.safe_load(ALERTS_TEST.read_text("utf-8"))["tests"]:
        for case in test["alert_rule_test"]:
            tried[case["alertname"]].add(bool(case["exp_alerts"]))
    assert {name for name, ways in tried.items() if ways != {True, False}} == set()


def test_rules_and_dashboard_name_only_metrics_that_exist() -> None:
    there = parse(Metrics(CHANNELS).page().decode()).types.keys()
    assert named() - there == set()
    assert len(named()) > 30


@pytest.mark.parametrize("name", alerts())
def test_an_alert_says_what_is_wrong_how_bad_and_what_to_do(name: str) -> None:
    rule = alerts()[name]
    assert rule["labels"] == {"severity": rule["labels"]["severity"]}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
    assert "for" in rule, "a moment is no alert"


def test_the_handbook_has_a_section_for_every_alert_and_no_other() -> None:
    chapter = HANDBOOK.read_text("utf-8").partition("\n## Alerts\n")[2].partition("\n## ")[0]
    sections = re.findall(r"(?m)^### (Stockrelay\w+)\n\n((?:(?!###).*\n?)+)", chapter)
    assert [name for name, _ in sections] == list(alerts()), "in the order of the rules"
    for name, text in sections:
        assert "**Meaning.**" in text, name
        assert "**Check.**" in text, name
        assert "**Do.**" in text, name


def test_the_queries_of_the_dashboard_are_right_by_promtool(tmp_path: Path) -> None:
    queries = [query for query in dashboard_queries() if not query.startswith("label_values(")]
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$__rate_interval", "5m")}
        for number, query in enumerate(queries)
    ]
    file = tmp_path / "dashboard.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}), "utf-8")
    promtool.run("check", "rules", "--lint=none", file)


def test_the_dashboard_can_be_imported_anywhere() -> None:
    text = DASHBOARD.read_text("utf-8")
    sources = set(re.findall(r'"uid": "([^"]*)"', text)) - {json.loads(text)["uid"]}
    assert sources == {"${datasource}"}, "every panel asks the Prometheus that is chosen"
    numbers = [panel["id"] for panel in json.loads(text)["panels"]]
    assert len(numbers) == len(set(numbers))


def test_every_panel_says_what_it_shows_and_none_lies_over_another() -> None:
    assert [panel["title"] for panel in panels() if not panel.get("description")] == []
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells


def test_the_dashboard_has_a_row_for_each_question() -> None:
    rows = [p["title"] for p in json.loads(DASHBOARD.read_text("utf-8"))["panels"] if p["type"] == "row"]
    assert rows == [
        "Now",
        "Latency",
        "Backlog",
        "Attempts",
        "Slots, intake and listener",
        "Reconcile, notices and capture",
        "Process",
    ]
