"""``stars-guard generate``: one answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from stars_guard.algorithm.trace import Trace, write_jsonl
from stars_guard.cli.build import load_guard
from stars_guard.cli.exit_codes import INTERRUPTED
from stars_guard.cli.groups import grouped
from stars_guard.cli.options import GuardOptions, LimitOptions, ModelOptions, SamplingOptions
from stars_guard.cli.screen import Screen, show_advice, show_answer
from stars_guard.errors import ConfigurationError, StarsGuardError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.prompts import Message, Prompt
from stars_guard.result import GuardedResult
from stars_guard.types import StopReason


@dataclass(frozen=True)
class OutputOptions:
    """How the prompt is read and what is written."""

    raw: Annotated[
        bool, typer.Option("--raw", help="Continue the prompt as it stands, without a chat template.")
    ] = False
    system: Annotated[str | None, typer.Option(help="System message before the prompt.")] = None
    show_trace: Annotated[
        bool, typer.Option("--show-trace", help="Show every decision on stderr as it falls.")
    ] = False
    trace_file: Annotated[
        Path | None, typer.Option(help="Append the trace to this file, one JSON object a line.")
    ] = None
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the whole result as one JSON object instead of the text.")
    ] = False


@grouped
def generate_command(
    prompt: Annotated[str, typer.Argument(help="What to answer; - reads it from standard input.")],
    models: ModelOptions,
    guard: GuardOptions,
    sampling: SamplingOptions,
    limits: LimitOptions,
    output: OutputOptions,
) -> None:
    """Answer a prompt, streaming accepted text to stdout."""
    checked = _prompt(prompt, output)
    _check_folder(output.trace_file)
    llm = load_guard(models, guard, sampling, limits)
    screen = Screen(llm.config, show_text=not output.as_json, show_trace=output.show_trace)
    result = _answer(llm, checked, screen, output.trace_file)
    screen.finish(result)
    show_advice(result.advice)
    if result.stop_reason is StopReason.CANCELLED:
        raise typer.Exit(INTERRUPTED)
    if output.as_json:
        typer.echo(result.model_dump_json())


def _answer(llm: StarsGuardedLLM, prompt: Prompt, screen: Screen, trace_file: Path | None) -> GuardedResult:
    try:
        result = show_answer(llm, prompt, screen)
    except StarsGuardError as error:
        if error.trace is not None:
            _append(trace_file, error.trace)
        raise
    _append(trace_file, result.trace)
    return result


def _append(file: Path | None, trace: Trace) -> None:
    if file is not None:
        write_jsonl(file, [trace])


def _prompt(text: str, output: OutputOptions) -> Prompt:
    text = typer.get_text_stream("stdin").read() if text == "-" else text
    if output.raw and output.system is not None:
        raise ConfigurationError("--system has no place in a --raw prompt; leave one of them out")
    if output.raw:
        return Prompt.raw(text)
    system = [] if output.system is None else [Message(role="system", content=output.system)]
    if not text.strip():
        # With a system message the conversation would not be empty, but there would be nothing to answer.
        return Prompt.of(text)
    return Prompt.of([*system, Message(role="user", content=text)])


def _check_folder(file: Path | None) -> None:
    # Better now than after the answer has been paid for.
    if file is not None and (file.is_dir() or not file.parent.is_dir()):
        raise ConfigurationError(f"--trace-file {file} cannot be written: give a file in an existing folder")
