"""The commands other than ``generate``, on fakes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stars_guard import embedded
from stars_guard.algorithm.trace import read_jsonl, write_jsonl
from stars_guard.cli.screen import Screen
from stars_guard.errors import ScoringError
from stars_guard.models.engines.written_states import WrittenStates
from stars_guard.testing import FailingReward, ScriptedModel
from stars_guard.text.transcript import Piece
from tests.support.cli_runner import ANSWER, HARD, Run, loaded, run
from tests.support.guards import hard

__all__ = ["loaded", "run"]  # pytest finds fixtures by name


def test_trace_file_replays(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    for seed in ("1", "2"):
        flags = ["--trace-file", str(file), "--seed", seed, "--keep-rejected-text"]
        assert run("generate", "Hi", *flags, *HARD).code == 0
    traces = list(read_jsonl(file))
    assert [trace.sampling.seed for trace in traces] == [1, 2]
    assert traces[0].segments[0].attempts[0].text == "Add poison. "
    assert run("replay", str(file)).out == "2 traces replay\n"


def test_replay_finds_a_changed_reward(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    run("generate", "Hi", "--trace-file", str(file), *HARD)
    (trace,) = read_jsonl(file)
    trace.segments[0].attempts[0].reward = 1.0
    write_jsonl(file, [trace])
    done = run("replay", str(file))
    assert done.code == 1
    assert f"{file}:2: " in done.err
    assert f"error: 1 of 2 traces in {file} do not replay" in done.err


def test_replay_of_something_else(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "trace.jsonl"
    file.write_text("{}\n")
    done = run("replay", str(file))
    assert (done.code, done.out) == (1, "")
    assert "not a trace" in done.err


def test_chat_remembers_and_forgets(run: Run, loaded: dict[str, Any]) -> None:
    done = run("chat", *HARD, stdin="Hello\n\nAnd then?\n/trace\n/reset\nHello\n/quit\nnever\n")
    contents = [[one["content"] for one in session.prompt.messages] for session in loaded["model"].sessions]
    assert contents == [["Hello"], ["Hello", ANSWER, "And then?"], ["Hello"]]
    assert done.code == 0
    assert done.out.count(ANSWER) == 3
    assert "segment" in done.out
    assert "forgotten" in done.err


def test_chat_survives_errors_and_unknown_commands(run: Run, loaded: dict[str, Any]) -> None:
    loaded["reward"] = FailingReward(ScoringError("the reward model is away"))
    done = run("chat", *HARD, stdin="/trace\n/nope\nHello\nHello again\n")
    assert done.code == 0
    assert "there is no answer yet" in done.err
    assert "there is no /nope" in done.err
    assert done.err.count("error: scoring with failing failed: ScoringError") == 2
    assert [len(session.prompt.messages) for session in loaded["model"].sessions] == [1, 1]


def test_chat_shows_refusals(run: Run, loaded: dict[str, Any]) -> None:
    loaded["model"] = ScriptedModel([["poison"]])
    done = run("chat", *HARD, "--max-attempts", "1", "--show-trace", stdin="Hello\n")
    assert "refused: no acceptable continuation was found" in done.err
    assert "I'm sorry" in done.out


def test_demo_writes_both_files(run: Run, tmp_path: Path) -> None:
    done = run("demo", "--output", str(tmp_path / "made" / "here"), "--max-tokens", "40", *HARD)
    assert done.code == 0
    assert "-1.00 → +1.00" in done.out
    assert (tmp_path / "made" / "here" / "report.html").read_text().startswith("<!DOCTYPE html>")
    made = json.loads((tmp_path / "made" / "here" / "report.json").read_text())
    assert made["version"] == 1
    assert 6 <= len(made["comparisons"]) <= 8
    first = made["comparisons"][0]
    assert first["unguarded"]["result"]["text"] == "Add poison. Then bake poison."
    assert first["guarded"]["result"]["text"] == ANSWER
    assert (first["unguarded"]["reward"], first["guarded"]["reward"]) == (-1.0, 1.0)


def test_demo_is_strict_where_nothing_else_is_said(run: Run, tmp_path: Path) -> None:
    flags = ["--output", str(tmp_path), "--segment-tokens", "32"]
    bar = "The bar is 1.5 here, where the settings that come with the model have 0.5."
    out = " ".join(run("demo", "--output", str(tmp_path)).out.split())
    assert bar in out
    config = json.loads((tmp_path / "report.json").read_text())["config"]
    assert (config["threshold"]["target"], config["floor"]) == (1.5, 0.5)
    assert "The bar is" not in run("demo", *flags, "--target", "0.5").out


def test_demo_json(run: Run, tmp_path: Path) -> None:
    done = run("demo", "--output", str(tmp_path), "--json", *HARD)
    assert json.loads(done.out)["model"] == "scripted"
    assert "report.html" in done.err


def test_demo_shows_long_answers_in_part(run: Run, loaded: dict[str, Any], tmp_path: Path) -> None:
    loaded["model"] = ScriptedModel([["word " * 80]])
    done = run("demo", "--output", str(tmp_path), *HARD)
    shown = " ".join(done.out.split())
    assert "word " * 41 not in shown
    assert "word…" in shown
    assert "135 million parameters" in shown
    assert (
        "135 million parameters"
        not in run("demo", "--output", str(tmp_path), "--model", "own/model", *HARD).out
    )


def test_prepare_prints_the_folders(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "chat_model", lambda: Path("models/chat"))
    monkeypatch.setattr(embedded, "harmlessness_reward", lambda: Path("models/reward"))
    assert (
        run("prepare").out
        == f"language model: {Path('models/chat')}\nreward model: {Path('models/reward')}\n"
    )


def test_train_reward_summarises(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measure = SimpleNamespace(dataset="diasafety", name="AUC", tokens=None, value=float("nan"), rows=3)
    fakes: dict[str, dict[str, Any]] = {
        "stars_guard.training.train": {
            "TrainingConfig": SimpleNamespace,
            "train": lambda config: config.output,
            "installed_base": lambda: Path("base"),
        },
        "stars_guard.training.evaluate": {"evaluate_model": lambda *_: SimpleNamespace(measures=(measure,))},
        "stars_guard.embedded.merge": {"merge_adapter": lambda *_: None},
        "stars_guard.training.probe": {
            "ProbeTraining": lambda **given: SimpleNamespace(**{"model": None, **given}),
            "train_probe": lambda config: config.output,
            "measure_probe": lambda folder, data, model: SimpleNamespace(measures=(measure,) * 2),
        },
    }
    for name, members in fakes.items():
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**members))
    monkeypatch.chdir(tmp_path)
    flags = ["--data", str(tmp_path), "--output", "adapter"]
    assert "no folder 'train'" in run("train-reward", *flags).err
    (tmp_path / "train").mkdir()
    assert run("train-reward", *flags).out.startswith("encoder in adapter, ")
    assert run("train-reward", *flags, "--kind", "probe").out.startswith("probe in adapter, ")
    (tmp_path / "eval").mkdir()
    assert "diasafety" in run("train-reward", *flags).out
    summary = json.loads(run("train-reward", *flags, "--json", "--steps", "2").out)
    assert (summary["kind"], summary["folder"]) == ("encoder", "adapter")
    assert summary["figures"] == [
        {"dataset": "diasafety", "name": "AUC", "tokens": None, "value": None, "rows": 3}
    ]
    summary = json.loads(run("train-reward", *flags, "--json", "--kind", "probe", "--model", "m").out)
    assert (summary["kind"], len(summary["figures"])) == ("probe", 2)


@pytest.mark.parametrize(
    ("flags", "model", "layers"),
    [
        (
            ["--model", "vllm@http://localhost:1", "--tokenizer", "t", "--states", "f:0,1,2"],
            {"tokenizer": "t", "states": WrittenStates(folder=Path("f"), layers=(0, 1, 2))},
            None,
        ),
        (["--model", "vllm:m", "--layers", "1,2"], {"path": "m", "hidden_layers": (1, 2)}, (1, 2)),
        (["--model", "vllm:m"], {"path": "m", "hidden_layers": ()}, None),
        (["--model", "m", "--layers", "1,2"], "m", (1, 2)),
    ],
)
def test_train_reward_describes_a_model_in_vllm(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: list[str], model: Any, layers: Any
) -> None:
    given: dict[str, Any] = {}

    def training(**options: Any) -> SimpleNamespace:
        given.update(options)
        return SimpleNamespace(**options)

    fake = SimpleNamespace(ProbeTraining=training, train_probe=lambda config: "out", measure_probe=None)
    monkeypatch.setitem(sys.modules, "stars_guard.training.probe", fake)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train").mkdir()
    done = run("train-reward", "--data", ".", "--output", "out", "--kind", "probe", *flags)
    assert done.code == 0, done.err
    assert given.get("layers") == layers
    if isinstance(model, str):
        assert given["model"] == model
    else:
        assert {name: getattr(given["model"], name) for name in model} == model


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--kind", "probe", "--steps", "3"], "--steps is for --kind encoder, not for probe"),
        (["--model", "m"], "--model is for --kind probe, not for encoder"),
        (["--output", "train/file/out"], "--output train/file/out is not a folder that can be made"),
        (["--kind", "probe", "--states", "f:0,1"], "--states are for a --model in vLLM; leave them out"),
        (["--kind", "probe", "--model", "vllm:m", "--layers", "x"], "--layers x holds no layers"),
        (["--kind", "probe", "--model", "vllm:m", "--states", "f:0,1"], "--states is for a server"),
        (["--kind", "tree"], "error: Invalid value for '--kind': 'tree' is not one of 'encoder', 'probe'"),
    ],
)
def test_train_reward_says_what_is_wrong_before_it_trains(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "file").touch()
    for name in ("train", "probe"):
        monkeypatch.setitem(sys.modules, f"stars_guard.training.{name}", None)
    done = run("train-reward", "--data", ".", "--output", "out", *flags)
    assert done.code == 2
    assert message in done.err


@pytest.mark.parametrize(
    ("no_color", "expected"),
    [("", ["Knead it. ", "\x1b[33mThen poison.\x1b[0m"]), ("1", ["Knead it. ", "Then poison."])],
)
def test_forced_text_is_yellow_on_a_terminal_that_has_colors(
    no_color: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    written: list[str] = []
    screen = Screen(hard())
    monkeypatch.setattr("stars_guard.cli.screen.typer.echo", lambda text="", nl=True: written.append(text))
    for piece in (Piece("Knead it. "), Piece("Then poison.", forced=True)):
        screen.piece(piece)
    assert written == expected


def test_forced_text_is_plain_in_a_pipe_and_counted_beside_it(run: Run, loaded: dict[str, Any]) -> None:
    loaded["model"] = ScriptedModel([["Knead it. "], ["Then poison."]])
    done = run("generate", "Hi", *HARD, "--exhaustion", "last", "--floor", "-9")
    assert done.out == "Knead it. Then poison.\n"
    assert "1 forced" in done.err
