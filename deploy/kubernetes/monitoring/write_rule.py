"""Write prometheus-rule.yaml, the alerts of deploy/prometheus for the Prometheus operator."""

from pathlib import Path

import yaml

HERE = Path(__file__).parent
ALERTS = HERE.parent.parent / "prometheus" / "alerts.yml"
RULE = HERE / "prometheus-rule.yaml"


def rule() -> str:
    """The whole file."""
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    metadata = {"name": "stars-guard", "labels": {"app.kubernetes.io/part-of": "stars-guard"}}
    kind = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule"}
    body = yaml.safe_dump(
        {**kind, "metadata": metadata, "spec": {"groups": groups}}, sort_keys=False, width=100
    )
    return f"# Written by write_rule.py from deploy/prometheus/alerts.yml.\n{body}"


if __name__ == "__main__":
    RULE.write_text(rule(), encoding="utf-8")
