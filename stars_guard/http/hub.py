"""Models that may come from a hub: which revision is loaded, and whose code runs. No torch.

A name on a hub means whatever its owner uploads next, so it is loaded with a revision, and a warning without
one. Code that comes with weights is run where ``trust_remote_code=True`` says so; nobody is asked for it on
standard input, where a server would wait for ever.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stars_guard.errors import ConfigurationError

log = logging.getLogger("stars_guard.hub")

SHARED_OPTIONS = ("cache_dir", "local_files_only", "revision", "subfolder", "token", "trust_remote_code")
"""Options of ``from_pretrained`` that a tokenizer takes as its model does."""
_TRUST = "trust_remote_code"


@contextmanager
def pretrained(
    where: str, options: Mapping[str, Any], *, setting: str = "revision"
) -> Iterator[dict[str, Any]]:
    """Options for ``from_pretrained``, with what must not be left to it; inside, they are used.

    Args:
        where: folder or hub id.
        options: that were given.
        setting: which setting says the revision, for the warning.

    Raises:
        ConfigurationError: the weights come with code of their own, and nobody said that it may be run; or
            ``trust_remote_code`` is neither True nor False.
    """
    trusted = options.get(_TRUST) or False
    if not isinstance(trusted, bool):
        raise ConfigurationError(f"{_TRUST}={trusted!r} must be True or False")
    warn_without_revision(where, options.get("revision"), setting)
    given = {name: value for name, value in options.items() if name != "revision" or value is not None}
    try:
        yield {**given, _TRUST: trusted}
    except ValueError as error:
        if trusted or _TRUST not in str(error):
            raise
        raise ConfigurationError(
            f"{where} comes with code of its own, which is not run; read it, and pass {_TRUST}=True with the "
            "revision that you read, or take a model that needs none"
        ) from error


def warn_without_revision(where: str, revision: str | None, setting: str = "revision") -> None:
    """Log a warning about each name on a hub that is loaded without a revision; folders need none.

    Args:
        where: folder or hub id.
        revision: commit, tag or branch; None without one.
        setting: which setting says it.
    """
    folder = Path(where).expanduser()
    if not folder.exists():
        if not revision:
            log.warning(
                "%s is loaded from a hub without a revision, so it may change; set %s to a commit",
                where,
                setting,
            )
        return
    base, its_revision = _base_of(folder)
    if base and not its_revision and not Path(base).expanduser().exists():
        log.warning(
            "the adapter in %s is for %s, which is loaded from a hub without a revision, so it may change; "
            "set revision in its adapter_config.json to a commit",
            where,
            base,
        )


def _base_of(folder: Path) -> tuple[str | None, str | None]:
    """Which model an adapter is for, and its revision."""
    with suppress(OSError, ValueError, RecursionError, AttributeError):
        config = json.loads((folder / "adapter_config.json").read_bytes())
        return config.get("base_model_name_or_path"), config.get("revision")
    return None, None
