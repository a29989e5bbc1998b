"""``stars-guard serve``: the guard behind an OpenAI-compatible API."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stars_guard.cli.screen import notes
from stars_guard.cli.wanted import say_file
from stars_guard.errors import ConfigurationError, failures_as, needs_extra
from stars_guard.loading.configuration import config_file

if TYPE_CHECKING:
    from stars_guard.server.config import ServerConfig

_File = Annotated[
    Path | None,
    typer.Option(
        help="Configuration, TOML or YAML. Without it: STARS_GUARD_CONFIG, or stars-guard.toml here, or the "
        "embedded models."
    ),
]


def serve_command(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; that of the configuration, or 127.0.0.1.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            help="Port to listen on, 0 for a free one; that of the configuration, or 8080.", min=0, max=65535
        ),
    ] = None,
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
        from stars_guard.server.config import ServerConfig
        from stars_guard.server.process import bound, check_reach
        from stars_guard.server.process import serve as run
        from stars_guard.server.telemetry.library_logs import log_uncaught, take_over
        from stars_guard.server.telemetry.logs import write_logs
    settings = _settings(config, ServerConfig)
    host = settings.server.host if host is None else host
    port = settings.server.port if port is None else port
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


def _settings(named: Path | None, kind: type[ServerConfig]) -> ServerConfig:
    """The settings of the file that is read, if there is one; what is surprising about them is said."""
    file = config_file(named)
    settings = kind.of_file(file.path) if file else kind()
    if file and named is None:
        file.check(settings)
        say_file(file)
    for setting in settings.without_effect:
        notes().print(f"{setting} has no effect on a server: every request has its own", style="yellow")
    return settings
