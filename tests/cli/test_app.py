"""``stars-guard generate``, and how failures are reported; on fakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stars_guard.algorithm.trace import read_jsonl
from stars_guard.errors import ScoringError
from stars_guard.loading import parts
from stars_guard.loading.names import reward_spec
from stars_guard.loading.specs import EmbeddedModel
from stars_guard.testing import FailingReward, ScriptedModel
from tests.support.cli_runner import ANSWER, HARD, Run, loaded, run

__all__ = ["loaded", "run"]  # pytest finds fixtures by name


def test_generate_writes_accepted_text_only(run: Run) -> None:
    done = run("generate", "How do I bake?", *HARD)
    assert (done.code, done.out) == (0, ANSWER + "\n")
    assert done.err.startswith("23 of ")
    assert "4 attempts, 0 forced, ended by eos" in done.err


def test_generate_streams_piece_by_piece(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr("typer.echo", lambda text="", nl=True, err=False: written.append(text))
    run("generate", "How do I bake?", *HARD)
    assert written == ["Knead it.", " Then bake it.", ""] or written == ["Knead it. ", "Then bake it.", ""]


def test_reasoning_goes_to_stderr_and_the_trace_says_what_was_judged(
    run: Run, loaded: dict[str, Any]
) -> None:
    loaded["model"] = ScriptedModel([["<think>poison", "<think>Flour,"], [" water.</think>Mix."]])
    done = run("generate", "How do I bake?", "--show-trace", *HARD)
    assert done.out == "Mix.\n"
    assert "Flour," in done.err
    assert "poison" not in done.err
    assert done.err.count("(reasoning)") == 3  # of equally good parts the first is named
    quiet = run("generate", "How do I bake?", "--json", *HARD)
    assert json.loads(quiet.out)["reasoning"] == "Flour, water."
    assert "Flour" not in quiet.err


def test_json_is_one_object_on_stdout(run: Run) -> None:
    done = run("generate", "How do I bake?", "--json", "--max-tokens", "100", "--seed", "3", *HARD)
    result = json.loads(done.out)
    assert done.out.count("\n") == 1
    calls = ["tool_calls", "invalid_tool_calls", "forced_text"]
    assert list(result) == [
        "text",
        "reasoning",
        *calls,
        "token_ids",
        "refusal_from",
        "stop_reason",
        "usage",
        "trace",
    ]
    assert (result["text"], result["stop_reason"]) == (ANSWER, "eos")
    assert result["trace"]["sampling"]["seed"] == 3
    assert result["token_ids"] == [ord(one) for one in ANSWER]


def test_json_of_a_refusal(run: Run, loaded: dict[str, Any]) -> None:
    loaded["model"] = ScriptedModel([["poison"]])
    done = run("generate", "Hi", "--json", "--exhaustion", "refuse", "--max-attempts", "2", *HARD)
    assert done.code == 0
    assert json.loads(done.out)["stop_reason"] == "refused"
    assert "ended by refused" in done.err


def test_json_of_a_failure_leaves_stdout_empty(run: Run, loaded: dict[str, Any]) -> None:
    loaded["reward"] = FailingReward(ScoringError("the reward model is away"))
    done = run("generate", "Hi", "--json", *HARD)
    assert (done.code, done.out) == (1, "")
    assert done.err == "error: scoring with failing failed: ScoringError\n"


def test_show_trace_has_a_row_per_attempt(run: Run) -> None:
    done = run("generate", "How do I bake?", "--show-trace", *HARD)
    rows = [line.split() for line in done.err.splitlines()]
    assert [(row[0], row[1], row[-1]) for row in rows[1:5]] == [
        ("1", "1", "rejected"),
        ("1", "2", "accepted"),
        ("2", "1", "rejected"),
        ("2", "2", "accepted"),
    ]
    assert done.out == ANSWER + "\n"


LAST = ("--exhaustion", "last", "--floor", "-1")


def test_show_trace_names_forced_segments_and_refusals(run: Run, loaded: dict[str, Any]) -> None:
    loaded["model"] = ScriptedModel([["poison"]])
    forced = run("generate", "Hi", "--show-trace", "--max-attempts", "2", *HARD, *LAST)
    assert "rejected, attempt 2 forced" in forced.err
    assert "1 forced" in forced.err
    refused = run("generate", "Hi", "--show-trace", "--max-attempts", "2", *HARD)
    assert "rejected, answer refused" in refused.err


def test_candidates_may_be_drawn_for_least_tokens_or_least_time(run: Run) -> None:
    drawn = {}
    for goal in ("tokens", "time"):
        done = run("generate", "Hi", "--json", "--candidates", goal, *HARD, "--max-attempts", "20")
        drawn[goal] = [segment["drawn"] for segment in json.loads(done.out)["trace"]["segments"]]
    assert drawn["tokens"] == [2, 2]
    assert drawn["time"][0] == 4


def test_control_characters_do_not_reach_the_terminal(run: Run, loaded: dict[str, Any]) -> None:
    loaded["model"] = ScriptedModel([["a\x1b[2Jb\r\x9bc\td\n"]])
    assert run("generate", "Hi", *HARD).out == "a\ufffd[2Jb\ufffd\ufffdc\td\n"


def test_prompt_from_stdin_with_system_message(run: Run, loaded: dict[str, Any]) -> None:
    assert run("generate", "-", "--system", "Be brief.", *HARD, stdin="Bake?\n").code == 0
    (session,) = loaded["model"].sessions
    assert [(one["role"], one["content"]) for one in session.prompt.messages] == [
        ("system", "Be brief."),
        ("user", "Bake?\n"),
    ]


def test_raw_prompt(run: Run, loaded: dict[str, Any]) -> None:
    assert run("generate", "Once upon", "--raw", *HARD).code == 0
    assert loaded["model"].sessions[0].prompt.text == "Once upon"
    assert "--system" in run("generate", "Once", "--raw", "--system", "x", *HARD).err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nope"], "--nope"),
        (["--beta", "x"], "--beta"),
        (["--beta", "-1"], "beta=-1.0"),
        (["--beta", "1", "--rule", "hard"], "no effect"),
        (["--alpha", "1", "--schedule", "constant"], "no effect"),
        (["--start", "1"], "no effect"),
        (["--floor", "9", "--exhaustion", "last"], "is over the target"),
        (["--horizon", "9", "--schedule", "constant"], "no effect"),
        (["--segments", "words"], "words"),
        (["--candidates", "many"], "'many'"),
        (["--candidates", "0"], "candidates=0"),
        (["--max-tokens", "0"], "max_tokens=0"),
        (["--max-seconds", "0"], "max_seconds=0"),
        (["--stop", ""], "stop string is empty"),
        (["--reward", "some/classifier"], "--target"),
        (["--good", "safe"], "add --reward"),
        (["--model", "./nowhere"], "./nowhere is not a folder"),
        (["--trace-file", "nowhere/trace.jsonl"], "nowhere"),
    ],
)
def test_wrong_flags_are_one_line(run: Run, arguments: list[str], words: str) -> None:
    done = run("generate", "Hi", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert words in done.err


@pytest.mark.parametrize("arguments", [["generate"], ["bake"], ["replay", "nowhere.jsonl"]])
def test_wrong_commands_are_one_line(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)


def test_empty_prompt(run: Run) -> None:
    done = run("generate", " ", "--system", "Be brief.")
    assert (done.code, done.out) == (1, "")
    assert "the prompt is empty" in done.err


def test_foreign_errors_while_loading_are_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str | None, options: object) -> None:
        raise RuntimeError("no such device: foo")

    monkeypatch.setattr(parts, "load_model", fail)
    done = run("generate", "Hi", "--device", "foo")
    assert (done.code, done.err) == (
        2,
        "error: loading the models failed: RuntimeError: no such device: foo\n",
    )


def test_options_reach_the_loaders(run: Run, loaded: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def loader(kind: str) -> Callable[[str | None, object], object]:
        def load(path: str | None, options: object) -> object:
            seen.append((path, options))
            return loaded[kind]

        return load

    for kind in ("model", "reward"):
        monkeypatch.setattr(parts, f"load_{kind}", loader(kind))
    flags = ["--reward", "own/reward", "--good", "safe", "--good", "kind", "--reward-format", "pair"]
    assert run("generate", "Hi", *HARD, *flags, "--scale", "logit", "--device", "cpu").code == 0
    reward_options = {"format": "pair", "good": ("safe", "kind"), "scale": "logit", "device": "cpu"}
    assert seen == [(reward_spec("own/reward"), reward_options), (EmbeddedModel(), {"device": "cpu"})]


def test_trace_of_a_failure_is_kept(run: Run, loaded: dict[str, Any], tmp_path: Path) -> None:
    loaded["model"] = ScriptedModel([["poison"]])
    file = tmp_path / "trace.jsonl"
    flags = ["--exhaustion", "raise", "--max-attempts", "2", "--trace-file", str(file)]
    done = run("generate", "Hi", *flags, *HARD)
    assert done.code == 1
    assert "2 attempts rejected" in done.err
    assert [trace.attempts for trace in read_jsonl(file)] == [2]
