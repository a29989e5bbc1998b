"""The distribution: what the wheel holds, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _run(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_namespace_module_and_nothing_else(tmp_path: Path) -> None:
    _run("-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path))
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    module = "llama_index/llms/stars_guard/"
    packed = {name.removeprefix(module) for name in names if name.startswith(module)}
    files = {path.name for path in (ROOT / module).iterdir() if path.is_file()}
    assert packed == files
    assert {"py.typed", "__init__.py"} <= packed
    others = {name for name in names if not name.startswith(module)}
    assert all(".dist-info/" in name for name in others)
    assert any(name.endswith("licenses/LICENSE") for name in others)


def test_importing_loads_no_model_library() -> None:
    code = "import sys, llama_index.llms.stars_guard as m; m.StarsGuardedLLM(); print('torch' in sys.modules)"
    assert _run("-c", code) == "False\n"


def test_hub_metadata_names_the_class() -> None:
    hub = PROJECT["tool"]["llamahub"]
    assert hub["import_path"] == "llama_index.llms.stars_guard"
    assert set(hub["class_authors"]) == {"StarsGuardedLLM"}


def test_the_licence_is_that_of_the_repository() -> None:
    root = ROOT.parent.parent / "LICENSE"
    assert (ROOT / "LICENSE").read_bytes() == root.read_bytes()
