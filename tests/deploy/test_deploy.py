"""What is shipped for operators is well formed, and says nothing that the code does not do."""

from __future__ import annotations

import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

import stars_guard
from tests.support import deploy_files as files

CUSTOM = {
    "keda.sh/v1alpha1",
    "leaderworkerset.x-k8s.io/v1",
    "monitoring.coreos.com/v1",
}
"""Kinds of other projects, for which there are no schemas here."""
VERSION = kubernetes_validate.latest_version()
OBSERVED = (files.DEPLOY / "prometheus" / "alerts.yml").exists()
needs_observe = pytest.mark.skipif(not OBSERVED, reason="there are no alert rules and no dashboard")
needs_kubectl = pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")


def check_object(one: dict[str, Any]) -> None:
    if one["apiVersion"] in CUSTOM:
        for template in files.pod_templates(one):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": template["spec"]}
            kubernetes_validate.validate(pod, VERSION, strict=True)
    else:
        kubernetes_validate.validate(one, VERSION, strict=True)


def test_yaml_is_well_formed() -> None:
    files.run("yamllint", "--strict", "--config-file", files.DEPLOY / ".yamllint.yaml", files.DEPLOY)


def test_the_dockerfile_is_sound() -> None:
    files.run("hadolint", files.DOCKERFILE)


def test_compose_follows_its_specification() -> None:
    files.run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", files.DEPLOY / "compose.yaml")


@pytest.mark.parametrize("line", files.shell_lines())
def test_shell_is_sound(line: str) -> None:
    files.run("shellcheck", "-", stdin=line)


@pytest.mark.parametrize(
    "one", [one for _, one in files.objects()], ids=lambda one: f"{one['kind']}-{one['metadata']['name']}"
)
def test_a_manifest_follows_the_schema_of_its_kind(one: dict[str, Any]) -> None:
    check_object(one)


def test_a_typing_error_would_be_found() -> None:
    (guard, *_) = [one for _, one in files.objects() if one["kind"] == "Deployment"]
    with pytest.raises(kubernetes_validate.ValidationError):
        check_object({**guard, "spec": {**guard["spec"], "replicsa": 2}})


@needs_kubectl
@pytest.mark.parametrize("folder", files.KUSTOMIZATIONS, ids=lambda path: path.name)
def test_what_kustomize_builds_is_whole(folder: Path) -> None:
    if folder.name == "monitoring" and not OBSERVED:
        pytest.skip("there are no alert rules")
    built = files.built(folder)
    for one in built:
        check_object(one)
    have = {(one["kind"], one["metadata"]["name"]) for one in built}
    assert len(have) == len(built)
    if ("Deployment", "reward") in have:
        check_references(built, have)


def check_references(built: list[dict[str, Any]], have: set[tuple[str, str]]) -> None:
    for template in [template for one in built for template in files.pod_templates(one)]:
        spec = template["spec"]
        maps = [*files.values(spec, "configMapRef"), *files.values(spec, "configMap")]
        assert {("ConfigMap", one["name"]) for one in maps} <= have
        claims = files.values(spec, "claimName")
        assert {("PersistentVolumeClaim", name) for name in claims} <= have
        mounted = {one["name"] for one in files.values(spec["containers"], "name") if isinstance(one, dict)}
        assert mounted <= {one["name"] for one in spec["volumes"]}


@needs_kubectl
def test_every_selector_finds_a_pod() -> None:
    for folder in files.KUSTOMIZATIONS:
        if folder.name in ("monitoring", "autoscaling-hpa", "autoscaling-keda"):
            continue  # they start none
        built = files.built(folder)
        pods = [one["metadata"]["labels"] for item in built for one in files.pod_templates(item)]
        for one in built:
            if one["kind"] in ("Service", "PodDisruptionBudget"):
                check_selected(one, pods)


def check_selected(one: dict[str, Any], pods: list[dict[str, str]]) -> None:
    selector = one["spec"]["selector"]
    wanted = {
        key: value
        for key, value in selector.get("matchLabels", selector).items()
        if not key.startswith("leaderworkerset")
    }
    assert any(wanted.items() <= labels.items() for labels in pods), one["metadata"]["name"]


def images() -> list[str]:
    everything = [files.compose(), *(one for _, one in files.objects())]
    found = [image for data in everything for image in files.values(data, "image")]
    return found + [line.split()[0] for line in files.instructions("FROM")]


def test_no_image_floats() -> None:
    found = images()
    assert len(found) > 8
    stages = {line.split()[2] for line in files.instructions("FROM") if " AS " in line}
    for image in set(found) - stages:
        name, _, tag = image.partition(":")
        assert tag, image
        assert "latest" not in tag, image
        if name == "stars-guard":
            assert tag == stars_guard.__version__


SECRET = re.compile(
    r"hf_[A-Za-z0-9]{10,}|sk-[A-Za-z0-9]{10,}|BEGIN [A-Z ]*PRIVATE KEY|AKIA[0-9A-Z]{12,}"
    r"|(?i:password|token|api_key)\s*[:=]\s*[\"']?[A-Za-z0-9+/]{12,}"
)


def test_no_secret_is_in_a_file() -> None:
    assert SECRET.search("HF_TOKEN: " + "hf_" + "a" * 30)
    # Other tests import modules from there, and Python leaves what it compiled.
    paths = [path for path in files.DEPLOY.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert len(paths) > 15
    for path in paths:
        assert not SECRET.search(path.read_text(encoding="utf-8")), path


def test_compose_binds_to_loopback_alone() -> None:
    ports = [port for service in files.compose()["services"].values() for port in service.get("ports", ())]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_nobody_reaches_the_engine_of_compose_around_the_guard() -> None:
    composed = files.compose()
    assert composed["networks"]["engines"] == {"internal": True}
    for name in ("engine", "reward"):
        assert composed["services"][name]["networks"] == ["engines"]
        assert "ports" not in composed["services"][name]


@needs_observe
def test_compose_mounts_files_that_exist() -> None:
    mounts = [one for service in files.compose()["services"].values() for one in service.get("volumes", ())]
    sources = [one.split(":")[0] for one in mounts]
    assert {one for one in sources if not one.startswith(".")} == set(files.compose()["volumes"])
    for one in sources:
        assert not one.startswith(".") or (files.DEPLOY / one).exists(), one


@needs_observe
def test_the_operator_gets_the_same_alerts() -> None:
    script = files.KUBERNETES / "monitoring" / "write_rule.py"
    rule = runpy.run_path(str(script))["rule"]()
    assert (script.parent / "prometheus-rule.yaml").read_text("utf-8") == rule, f"run: python {script}"


def test_every_container_of_kubernetes_is_restricted() -> None:
    containers = [
        (template["spec"], container)
        for _, one in files.objects()
        for template in files.pod_templates(one)
        for container in template["spec"]["containers"]
    ]
    assert len(containers) >= 6
    for pod, container in containers:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"]
        assert container["resources"]["limits"]["memory"]
