"""``stars-guard chat``: a conversation."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer
from rich.console import Console

from stars_guard.algorithm.trace import Trace
from stars_guard.cli.build import load_guard
from stars_guard.cli.groups import grouped
from stars_guard.cli.options import GuardOptions, LimitOptions, ModelOptions, SamplingOptions
from stars_guard.cli.screen import Screen, notes, show_advice, show_answer, trace_table
from stars_guard.errors import StarsGuardError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.prompts import Message

HELP = "/reset forgets the conversation, /trace shows the last answer's decisions, /quit ends the chat"


@grouped
def chat_command(
    models: ModelOptions,
    guard: GuardOptions,
    sampling: SamplingOptions,
    limits: LimitOptions,
    system: Annotated[str | None, typer.Option(help="System message of the conversation.")] = None,
    show_trace: Annotated[bool, typer.Option("--show-trace", help="Show decisions as they fall.")] = False,
) -> None:
    """Talk to the guarded model; Ctrl-C stops an answer, Ctrl-D ends the chat."""
    llm = load_guard(models, guard, sampling, limits)
    with suppress(ImportError):
        import readline  # noqa: F401 - gives input() line editing
    conversation = Conversation(llm, system, show_trace=show_trace)
    conversation.note(HELP)
    while conversation.turn():
        pass


class Conversation:
    """A chat and its history.

    Args:
        llm: who answers.
        system: system message, or None.
        show_trace: show decisions as they fall.
    """

    def __init__(self, llm: StarsGuardedLLM, system: str | None = None, *, show_trace: bool = False) -> None:
        self._llm = llm
        self._system = [] if system is None else [Message(role="system", content=system)]
        self._show_trace = show_trace
        self._notes = notes()
        self._advised = False
        self.messages: list[Message] = list(self._system)
        self.trace: Trace | None = None

    def note(self, text: str) -> None:
        """Say something that is not part of the conversation."""
        self._notes.print(text, style="dim", markup=False)

    def turn(self) -> bool:
        """Read one line and do what it says; False when the chat is over."""
        try:
            line = input("> ").strip()
        except EOFError:
            typer.echo()
            return False
        except KeyboardInterrupt:
            typer.echo()
            return True
        if line.startswith("/"):
            return self._command(line)
        if line:
            self._answer(line)
        return True

    def _command(self, command: str) -> bool:
        if command == "/reset":
            self.messages, self.trace = list(self._system), None
            self.note("the conversation is forgotten")
        elif command == "/trace":
            self._show_decisions()
        elif command != "/quit":
            self.note(HELP if command == "/help" else f"there is no {command}; {HELP}")
        return command != "/quit"

    def _answer(self, text: str) -> None:
        messages = [*self.messages, Message(role="user", content=text)]
        screen = Screen(self._llm.config, show_trace=self._show_trace)
        try:
            result = show_answer(self._llm, messages, screen)
        except StarsGuardError as error:
            self.trace = error.trace
            self._notes.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
            return
        self.trace = result.trace
        if result.refused:
            self._notes.print("refused: no acceptable continuation was found", style="red")
        screen.finish(result)
        if not self._advised:
            show_advice(result.advice)
            self._advised = result.advice is not None
        # A turn that was stopped before anything was said never happened.
        if result.text:
            self.messages = [*messages, Message(role="assistant", content=result.text)]

    def _show_decisions(self) -> None:
        if self.trace is None:
            self.note("there is no answer yet")
        else:
            Console(highlight=False).print(trace_table(self.trace))
