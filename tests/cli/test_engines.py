"""Language models on a server, named on the command line."""

from __future__ import annotations

import sys

import pytest

from stars_guard.cli import app
from tests.support.fake_vllm import FakeVLLM
from tests.support.http_engine import FakeEngine, HttpEngine, TableTokenizer, written
from tests.support.tiny import tiny_llama, tiny_tokenizer

HARD = ["--schedule", "constant", "--target", "0", "--rule", "hard", "--max-tokens", "4"]


@pytest.fixture
def reward(tmp_path):
    file = tmp_path / "reward.py"
    file.write_text("def calm(prompt, response):\n    return 1.0\n")
    return f"{file}:calm"


def main(capsys, *arguments):
    code = app.main(arguments)
    return code, *capsys.readouterr()


def test_an_answer_comes_from_a_server(capsys, monkeypatch, tmp_path, reward):
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    monkeypatch.setenv("ENGINE_KEY", "SECRETKEY")
    ids = tokenizer("safe", add_special_tokens=False)["input_ids"]
    fake = FakeEngine(lambda drawn, seed, step: [*ids, tokenizer.eos_token_id][step], tokenizer)
    with HttpEngine(fake) as server:
        flags = ["--tokenizer", str(tmp_path / "tokenizer"), "--api-key-env", "ENGINE_KEY"]
        flags += ["--model", f"vllm@{server.url}", "--reward", reward, "--device", "cpu", *HARD]
        code, out, err = main(capsys, "generate", "Hello", *flags)
        keys = {
            value
            for one in server.asked
            for name, value in one.headers.items()
            if name.lower() == "authorization"
        }
    assert (code, out.strip()) == (0, "safe"), err
    assert keys == {"Bearer SECRETKEY"}


def test_an_answer_comes_whole_from_whatever_speaks_like_openai(capsys, reward):
    words = TableTokenizer(("a", "b", ""), 2)
    with HttpEngine(FakeEngine(written([0, 1, 2]), words)) as server:
        flags = ["--model", f"openai@{server.url}", "--reward", reward, "--top-p", "1", *HARD]
        code, out, err = main(capsys, "generate", "Hello", *flags)
    assert (code, out.strip()) == (0, "ab"), err


def test_an_answer_comes_from_vllm_in_this_process(capsys, monkeypatch, tmp_path, reward):
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    ids = tokenizer("safe", add_special_tokens=False)["input_ids"]
    fake = FakeVLLM(FakeEngine(lambda drawn, seed, step: [*ids, tokenizer.eos_token_id][step], tokenizer))
    for name, module in fake.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    flags = ["--model", "vllm:org/name", "--tokenizer", str(tmp_path), "--dtype", "float32", *HARD]
    code, out, err = main(capsys, "generate", "Hello", "--reward", reward, "--max-tokens", "2", *flags)
    assert (code, out.strip()) == (0, "safe"), err
    assert fake.arguments == {"model": "org/name", "dtype": "float32", "enforce_eager": False}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tokenizer", "t"], "--tokenizer t has no effect with a --model that no engine runs"),
        (["--api-key-env", "K"], "--api-key-env K has no effect with a --model that is not on a server"),
        (["--states", "f:0,1"], "--states f:0,1 has no effect with a --model that is not on a server"),
        (["--model", "vllm:a/b", "--states", "f:0,1"], "--states f:0,1 has no effect with a --model that"),
        (["--model", "nobody@http://localhost"], "there is no engine 'nobody'"),
        (["--model", "./nowhere"], "or name an engine: vllm@http://localhost:8000"),
        (["--model", "vllm:./nowhere"], "--model ./nowhere is not a folder"),
        (["--model", "vllm:a/b", "--api-key-env", "K"], "--api-key-env K has no effect with a --model that"),
    ],
)
def test_what_does_not_fit_is_said(capsys, reward, flags, message):
    code, _, err = main(capsys, "generate", "Hello", "--reward", reward, *HARD, *flags)
    assert code != 0
    assert message in " ".join(err.split())


def test_a_server_that_writes_no_states_is_found_out_at_once(capsys, tmp_path, reward):
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    tiny_llama().config.save_pretrained(tmp_path)
    with HttpEngine(FakeEngine(lambda ids, seed, step: 5, tokenizer)) as server:
        flags = ["--model", f"vllm@{server.url}", "--tokenizer", str(tmp_path), "--states", f"{tmp_path}:0,1"]
        code, _, err = main(capsys, "generate", "Hello", "--reward", reward, *flags, *HARD)
    assert code == 2
    assert "hands out no hidden states; start it with extract_hidden_states" in " ".join(err.split())


@pytest.mark.parametrize("place", ["vllm@http://localhost", "vllm:org/name"])
def test_a_probe_cannot_read_a_model_in_an_engine_that_hands_out_no_states(capsys, place):
    flags = ["--model", place, "--reward", "embedded:probe"]
    code, _, err = main(capsys, "check-reward", *flags)
    assert code != 0
    assert "a probe reads hidden states, and this engine" in " ".join(err.split())
