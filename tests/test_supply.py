"""Where the package's parts come from: hashes for every pin, a bill of materials, and a page on security."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILT_DIFFERENTLY = {"torch"}


def bill():
    spec = spec_from_file_location("sbom", ROOT / "deploy" / "sbom.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pins(text):
    found = re.findall(r"^([A-Za-z0-9_.-]+)==([^\s\\]+)", text, re.MULTILINE)
    return {re.sub("[-_.]+", "-", name).lower(): version for name, version in found}


def test_every_pin_has_its_hashes_and_none_is_stale():
    lock = (ROOT / "constraints.lock").read_text()
    wanted = pins((ROOT / "constraints.txt").read_text())
    assert pins(lock) == {name: wanted[name] for name in wanted.keys() - BUILT_DIFFERENTLY}
    entries = re.split(r"\n(?=\S)", lock.strip())
    assert all("--hash=sha256:" in entry for entry in entries if not entry.startswith("#"))
    assert "--hash" not in "".join((ROOT / "constraints.txt").read_text().split("#")[0])


def test_the_bill_names_what_runs_and_leaves_tools_out():
    names = bill().runtime()
    assert {"pydantic", "pydantic-core", "torch", "transformers", "httpx", "uvicorn", "starlette"} <= names
    assert not {"stars-guard", "pytest", "ruff", "mypy", "hypothesis"} & names


def test_the_bill_keeps_what_its_parts_depend_on():
    parts = [{"name": name, "bom-ref": f"{name}-1"} for name in ("pydantic", "Annotated_Types", "pytest")]
    tree = [
        {"ref": "root", "dependsOn": ["pydantic-1", "pytest-1"]},
        {"ref": "pydantic-1", "dependsOn": ["Annotated_Types-1"]},
        {"ref": "pytest-1"},
    ]
    whole = {
        "bomFormat": "CycloneDX",
        "metadata": {"component": {"bom-ref": "root"}},
        "components": parts,
        "dependencies": tree,
    }
    kept = bill().kept(whole, {"pydantic", "annotated-types"})
    assert kept["components"] == parts[:2]
    assert kept["dependencies"] == [{"ref": "root", "dependsOn": ["pydantic-1"]}, tree[1]]
    assert kept["bomFormat"] == "CycloneDX"


def test_the_page_on_security_says_who_what_and_how_to_report():
    page = (ROOT / "SECURITY.md").read_text()
    assert [line for line in page.splitlines() if line.startswith("## ")] == [
        "## Report privately",
        "## Who the attacker is, and what is promised",
        "## What is not promised",
        "## What is run, and from where",
    ]
    assert "SECURITY.md" in (ROOT / "README.md").read_text()
