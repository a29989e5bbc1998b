"""``stars-guard config``: what a configuration says, what it can say, and hashes for the keys of a server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit, urlunsplit

import typer

from stars_guard.cli.config_reference import reference
from stars_guard.errors import ConfigurationError, needs_extra
from stars_guard.loading.configuration import config_file

if TYPE_CHECKING:
    from stars_guard.server.config import ServerConfig

config_program = typer.Typer(help="Look at a configuration.", no_args_is_help=True)

_SECRET = ("api_key", "token", "password", "secret", "sha256")
"""Names of settings whose values are not shown: those of options of other packages, too."""
_HIDDEN = "***"
_SHORTEST_KEY = 16


@config_program.command("check")
def check_config(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="The configuration, TOML or YAML. Without it: STARS_GUARD_CONFIG, or stars-guard.toml here."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Say whether a configuration is right, and print it with every default, secrets left out.

    Nothing is loaded and nothing is contacted.
    """
    place = config_file(file)
    if place is None:
        raise ConfigurationError("there is no configuration: name one, or write stars-guard.toml")
    settings = _read(place.path)
    place.check(settings)
    effective = redacted(settings.model_dump(mode="json"))
    if as_json:
        typer.echo(json.dumps(effective, indent=2))
        return
    import yaml

    typer.echo(yaml.safe_dump(effective, sort_keys=False, allow_unicode=True).rstrip())
    typer.echo(f"{place} is right: {_summary(settings)}", err=True)


@config_program.command("hash-key")
def hash_key_command() -> None:
    """Read an API key from standard input and print the hash that a configuration names it by."""
    with needs_extra("serve"):
        from stars_guard.server.entry.keys import hash_key
    key = typer.get_text_stream("stdin").readline().strip()
    if len(key) < _SHORTEST_KEY:
        raise ConfigurationError(
            f"the key has {len(key)} characters; pass a random one of {_SHORTEST_KEY} or more on stdin"
        )
    typer.echo(hash_key(key))


@config_program.command("reference")
def reference_command() -> None:
    """Print every setting of a configuration, with what it takes and its default, as Markdown."""
    with needs_extra("serve"):
        from stars_guard.server.config import ServerConfig
    typer.echo(reference(ServerConfig, "The file"), nl=False)


def redacted(value: Any) -> Any:
    """Settings without secrets: keys, their hashes, and passwords in URLs."""
    if isinstance(value, Mapping):
        return {
            name: _HIDDEN if inner and name.lower() in _SECRET else redacted(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [redacted(inner) for inner in value]
    return _without_user(value) if isinstance(value, str) and "://" in value else value


def _without_user(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return _HIDDEN
    place = parts.netloc.rpartition("@")
    query = _HIDDEN if parts.query else ""
    return urlunsplit(parts._replace(netloc=(_HIDDEN + "@" if place[1] else "") + place[2], query=query))


def _summary(settings: ServerConfig) -> str:
    keys = f"{len(settings.keys)} API keys" if settings.keys else "no API keys: everybody may ask"
    shadow = "; SHADOW MODE, nothing is enforced" if settings.shadow.enabled else ""
    reward = "the embedded reward" if settings.reward is None else settings.reward.kind
    return f"{settings.served_name} from {settings.model.kind}, judged by {reward}; {keys}{shadow}"


def _read(file: Path) -> ServerConfig:
    with needs_extra("serve"):
        from stars_guard.server.config import read_server_config
    return read_server_config(file)
