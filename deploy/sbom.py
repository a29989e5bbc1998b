"""What runs beside the package, as a CycloneDX bill of materials on standard output: ``make sbom``.

``cyclonedx-py`` describes all of an environment, the tools of developers included. Here stays what the extras
need that users install, with licences and what each depends on.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import requires
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = "stars-guard"
EXTRAS = ("calibrate", "cli", "embedded", "ray", "remote", "serve", "train", "transformers")


def runtime(name: str = ROOT, extras: tuple[str, ...] = EXTRAS) -> set[str]:
    """Canonical names of every distribution that the extras need here, that of the package left out."""
    found: set[str] = set()
    waiting = [(name, extra) for extra in ("", *extras)]
    seen = set(waiting)
    while waiting:
        distribution, extra = waiting.pop()
        for line in requires(distribution) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                found.add(canonicalize_name(requirement.name))
                needed = {(requirement.name, more) for more in ("", *requirement.extras)} - seen
                seen |= needed
                waiting += needed
    return found - {ROOT}


def kept(bill: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """The bill with the components of these names, and what they and the package depend on."""
    components = [part for part in bill["components"] if canonicalize_name(part["name"]) in names]
    places = {part["bom-ref"] for part in components}
    root = bill["metadata"]["component"]["bom-ref"]
    tree = [
        {**node, "dependsOn": [place for place in node.get("dependsOn", ()) if place in places]}
        for node in bill["dependencies"]
        if node["ref"] in places | {root}
    ]
    return {**bill, "components": components, "dependencies": tree}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(kept(json.load(sys.stdin), runtime()), indent=2) + "\n")
