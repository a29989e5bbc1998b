"""``stars-guard serve`` and ``stars-guard config``."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from stars_guard.server import process as running
from stars_guard.testing import ScriptedModel
from tests.support.cli_runner import ANSWER, Run, loaded, run
from tests.support.server_client import CHAT, asking
from tests.support.server_process import serving

__all__ = ["loaded", "run"]  # pytest finds fixtures by name

KEY = "sk-0123456789abcdef"
HASH = sha256(KEY.encode()).hexdigest()
CONFIG = f"""
served_name = "mine"
[limits]
running = 2
[[keys]]
name = "website"
sha256 = "{HASH}"
[reward]
kind = "remote"
url = "http://me:hidden@127.0.0.1:9/score?key=hidden"
format = "vllm_pooling"
http = {{api_key = "hidden", timeout = 3.0}}
[guard]
threshold = {{kind = "constant", target = 1.0}}
"""


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Applications and sockets that would be served, instead of serving them."""
    found: list[Any] = []

    def serve(app: Any, own: socket.socket) -> None:
        with socket.create_connection(own.getsockname(), timeout=5):  # it can be reached
            found.append((app, own.getsockname()[1]))

    monkeypatch.setattr(running, "serve", serve)
    monkeypatch.setattr("stars_guard.server.telemetry.logs.write_logs", lambda settings: None)
    for name in ("log_uncaught", "take_over"):
        monkeypatch.setattr(f"stars_guard.server.telemetry.library_logs.{name}", lambda *handler: None)
    monkeypatch.delenv("STARS_GUARD_CONFIG", raising=False)
    return found


def test_the_embedded_models_are_served_where_nothing_else_is_said(run: Run, served: list[Any]) -> None:
    done = run("serve", "--port", "0")
    assert done.code == 0
    ((app, port),) = served
    assert port > 0
    assert f"http://127.0.0.1:{port}/v1" in done.err
    assert app.state.service.config.model.kind == "embedded"


@pytest.mark.parametrize("by_name", [True, False])
def test_a_configuration_is_named_or_in_the_environment(
    run: Run, served: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_name: bool
) -> None:
    file = tmp_path / "guard.yaml"
    file.write_text("served_name: mine\nlimits: {running: 3}\n", "utf-8")
    if by_name:
        done = run("serve", "--port", "0", "--config", str(file))
    else:
        monkeypatch.setenv("STARS_GUARD_CONFIG", str(file))
        done = run("serve", "--port", "0")
    assert done.code == 0
    config = served[0][0].state.service.config
    assert (config.served_name, config.limits.running) == ("mine", 3)


def test_a_taken_port_is_said_before_anything_is_loaded(
    run: Run, served: list[Any], loaded: dict[str, Any]
) -> None:
    del loaded["model"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("serve", "--port", str(port))
    assert (done.code, served) == (2, [])
    assert done.err.startswith(f"error: --host 127.0.0.1 --port {port}: ")


def test_an_unknown_host(run: Run, served: list[Any]) -> None:
    done = run("serve", "--host", "no such host")
    assert (done.code, served) == (2, [])
    assert done.err.startswith("error: --host no such host: ")


def test_a_keyless_server_on_a_public_address_is_refused_before_anything_is_loaded(
    run: Run, served: list[Any], loaded: dict[str, Any]
) -> None:
    del loaded["model"]
    done = run("serve", "--host", "0.0.0.0", "--port", "0")
    assert (done.code, served) == (2, [])
    assert done.err.startswith("error: --host 0.0.0.0 is reached by others, and no key is asked for")
    assert "--allow-anonymous" in done.err


@pytest.mark.parametrize("by_flag", [True, False])
def test_unless_it_is_told_that_this_is_meant(
    run: Run, served: list[Any], monkeypatch: pytest.MonkeyPatch, by_flag: bool
) -> None:
    if not by_flag:
        monkeypatch.setenv("STARS_GUARD_ALLOW_ANONYMOUS", "1")
    flag = ["--allow-anonymous"] if by_flag else []
    done = run("serve", "--host", "0.0.0.0", "--port", "0", *flag)
    assert (done.code, len(served)) == (0, 1)


def test_or_has_keys(run: Run, served: list[Any], tmp_path: Path) -> None:
    file = tmp_path / "guard.toml"
    file.write_text(f"[[keys]]\nname = 'website'\nsha256 = '{HASH}'\n", "utf-8")
    done = run("serve", "--host", "0.0.0.0", "--port", "0", "--config", str(file))
    assert (done.code, len(served)) == (0, 1)


def test_models_that_cannot_be_loaded_are_one_line(
    run: Run, served: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: str, options: Any) -> None:
        raise RuntimeError("no such device")

    monkeypatch.setattr("stars_guard.loading.parts.load_reward", broken)
    done = run("serve", "--port", "0")
    assert (done.code, served) == (2, [])
    assert "error: loading the models failed: RuntimeError: no such device" in done.err


ONE_FILE = """
guard = {threshold = 1.0}
sampling = {temperature = 0.3, max_tokens = 9, seed = 5}
server = {host = "127.0.0.1", port = 0}
limits = {running = 2}
"""


def test_a_file_for_all_commands_is_found_and_what_has_no_effect_is_said(
    run: Run, served: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stars-guard.toml").write_text(ONE_FILE, "utf-8")
    done = run("serve")
    assert done.code == 0, done.err
    assert f"settings from {tmp_path / 'stars-guard.toml'}, found in the working directory" in done.err
    assert "sampling.seed has no effect on a server: every request has its own" in done.err
    ((app, port),) = served
    config = app.state.service.config
    assert (config.limits.default_tokens, config.sampling.temperature, config.limits.running) == (9, 0.3, 2)
    assert f"http://127.0.0.1:{port}/v1" in done.err
    checked = run("config", "check", "--json")
    assert json.loads(checked.out)["limits"]["default_tokens"] == 9
    (tmp_path / "alone.toml").write_text("threshold = 2.0\n", "utf-8")
    checked = run("config", "check", "alone.toml", "--json")
    assert json.loads(checked.out)["guard"]["threshold"]["target"] == 2.0
    (tmp_path / "stars-guard.toml").write_text("reward = 'a.py:b'\nguard = {threshold = 1.0}\n", "utf-8")
    for command in (["serve"], ["config", "check"]):
        assert "names code that would be run" in run(*command).err
    assert len(served) == 1
    (tmp_path / "stars-guard.toml").unlink()
    assert "there is no configuration: name one" in run("config", "check").err


PROCESS = """
import sys
from stars_guard.loading import parts
from stars_guard.cli.app import main
from stars_guard.testing import KeywordReward, ScriptedModel
from tests.support.cli_runner import SCRIPT

parts.load_model = lambda path, options: ScriptedModel(SCRIPT)
parts.load_reward = lambda path, options: KeywordReward(["poison"], good=9.0, bad=-9.0)
sys.exit(main(["serve", "--port", "0"]))
"""


def test_a_process_serves_and_ends_well() -> None:
    with serving(PROCESS) as (process, (host, port)):
        with httpx.Client(base_url=f"http://{host}:{port}", trust_env=False, timeout=30) as client:
            answer = client.post(CHAT, json=asking())
            assert answer.json()["choices"][0]["message"]["content"] == ANSWER
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        (line,) = [json.loads(line) for line in process.stderr or () if line.startswith("{")]
        assert (line["outcome"], line["status"]) == ("answered", 200)


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_check_shows_what_is_in_force_without_secrets(run: Run, tmp_path: Path, form: str) -> None:
    file = tmp_path / "guard.toml"
    file.write_text(CONFIG, "utf-8")
    done = run("config", "check", str(file), *(["--json"] if form == "json" else []))
    assert done.code == 0
    shown = json.loads(done.out) if form == "json" else yaml.safe_load(done.out)
    assert shown["limits"]["running"] == 2
    assert shown["limits"]["queued"] == 128
    assert shown["keys"][0]["name"] == "website"
    assert shown["reward"]["http"]["timeout"] == 3.0
    assert shown["reward"]["url"] == "http://***@127.0.0.1:9/score?***"
    assert HASH not in done.out
    assert "hidden" not in done.out + done.err


def test_check_warns_of_what_is_open(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "guard.toml"
    file.write_text("[shadow]\nenabled = true\n", "utf-8")
    done = run("config", "check", str(file))
    assert "no API keys: everybody may ask; SHADOW MODE" in done.err


WRONG = {
    "speed = 1": "unknown setting 'speed'",
    "[limits]\nrunning = 0": "limits: Limits: running=0: ",
    "[limits.requests]\ntarget = {least = 2.0, most = 1.0}": "least=2 is over most=1",
    "[model]\nkind = 'magic'": "magic",
    "[reward]\nkind = 'local'\npath = 'x'": "needs a section guard",
    "[guard]\nfile = 'nowhere.toml'": "nowhere.toml cannot be read",
    "[guard]\nfile = 'x.toml'\nmax_attempts = 3": "guard.file stands alone",
    "[sampling]\nmax_tokens = 3\n[limits]\ndefault_tokens = 4": "limits.default_tokens mean the same",
    f"[[keys]]\nname = 'a'\nsha256 = '{HASH}'\n[[keys]]\nname = 'a'\nsha256 = '{'0' * 64}'": "the same name",
    f"[[keys]]\nname = 'a'\nsha256 = '{HASH}'\n[[keys]]\nname = 'b'\nsha256 = '{HASH}'": "the same hash",
    f"[[keys]]\nname = 'a'\nsha256 = '{KEY}'": "stars-guard config hash-key",
    "not toml": "guard.toml",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_configuration_is_one_line(run: Run, tmp_path: Path, text: str) -> None:
    file = tmp_path / "guard.toml"
    file.write_text(text, "utf-8")
    done = run("config", "check", str(file))
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert WRONG[text] in done.err
    assert str(file) in done.err
    assert KEY not in done.err


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.ini", "", "neither .toml nor .yaml"),
        ("a.yaml", "a: [", "not YAML"),
        ("a.yaml", "- a", "holds no settings"),
        ("missing.toml", None, "cannot be read"),
    ],
)
def test_a_file_that_is_no_configuration(
    run: Run, tmp_path: Path, name: str, text: str | None, said: str
) -> None:
    file = tmp_path / name
    if text is not None:
        file.write_text(text, "utf-8")
    done = run("config", "check", str(file))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert said in done.err


def test_a_key_is_hashed_from_standard_input(run: Run) -> None:
    assert run("config", "hash-key", stdin=f"{KEY}\n").out == f"{HASH}\n"
    short = run("config", "hash-key", stdin="secret\n")
    assert (short.code, short.out) == (2, "")
    assert "secret" not in short.err


@pytest.mark.parametrize("package", ["fastapi", "uvicorn"])
def test_a_missing_extra_is_one_line(package: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None; from stars_guard.cli.app import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "serve"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert f"'{package}' is not installed; install it with: pip install 'stars-guard[serve]'" in done.stderr


def test_help_names_the_flags(run: Run, loaded: dict[str, Any]) -> None:
    assert isinstance(loaded["model"], ScriptedModel)
    out = run("serve", "--help").out
    assert all(flag in out for flag in ("--host", "--port", "--config", "--allow-anonymous"))
