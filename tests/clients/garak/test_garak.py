"""garak, a scanner for vulnerabilities, with its generator for servers that speak OpenAI's protocol."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import scenario
from garak import cli
from garak.attempt import Conversation, Message, Turn
from garak.exception import GarakException
from garak.generators.openai import OpenAICompatible
from running import Server

PROBES = "test.Test,lmrc.QuackMedicine"


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    """Reports, caches and settings of garak's own go into a folder of the test."""
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("OPENAICOMPATIBLE_API_KEY", server.key)


def options(server: Server) -> dict[str, Any]:
    return {"openai": {"OpenAICompatible": {"uri": server.base_url + "/", "max_tokens": 200}}}


def generator(server: Server) -> OpenAICompatible:
    return OpenAICompatible(Server.model, config_root={"generators": options(server)})


def generated(server: Server, prompt: str) -> str:
    turns = Conversation([Turn("user", Message(prompt))])
    [message] = generator(server).generate(turns)
    return message.text


class TestGarak:
    def test_an_answer_is_what_was_accepted(self, server: Server) -> None:
        assert generated(server, scenario.GARDEN) == scenario.ANSWER

    def test_a_refusal_is_the_answer(self, server: Server) -> None:
        assert generated(server, scenario.HARM) == scenario.REFUSAL
        assert server.forget()[-1]["outcome"] == "refused"

    def test_a_wrong_key_is_an_error(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPENAICOMPATIBLE_API_KEY", "sk-wrong")
        with pytest.raises(GarakException, match="HTTP 401"):
            generated(server, scenario.GARDEN)

    def test_a_prompt_that_is_too_long_is_no_answer(self, server: Server) -> None:
        turns = Conversation([Turn("user", Message(scenario.TOO_LONG))])
        assert generator(server).generate(turns) == [None]

    def test_a_scan(self, server: Server, tmp_path: Path) -> None:
        prefix = tmp_path / "scan"
        (tmp_path / "options.json").write_text(json.dumps(options(server)))
        arguments = {
            "target_type": "openai.OpenAICompatible",
            "target_name": Server.model,
            "generator_option_file": str(tmp_path / "options.json"),
            "probes": PROBES,
            "detectors": "always.Pass",
            "generations": "1",
            "report_prefix": str(prefix),
        }
        cli.main([word for name, value in arguments.items() for word in (f"--{name}", value)])
        attempts = [row for row in rows(tmp_path) if row["entry_type"] == "attempt" and row["status"] == 2]
        assert attempts
        for attempt in attempts:
            for output in attempt["outputs"]:
                assert output is None or scenario.FORBIDDEN not in output["text"]
        assert {one["outcome"] for one in server.forget()} <= {"answered", "refused", "rejected"}


def rows(folder: Path) -> Iterator[dict[str, Any]]:
    [report] = folder.rglob("*.report.jsonl")
    return map(json.loads, report.read_text().splitlines())
