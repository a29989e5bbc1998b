"""Ollama, LM Studio, TensorRT-LLM and mlx-lm, by stand-ins that take no more than their sources say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.errors import ConfigurationError, PromptError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading.engine_servers import load_engine_server
from stars_guard.models.engines.openai import OpenAICompatibleModel
from stars_guard.models.engines.profiles import LLAMA_CPP, LM_STUDIO, MLX_LM, TENSORRT_LLM, server_profile
from stars_guard.testing import KeywordReward
from stars_guard.types import Guarantee, StopReason
from tests.support.http_engine import FakeEngine, HttpEngine, TableTokenizer, written
from tests.support.http_judge import Reply

WORDS = TableTokenizer(("a", "b", ".", ""), 3)
PATHS = {"text": "/v1/completions", "chat": "/v1/chat/completions"}
OPENAI = {"model", "max_tokens", "temperature", "top_p", "seed", "stop"}
GUARD = GuardConfig(threshold=0, segments=2, drawing=2, acceptance="hard")
SAMPLING = SamplingParams(seed=3, max_tokens=6, top_p=1.0)


@dataclass(frozen=True)
class Server:
    """What a server takes, lists and requires."""

    fields: frozenset[str]
    """Of its calls, beside prompt and messages."""
    models: Any
    path: str = "/v1/models"
    needs_model: bool = True


SERVERS = {
    "ollama": Server(
        frozenset({*OPENAI, "response_format", "tools", "tool_choice"}), [{"id": "small:latest"}]
    ),
    "lmstudio": Server(
        frozenset({*OPENAI, "top_k", "repeat_penalty"}),
        [
            {"id": "other", "state": "not-loaded", "max_context_length": 9},
            {"id": "small", "state": "loaded", "max_context_length": 99, "loaded_context_length": 64},
        ],
        path="/api/v0/models",
    ),
    "trtllm": Server(
        frozenset(
            {*OPENAI, "top_k", "min_p", "repetition_penalty", "n", "detokenize", "add_special_tokens"}
            | {"include_stop_str_in_output", "stop_token_ids"}
        ),
        [{"id": "small"}],
    ),
    "mlx": Server(
        frozenset({*OPENAI, "top_k", "min_p", "repetition_penalty", "repetition_context_size"}),
        [{"id": "org/one"}, {"id": "org/two"}],
        needs_model=False,
    ),
}


class Strict(FakeEngine):
    """Answers as one of these servers, and 400 to what that would not take."""

    def __init__(self, name: str, *answers: Any) -> None:
        super().__init__(written(*(answers or [[0, 1, 0, 1, 2, 3]])), WORDS, same_seed=True)
        self.server = SERVERS[name]

    def __call__(self, handler: Any, body: Any) -> Reply:
        if handler.path == self.server.path:
            return Reply({"data": self.server.models})
        if body is None or not body.keys() - {"prompt", "messages"} <= self.server.fields:
            return Reply(status=400)
        if self.server.needs_model and "model" not in body:
            return Reply(status=400)
        return super().__call__(handler, body)

    def _chat(self, body: Any) -> Any:
        return super()._chat({**body, "continue_final_message": True})  # no echo of what was begun

    def completions(self, body: Any) -> Any:
        """Ids come instead of text, as TensorRT-LLM gives them."""
        if body.get("detokenize", True):
            return super().completions(body)
        answer = super().completions({**body, "return_token_ids": True})
        return {**answer, "choices": [{**choice, "text": ""} for choice in answer["choices"]]}


def answered(model: OpenAICompatibleModel, **sampling: Any) -> Any:
    llm = StarsGuardedLLM(model, KeywordReward(["x"], good=1.0), GUARD)
    return llm.generate("Q", sampling=SAMPLING, **sampling)


@pytest.mark.parametrize(
    ("name", "tokenizer", "level", "path"),
    [
        ("ollama", None, Guarantee.PREFILL, "chat"),
        ("ollama", WORDS, Guarantee.PREFILL, "chat"),
        ("lmstudio", None, Guarantee.PREFILL, "chat"),
        ("trtllm", WORDS, Guarantee.TOKEN_IDS, "text"),
        ("trtllm", None, Guarantee.WHOLE, "chat"),
        ("mlx", WORDS, Guarantee.TEXT, "text"),
        ("mlx", None, Guarantee.WHOLE, "chat"),
    ],
)
def test_a_server_is_asked_as_exactly_as_it_can_go_on(name, tokenizer, level, path):
    options = {} if tokenizer is None else {"tokenizer": tokenizer}
    with (
        HttpEngine(Strict(name)) as server,
        load_engine_server(f"{name}@{server.url}", **options) as model,
    ):
        assert model.guarantee is level
        result = answered(model)
        assert (result.text, result.stop_reason) == ("abab.", StopReason.EOS)
        assert result.trace.guarantee is level
        asked = server.engine.bodies[PATHS[path]]
        assert {body.get("model") for body in asked} == {served_as(name)}


def served_as(name: str) -> str | None:
    return {"ollama": "small:latest", "mlx": None}.get(name, "small")


def test_lm_studio_goes_on_by_text_where_its_tokenizer_is_and_says_how_much_fits():
    with (
        HttpEngine(Strict("lmstudio")) as server,
        load_engine_server(f"LM-Studio@{server.url}", tokenizer=WORDS, guarantee="text") as model,
    ):
        assert answered(model, top_k=5, repetition_penalty=1.2).text == "abab."
        body = server.engine.bodies["/v1/completions"][-1]
        assert (body["top_k"], body["repeat_penalty"]) == (5, 1.2)
        assert model.context_window == 64


def test_text_does_not_go_where_a_template_is_put_around_it():
    with HttpEngine(Strict("ollama")) as server:
        with pytest.raises(ConfigurationError, match="ollama cannot give guarantee text; take a weaker one"):
            load_engine_server(f"ollama@{server.url}", tokenizer=WORDS, guarantee="text")
        with (
            load_engine_server(f"ollama@{server.url}", guarantee="whole") as model,
            pytest.raises(PromptError, match="ollama cannot sample with top_k=5"),
        ):
            answered(model, top_k=5)


def test_a_model_is_named_with_or_without_its_tag():
    with (
        HttpEngine(Strict("ollama")) as server,
        load_engine_server(f"ollama@{server.url}#small") as model,
    ):
        assert model.name == "small:latest"
        answered(model)
        assert server.engine.bodies["/v1/chat/completions"][0]["model"] == "small"
        with pytest.raises(ConfigurationError, match="serves large as ollama would; it serves small:latest"):
            load_engine_server(f"ollama@{server.url}#large")


@pytest.mark.parametrize("count", [2, 9])
def test_which_of_several_models_must_be_said_where_the_server_has_to_know(count):
    listed = Reply({"data": [{"id": f"m{number}"} for number in range(count)]})
    with HttpEngine(Strict("ollama"), listed) as server:
        shown = "m0, m1" if count == 2 else "m0, .*m7, ..."
        with pytest.raises(ConfigurationError, match=f"serves {shown}; name the one that is meant: openai@"):
            load_engine_server(f"openai@{server.url}")


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("llama", LLAMA_CPP),
        ("llama.cpp", LLAMA_CPP),
        ("LM Studio", LM_STUDIO),
        ("TensorRT-LLM", TENSORRT_LLM),
        ("trtllm-serve", TENSORRT_LLM),
        ("mlx_lm", MLX_LM),
    ],
)
def test_case_and_punctuation_of_a_name_do_not_matter(name, profile):
    assert server_profile(name) is profile


def test_each_candidate_of_tensorrt_is_a_call_of_its_own_seed():
    with (
        HttpEngine(Strict("trtllm", [0] * 9, [1] * 9)) as server,
        load_engine_server(f"trtllm@{server.url}", tokenizer=WORDS) as model,
    ):
        config = GUARD.changed(drawing=Fixed(candidates=4), max_attempts=8)
        result = StarsGuardedLLM(model, KeywordReward(["a"], good=1.0), config).generate(
            "Q", sampling=SAMPLING, stop_token_ids=[7]
        )
        assert set(result.text) == {"b"}
        bodies = server.engine.bodies["/v1/completions"]
        assert not any("n" in body for body in bodies)
        assert all(body["stop_token_ids"] == [7] for body in bodies)
