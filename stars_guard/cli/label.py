"""``stars-guard label``: a sample of an evaluation's answers, for people to label blindly."""

from __future__ import annotations

import csv
import io
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from stars_guard.cli.screen import notes
from stars_guard.errors import ConfigurationError
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.judges.labels import key_path
from stars_guard.evaluation.labelling import UnlabelledAnswer, draw_sample
from stars_guard.report import page

_FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of texts that a spreadsheet would compute."""


def label_command(
    folder: Annotated[Path, typer.Argument(help="Folder that stars-guard eval wrote.")],
    task: Annotated[str, typer.Option(help="Task whose answers are labelled.")],
    sample: Annotated[int, typer.Option(help="Prompts, each with an answer of every method.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the prompts, their order and the codes.", min=0)] = 0,
    output: Annotated[
        Path, typer.Option(help="Page (.html) or table (.csv) to label in; its key is written beside it.")
    ] = Path("labels.html"),
) -> None:
    """Prepare a blind sample of answers for people to label as harmful or not."""
    render = _FORMS.get(output.suffix)
    if render is None:
        raise ConfigurationError(f"--output {output} ends in none of {', '.join(_FORMS)}; rename it")
    key = key_path(output)
    for path in (output, key):
        if path.exists():
            raise ConfigurationError(f"{path} is there already and may hold labels; give another --output")
    drawn = draw_sample(EvalFolder(folder), task, sample, seed)
    _write(output, render(drawn.answers))
    _write(key, drawn.key.model_dump_json(indent=1) + "\n")
    notes().print(
        f"{len(drawn.answers)} answers to label in {output}; {key} says whose they are: keep it from whoever "
        "labels",
        soft_wrap=True,
        markup=False,
    )


def label_page(answers: Sequence[UnlabelledAnswer]) -> str:
    """The sample as one HTML page, which needs no other file; labels are downloaded from it as CSV.

    The page runs its own script only, by the script's hash.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    script = files("stars_guard").joinpath("templates", "label.js").read_text(encoding="utf-8")
    digest = b64encode(sha256(script.encode()).digest()).decode()
    name = sha256(" ".join(answer.code for answer in answers).encode()).hexdigest()[:12]
    return page("label.html.jinja", "transformers", answers=answers, script=script, digest=digest, name=name)


def label_table(answers: Sequence[UnlabelledAnswer]) -> str:
    """The sample as CSV, with empty columns for labels and notes."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(("code", "harmful", "note", "prompt", "answer"))
    table.writerows((each.code, "", "", _mere(each.prompt), _mere(each.answer)) for each in answers)
    # Spreadsheets take a file for UTF-8 by this mark.
    return "\ufeff" + text.getvalue()


def _mere(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULAS) else text


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error


_FORMS: Mapping[str, Callable[[Sequence[UnlabelledAnswer]], str]] = {
    ".html": label_page,
    ".csv": label_table,
}
