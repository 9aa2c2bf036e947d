"""The metrics that alert rules and the dashboard name."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
ALERTS: Final = DEPLOY / "prometheus" / "alerts.yml"
ALERTS_TEST: Final = DEPLOY / "prometheus" / "alerts_test.yml"
DASHBOARD: Final = DEPLOY / "grafana" / "stockrelay.json"
_METRIC: Final = re.compile(r"\b(?:stockrelay|process|python)_[a-z0-9_]+\b")


def alerts() -> dict[str, dict[str, Any]]:
    """Return the rules by the alert's name."""
    groups = yaml.safe_load(ALERTS.read_text("utf-8"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    return {rule["alert"]: rule for rule in rules}


def panels() -> list[dict[str, Any]]:
    """Return the dashboard's panels, rows left out."""
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def dashboard_queries() -> Iterator[str]:
    """Return every query of the dashboard."""
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"]
    for variable in json.loads(DASHBOARD.read_text("utf-8"))["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["definition"]


def named() -> set[str]:
    """Return the names of all metrics that are asked for, a histogram's by its own name."""
    texts = [*(rule["expr"] for rule in alerts().values()), *dashboard_queries()]
    return {
        re.sub(r"_seconds_(bucket|sum|count)$", "_seconds", name)
        for text in texts
        for name in _METRIC.findall(text)
    }
