"""The page on extending says what is true: its files exist, its code runs, and one record is enough."""

from __future__ import annotations

import asyncio
import io
import os
import re
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from stars_guard import Constant, GuardConfig, Hard, Prompt, StarsGuardedLLM
from stars_guard.conformance import Status, check_reward
from stars_guard.models import OpenAICompatibleModel
from stars_guard.models.engines import profiles
from stars_guard.rewards.base import ScoreRequest, score_checked
from stars_guard.rewards.classifiers import presets
from stars_guard.rewards.judges import process_styles, prompts
from stars_guard.rewards.servers import formats
from stars_guard.testing import KeywordReward
from stars_guard.text.dialects import split
from stars_guard.types import Channel
from tests.support.http_engine import FakeEngine, HttpEngine, TableTokenizer, written

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.M | re.S)
MOST_FILES = 3
PLACEHOLDERS = {"NEW", "NEW.py", "PACKAGE"}


@dataclass(frozen=True)
class Row:
    """A row of a table: what can be added, the files that it touches, and what proves it."""

    section: str
    what: str
    files: tuple[str, ...]
    proofs: tuple[str, ...]


def rows() -> list[Row]:
    table: list[Row] = []
    for section in re.split(r"^## ", PAGE, flags=re.M)[1:]:
        title, _, text = section.partition("\n")
        for cells in re.findall(r"^\| (?!to add)([^-|][^|]*) \| ([^|]*) \| ([^|]*) \|$", text, flags=re.M):
            files, proofs = (tuple(re.findall(r"`([^`]+)`", cell)) for cell in cells[1:])
            table.append(Row(title, cells[0], files, tuple(proof for proof in proofs if "tests/" in proof)))
    return table


ROWS = rows()


@cache
def page() -> tuple[dict[str, Any], str]:
    """The names that the page defines, and what it prints."""
    namespace: dict[str, Any] = {}
    with redirect_stdout(io.StringIO()) as printed:
        for block in BLOCKS:
            exec(compile(block, "extending.md", "exec", dont_inherit=True), namespace)
    return namespace, printed.getvalue()


def named(name: str) -> Any:
    return page()[0][name]


# --- what the page names ---


def test_each_section_has_an_example_and_says_what_to_touch() -> None:
    titles = re.findall(r"^## (.*)", PAGE, flags=re.M)
    assert titles == [
        "A reward",
        "An engine",
        "A threshold schedule",
        "A dialect",
        "An endpoint",
        "A framework",
    ]
    assert {row.section for row in ROWS} == set(titles)
    assert all("```python" in section for section in re.split(r"^## ", PAGE, flags=re.M)[1:])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
def test_nothing_needs_more_than_three_files(row: Row) -> None:
    assert 1 <= len(row.files) <= MOST_FILES
    assert row.proofs


def test_every_path_exists() -> None:
    paths = re.findall(r"`((?:stars_guard|tests|docs|integrations)/[\w./-]*|Makefile)", PAGE)
    assert {path for row in ROWS for path in row.files} <= set(paths)
    for path in paths:
        parts = Path(path).parts
        new = next((place for place, part in enumerate(parts) if part in PLACEHOLDERS), len(parts))
        assert ROOT.joinpath(*parts[:new]).exists(), path


@pytest.mark.parametrize("proof", sorted({proof for row in ROWS for proof in row.proofs}))
def test_every_proof_exists(proof: str) -> None:
    path, _, name = proof.partition("::")
    assert not name or f"\ndef {name}(" in (ROOT / path).read_text("utf-8").replace("\nasync def", "\ndef")


# --- what the page builds ---


def test_what_is_printed_is_what_the_page_shows() -> None:
    printed = page()[1].splitlines()
    shown = re.findall(r"^print\(.*\)  # (.*)$", PAGE, flags=re.M)
    assert len(shown) > 3
    assert [line for line in printed if line in shown] == shown


def test_the_reward_keeps_the_contract() -> None:
    requests = [ScoreRequest(Prompt.of("Hi"), text, finished=False) for text in ("a", "b!!")]
    assert [reward.value for reward in score_checked(named("Calm")(), requests)] == [0.0, -2.0]
    report = check_reward(named("Calm")())
    assert report["answers"].status is Status.PASSED


def test_one_record_makes_a_classifier_known(monkeypatch: pytest.MonkeyPatch) -> None:
    preset = named("polite")
    monkeypatch.setattr(presets, "CLASSIFIERS", {**presets.CLASSIFIERS, "polite": preset})
    assert presets.find_preset("org/polite-bert") is presets.find_preset("anything", "polite") is preset
    assert preset.chosen(["polite", "rude"], None, None) == (None, ("rude",))


@pytest.mark.parametrize(
    ("module", "table", "choose"),
    [
        (prompts, "JUDGE_PROMPTS", "choose_prompt"),
        (process_styles, "STYLES", "choose_style"),
        (formats, "REMOTE_FORMATS", "choose_remote_format"),
        (profiles, "SERVERS", "server_profile"),
    ],
)
def test_one_record_makes_a_name_known(
    module: Any, table: str, choose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = getattr(module, table)
    record = next(iter(known.values()))
    monkeypatch.setattr(module, table, {**known, "mine": record})
    assert getattr(module, choose)("mine") is record


def test_the_engine_is_asked_as_its_profile_says() -> None:
    tokenizer = TableTokenizer(("bad", "good", ""), 2)
    engine = FakeEngine(written((0, 2), (1, 2)), tokenizer)
    config = GuardConfig(threshold=Constant(target=1.0), acceptance=Hard(), max_attempts=20)
    with HttpEngine(engine) as server, OpenAICompatibleModel(server.url, named("profile")) as model:
        result = StarsGuardedLLM(model, KeywordReward(["bad"]), config).generate("Hi")
    assert result.text == "good"
    assert all(body["top_k"] == -1 for body in engine.bodies["/v1/chat/completions"])


def test_a_class_and_its_place_in_one_file_make_a_schedule(tmp_path: Path) -> None:
    (example,) = (block for block in BLOCKS if "Schedule)" in block)
    (schedule,) = re.findall(r"^class .*?(?=^\S)", example, flags=re.M | re.S)
    rules = "stars_guard/algorithm/rules.py"
    source = (
        (ROOT / rules).read_text("utf-8").replace("Threshold: TypeAlias", f"{schedule}Threshold: TypeAlias")
    )
    changed_copy(tmp_path, rules, source.replace("FrontLoaded | Table,", "FrontLoaded | Table | Stepped,"))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", STEPPED_GUARD]
    process = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert process.stdout.split() == ["0.5"] * 6 + ["1.0"] * 6, process.stderr


STEPPED_GUARD = """
from stars_guard import GuardConfig, SamplingParams, StarsGuardedLLM, replay
from stars_guard.testing import KeywordReward, ScriptedModel

config = GuardConfig.model_validate_json('{"threshold": {"kind": "stepped", "target": 1.0}}')
llm = StarsGuardedLLM(ScriptedModel([["a"]] * 12), KeywordReward([]), config)
trace = llm.generate("Hi", sampling=SamplingParams(max_tokens=12)).trace
assert replay(trace) == []
print(*(attempt.threshold for segment in trace.segments for attempt in segment.attempts))
"""


def changed_copy(folder: Path, changed: str, source: str) -> None:
    """The package in a folder, by links, but for one file that has this source."""
    place, inside = ROOT, folder
    for part in Path(changed).parts:
        inside.mkdir(exist_ok=True)
        for path in place.iterdir() if place != ROOT else ():
            if path.name != part:
                (inside / path.name).symlink_to(path)
        place, inside = place / part, inside / part
    inside.write_text(source, encoding="utf-8")


@pytest.mark.parametrize("arguments", [{}, {"minutes": 40}, {"text": 'a "b"', "list": [1, None]}])
def test_the_dialect_reads_what_it_writes(arguments: dict[str, Any]) -> None:
    dialect = named("SHELL")
    call = dialect.call("bake", arguments)
    (part,) = (part for part in split(call, dialect, tools=True) if part.channel is Channel.TOOL)
    assert dialect.read(part.text, False) == [("bake", arguments)]
    for length in range(len(part.text)):
        assert len(dialect.read(part.text[:length], True)) == 1


def test_the_endpoint_answers_beside_the_others() -> None:
    async def answers() -> list[httpx.Response]:
        transport = httpx.ASGITransport(named("app"))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            return [await client.get(path) for path in ("/v1/guard/target", "/v1/models")]

    target, models = asyncio.run(answers())
    assert target.json() == {"target": 0.0}
    assert models.is_success


def test_the_adapter_guards_and_takes_options_for_one_call() -> None:
    adapter = named("adapter")
    assert adapter.complete("How do I bake bread?")["text"] == "Bake it."
    strict = adapter.complete("How do I bake bread?", target=1.0)
    assert strict["finish"] == "content_filter"
    assert strict["guard"]["refused"]
