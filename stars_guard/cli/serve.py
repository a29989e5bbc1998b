"""``stars-guard serve``: the guard behind an OpenAI-compatible API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stars_guard.cli.screen import notes
from stars_guard.errors import ConfigurationError, failures_as, needs_extra

_File = Annotated[
    Path | None,
    typer.Option(
        envvar="STARS_GUARD_CONFIG", help="Configuration, TOML or YAML; without one, the embedded models."
    ),
]


def serve_command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = 8080,
    config: _File = None,
    allow_anonymous: Annotated[
        bool,
        typer.Option(
            "--allow-anonymous",
            envvar="STARS_GUARD_ALLOW_ANONYMOUS",
            help="Serve whoever reaches an address of this machine without a key.",
        ),
    ] = False,
) -> None:
    """Serve the guard to clients of the OpenAI API."""
    with needs_extra("serve"):
        from stars_guard.server.app import create_app, served_guard
        from stars_guard.server.config import ServerConfig, read_server_config
        from stars_guard.server.process import bound, check_reach
        from stars_guard.server.process import serve as run
        from stars_guard.server.telemetry.library_logs import log_uncaught, take_over
        from stars_guard.server.telemetry.logs import write_logs
    settings = read_server_config(config) if config else ServerConfig()
    # A wrong address must not come to light after minutes of loading.
    with bound(host, port) as listener:
        check_reach(listener, settings, anonymous=allow_anonymous)
        handler = write_logs(settings.observability)
        log_uncaught()
        with notes().status("loading the models"), failures_as(ConfigurationError, "loading the models"):
            llm = served_guard(settings)
        take_over(handler)
        app = create_app(llm, settings)
        listener.listen()  # so that whoever reads the next line can connect
        shown = f"[{host}]" if ":" in host else host
        notes().print(
            f"serving {settings.served_name} at http://{shown}:{listener.getsockname()[1]}/v1 "
            f"(model {llm.model.name}, reward {llm.reward.name})",
            markup=False,
            soft_wrap=True,
        )
        run(app, listener)
