"""``stars-guard serve`` and ``stars-guard config``: the server, and what its configuration says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from stars_guard.cli.screen import notes
from stars_guard.errors import ConfigurationError, MissingExtraError

config_app = typer.Typer(help="Look at the configuration of a server.", no_args_is_help=True)

_File = Annotated[
    Path | None,
    typer.Option(
        envvar="STARS_GUARD_CONFIG", help="Configuration, TOML or YAML; without one, the embedded models."
    ),
]


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = 8080,
    config: _File = None,
) -> None:
    """Serve the guard to clients of the OpenAI API."""
    try:
        from stars_guard.server.app import create_app
        from stars_guard.server.config import ServerConfig, read_server_config
        from stars_guard.server.logs import write_logs
        from stars_guard.server.parts import load_guard
        from stars_guard.server.run import serve as run
    except ImportError as error:
        raise MissingExtraError(str(error.name).partition(".")[0], "serve") from error
    settings = read_server_config(config) if config else ServerConfig()
    write_logs(settings.observability)
    with notes().status("loading the models"):
        llm = load_guard(settings)
    app = create_app(llm, settings)
    notes().print(f"serving {settings.served_name} at http://{host}:{port}/v1 (model {llm.model.name})")
    run(app, host, port)


@config_app.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="The configuration.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print it with every default, as JSON.")] = False,
) -> None:
    """Say whether a configuration is right. Nothing is loaded and nothing is contacted."""
    settings = _read(file)
    if as_json:
        typer.echo(json.dumps(settings.model_dump(mode="json"), indent=2))
        return
    keys = f"{len(settings.keys)} API keys" if settings.keys else "no API keys: everybody may ask"
    typer.echo(
        f"{file} is right: {settings.served_name} from {settings.model.kind}, judged by "
        f"{settings.reward.kind}; {keys}"
        + ("; SHADOW MODE, nothing is enforced" if settings.shadow.enabled else "")
    )


@config_app.command("hash-key")
def hash_api_key() -> None:
    """Read an API key from standard input and print the hash that a configuration names it by."""
    from stars_guard.server.keys import hash_key

    key = typer.get_text_stream("stdin").readline().strip()
    if len(key) < 16:
        raise ConfigurationError(
            f"the key has {len(key)} characters; pass a random one of 16 or more on standard input"
        )
    typer.echo(hash_key(key))


def _read(file: Path) -> Any:
    try:
        from stars_guard.server.config import read_server_config
    except ImportError as error:
        raise MissingExtraError(str(error.name).partition(".")[0], "serve") from error
    return read_server_config(file)
