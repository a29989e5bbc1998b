"""Write prometheus-rule.yaml, the alerts of deploy/prometheus for the Prometheus operator."""

from pathlib import Path

import yaml

HERE = Path(__file__).parent
ALERTS = HERE.parent.parent / "prometheus" / "alerts.yml"
RULE = HERE / "prometheus-rule.yaml"


class _Dumper(yaml.SafeDumper):
    """Expressions of several lines stay as they are written."""


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def rule() -> str:
    """The whole file."""
    groups = yaml.safe_load(ALERTS.read_text(encoding="utf-8"))["groups"]
    metadata = {"name": "stars-guard", "labels": {"app.kubernetes.io/part-of": "stars-guard"}}
    kind = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule"}
    body = yaml.dump(
        {**kind, "metadata": metadata, "spec": {"groups": groups}}, Dumper=_Dumper, sort_keys=False, width=100
    )
    return f"# Written by write_rule.py from deploy/prometheus/alerts.yml.\n{body}"


if __name__ == "__main__":
    RULE.write_text(rule(), encoding="utf-8")
