"""The files under deploy/, read for tests."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
DOCKERFILE = DEPLOY / "Dockerfile"
KUSTOMIZATIONS = sorted(
    path.parent for path in DEPLOY.rglob("kustomization.yaml") if path.parent != DEPLOY / "config"
)


def tool(name: str) -> str:
    """A command of the test environment."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    assert found, f"{name} is not installed; it comes with the extra dev"
    return found


def run(name: str, *arguments: str | Path, stdin: str | None = None) -> None:
    """Run a command in the repository, which must succeed."""
    done = subprocess.run(
        [tool(name), *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, input=stdin
    )
    assert done.returncode == 0, done.stdout + done.stderr


def yaml_files() -> list[Path]:
    """Every YAML file that is shipped."""
    return sorted([*DEPLOY.rglob("*.yaml"), *DEPLOY.rglob("*.yml")])


@cache
def compose() -> dict[str, Any]:
    """The compose file, with merge keys resolved."""
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return loaded


def documents(text: str) -> list[dict[str, Any]]:
    """The documents of a YAML stream."""
    return [one for one in yaml.safe_load_all(text) if one is not None]


@cache
def objects() -> tuple[tuple[Path, dict[str, Any]], ...]:
    """What the manifests define; neither kustomizations nor patches, which are no whole objects."""
    paths = [path for path in KUBERNETES.rglob("*.yaml") if path not in _no_objects()]
    return tuple((path, one) for path in sorted(paths) for one in documents(path.read_text("utf-8")))


def _no_objects() -> set[Path]:
    found = set()
    for folder in KUSTOMIZATIONS:
        path = folder / "kustomization.yaml"
        (kustomization,) = documents(path.read_text("utf-8"))
        patches = [folder / one["path"] for one in kustomization.get("patches", ()) if "path" in one]
        found |= {path, *patches, *(folder / one for one in kustomization.get("configurations", ()))}
    return found


@cache
def built(folder: Path) -> list[dict[str, Any]]:
    """What ``kubectl apply --kustomize`` would send."""
    done = subprocess.run([tool("kubectl"), "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return documents(done.stdout)


def pod_templates(one: dict[str, Any]) -> list[dict[str, Any]]:
    """The pods that an object starts."""
    spec = one.get("spec", {})
    group = spec.get("leaderWorkerTemplate", {})
    found = [spec.get("template"), group.get("leaderTemplate"), group.get("workerTemplate")]
    return [template for template in found if template]


def walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from walk(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from walk(inner)


def values(data: Any, key: str) -> list[Any]:
    """All values under this key, at any depth."""
    return [value for name, value in walk(data) if name == key]


def instructions(name: str) -> list[str]:
    """The arguments of a Dockerfile's instructions of this name, with continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text("utf-8"))
    return re.findall(rf"^{name}\s+(.*)$", text, flags=re.M)


def served() -> list[list[str]]:
    """Every command line with which a file starts the guard, from ``serve`` on."""
    lines: list[list[str]] = [yaml.safe_load(one) for one in instructions("CMD")]
    everything = [compose(), *(one for _, one in objects())]
    patch = yaml.safe_load((KUBERNETES / "paired" / "engine.yaml").read_text("utf-8"))
    for data in [*everything, patch]:
        lines += [one for key in ("args", "command") for one in values(data, key) if isinstance(one, list)]
    return [line for line in lines if line and line[0] == "serve"]


def shell_lines() -> list[str]:
    """What is given to ``sh -euc``, as a script."""
    found = []
    for service in compose()["services"].values():
        if service.get("entrypoint", [])[:1] == ["sh"]:
            found += [one.replace("$$", "$") for one in service["command"]]
    for _, one in objects():
        for command in values(one, "command"):
            if isinstance(command, list) and command[:1] == ["sh"]:
                found.append(command[-1])
    return [f"#!/bin/sh\n{line}\n" for line in found if shlex.split(line)]
