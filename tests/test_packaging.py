"""What a user gets: a wheel with the package alone, everything it needs at run time, and light imports."""

from __future__ import annotations

import subprocess
import sys
import tarfile
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
    "stars_guard/embedded/judge/adapter_model.safetensors",
    "stars_guard/embedded/judge/adapter_config.json",
    "stars_guard/embedded/judge/README.md",
    "stars_guard/embedded/probe/probe.json",
    "stars_guard/embedded/probe/probe.safetensors",
    "stars_guard/embedded/probe/README.md",
    "stars_guard/templates/calibration.html.jinja",
    "stars_guard/calibration/prompts.txt",
    "stars_guard/training/activities.json",
    "stars_guard/conformance/pairs.jsonl",
    "stars_guard/training/card.md",
    "stars_guard/training/cascade_card.md",
    "stars_guard/training/judge_card.md",
    "stars_guard/training/probe_card.md",
    "stars_guard/training/sets/hh-harmless.jsonl",
    "stars_guard/training/sets/README.md",
    "stars_guard/evaluation/configs/finetuning.yaml",
    "stars_guard/evaluation/configs/smoke.yaml",
    "stars_guard/evaluation/configs/sentiment.yaml",
    "stars_guard/evaluation/sentiment/README.md",
    "stars_guard/evaluation/sentiment/reviews.npz",
    "stars_guard/evaluation/tasks/sets/README.md",
    "stars_guard/evaluation/tasks/sets/harmfulqa.jsonl",
    "stars_guard/evaluation/tasks/sets/grave-topics.jsonl",
    "stars_guard/evaluation/tasks/sets/plain-instructions.jsonl",
    "stars_guard/evaluation/tasks/corpora/clean.jsonl",
    "stars_guard/evaluation/tasks/corpora/poisoned.jsonl",
    "stars_guard/evaluation/tasks/corpora/questions.jsonl",
)


def sources() -> set[str]:
    """Modules of the package and the stubs that list its public names, which are read at run time."""
    return {
        str(path.relative_to(ROOT)) for path in (ROOT / "stars_guard").rglob("*.py*") if path.suffix != ".pyc"
    }


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
    assert sources() <= names


def test_the_source_distribution_carries_every_source(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "build",
        "--sdist",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert sources() <= names


def test_the_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size < 3_000_000


def test_the_package_alone_imports_without_torch(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import sys; from stars_guard import GuardConfig; from stars_guard.rewards import Reward;"
        "from stars_guard.testing import ScriptedModel;"
        "heavy = {'torch', 'transformers', 'typer', 'rich'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_versions_are_ranges_never_pins() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [extra for extras in project["optional-dependencies"].values() for extra in extras]
    for requirement in [*project["dependencies"], *extras]:
        assert "==" not in requirement
        assert requirement.startswith("stars-guard[") or "<" in requirement
