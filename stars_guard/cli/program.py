"""The commands, put together."""

from __future__ import annotations

from typing import Annotated, Any, cast

import typer

from stars_guard.cli import (
    batch,
    calibrate,
    chat,
    check,
    config_check,
    demo,
    generate,
    plan,
    prepare,
    presets,
    replay,
    serve,
    train,
)
from stars_guard.cli.exit_codes import INTERRUPTED
from stars_guard.errors import ConfigurationError
from stars_guard.version import __version__

app = typer.Typer(
    name="stars-guard",
    help="Keeps any open LLM safe while it writes: every segment is judged before it is shown.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(generate.generate)
app.command()(chat.chat)
app.command()(batch.batch)
app.command()(demo.demo)
app.command()(replay.replay)
app.command()(prepare.prepare)
app.command()(presets.presets)
app.command()(train.train_reward)
app.command("calibrate")(calibrate.calibrate_command)
app.command("plan")(plan.plan_command)
app.command("check-reward")(check.check)
app.command()(serve.serve)
app.add_typer(config_check.config_app, name="config")

# typer exports only one of the errors that mean "wrong usage"; this is their common base.
_UsageError = cast(type[Exception], typer.BadParameter.__bases__[0])


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stars-guard {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Keeps any open LLM safe while it writes: every segment is judged before it is shown."""


def run(arguments: list[str]) -> int:
    """Run a command line and return its exit code.

    Raises:
        ConfigurationError: the command line is wrong.
        StarsGuardError: the command failed.
    """
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments or ["--help"], prog_name="stars-guard", standalone_mode=False)
    except typer.Abort:
        return INTERRUPTED
    except _UsageError as error:
        wrong: Any = error
        where = wrong.ctx.command_path if wrong.ctx else "stars-guard"
        message = wrong.format_message().replace("Value error, ", "")  # typer quotes pydantic's own words
        raise ConfigurationError(f"{message} (see {where} --help)") from error
    return code if isinstance(code, int) else 0
