"""Try every architecture and print the table, or write it down: ``python -m tests.families --write FILE``."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import torch
import transformers

from tests.families.architectures import NAMES
from tests.families.checking import Row, check
from tests.families.document import replaced, table


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, help="architectures to try; all by default")
    parser.add_argument("--write", type=Path, help="document whose section is replaced")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    body = section([check(name) for name in sorted(arguments.names)])
    if arguments.write:
        text = arguments.write.read_text(encoding="utf-8")
        arguments.write.write_text(replaced(text, "architectures", body), encoding="utf-8")
    else:
        print(body)  # noqa: T201


def section(rows: list[Row]) -> str:
    """What the document says of architectures.

    Args:
        rows: one for each that was tried.
    """
    version = ".".join(transformers.__version__.split(".")[:2])
    cells = [(f"`{row.name}`", row.proven, row.guarantee, row.note) for row in rows]
    served = sum(bool(row.proven) for row in rows)
    shared = sum(row.guarantee == "token_ids" for row in rows)
    return (
        f"Transformers {version}: {served} of {len(rows)} were served, {shared} of them sharing a cache.\n\n"
        + table(("architecture", "proven", "guarantee", "why not more"), cells)
    )


if __name__ == "__main__":
    main()
