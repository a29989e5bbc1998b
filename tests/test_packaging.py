"""What a user gets: a wheel with the package alone, everything it needs at run time, and light imports."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDED = (
    "stars_guard/py.typed",
    "stars_guard/templates/report.html.jinja",
    "stars_guard/embedded/harmlessness/adapter_model.safetensors",
    "stars_guard/embedded/harmlessness/adapter_config.json",
    "stars_guard/embedded/harmlessness/README.md",
    "stars_guard/embedded/probe/probe.json",
    "stars_guard/embedded/probe/probe.safetensors",
    "stars_guard/embedded/probe/README.md",
    "stars_guard/templates/calibration.html.jinja",
    "stars_guard/calibration/prompts.txt",
    "stars_guard/training/activities.json",
    "stars_guard/conformance/pairs.jsonl",
    "stars_guard/training/card.md",
    "stars_guard/training/probe_card.md",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_claims_one_top_level_name(wheel: Path) -> None:
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"stars_guard"}


def test_the_wheel_carries_what_is_needed_at_run_time(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert set(NEEDED) <= names
    python = {str(path.relative_to(ROOT)) for path in (ROOT / "stars_guard").rglob("*.py")}
    assert python <= names


def test_the_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size < 3_000_000


def test_the_package_alone_imports_without_torch(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import sys, stars_guard; from stars_guard.testing import ScriptedModel;"
        "heavy = {'torch', 'transformers', 'typer', 'rich'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_versions_are_ranges_never_pins() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [one for several in project["optional-dependencies"].values() for one in several]
    for requirement in [*project["dependencies"], *extras]:
        assert "==" not in requirement
        assert requirement.startswith("stars-guard[") or "<" in requirement
