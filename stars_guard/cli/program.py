"""The commands, put together."""

from __future__ import annotations

from typing import Annotated, Any, cast

import typer

from stars_guard.cli.batch import batch_command
from stars_guard.cli.calibrate import calibrate_command
from stars_guard.cli.chat import chat_command
from stars_guard.cli.check import check_command
from stars_guard.cli.config_check import config_program
from stars_guard.cli.demo import demo_command
from stars_guard.cli.eval import eval_command
from stars_guard.cli.exit_codes import INTERRUPTED
from stars_guard.cli.export_preferences import export_preferences_command
from stars_guard.cli.finetune import finetune_command
from stars_guard.cli.generate import generate_command
from stars_guard.cli.label import label_command
from stars_guard.cli.plan import plan_command
from stars_guard.cli.prepare import prepare_command
from stars_guard.cli.presets import presets_command
from stars_guard.cli.replay import replay_command
from stars_guard.cli.serve import serve_command
from stars_guard.cli.train import train_command
from stars_guard.errors import ConfigurationError
from stars_guard.version import __version__

program = typer.Typer(
    name="stars-guard",
    help="Keeps any open LLM safe while it writes: every segment is judged before it is shown.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
program.command("generate")(generate_command)
program.command("chat")(chat_command)
program.command("batch")(batch_command)
program.command("demo")(demo_command)
program.command("replay")(replay_command)
program.command("prepare")(prepare_command)
program.command("presets")(presets_command)
program.command("train-reward")(train_command)
program.command("export-preferences")(export_preferences_command)
program.command("finetune")(finetune_command)
program.command("calibrate")(calibrate_command)
program.command("eval")(eval_command)
program.command("label")(label_command)
program.command("plan")(plan_command)
program.command("check-reward")(check_command)
program.command("serve")(serve_command)
program.add_typer(config_program, name="config")

# typer exports only one of the errors that mean "wrong usage"; this is their common base.
_UsageError = cast(type[Exception], typer.BadParameter.__bases__[0])


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"stars-guard {__version__}")
        raise typer.Exit


@program.callback()
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
    command = typer.main.get_command(program)
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
