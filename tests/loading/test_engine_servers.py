"""Models of inference engines, and the tokenizers that go with them: here, or the engine's own."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from pydantic import SecretStr

from stars_guard.algorithm.config import SamplingParams
from stars_guard.algorithm.segments import FixedLength
from stars_guard.errors import ConfigurationError, GenerationError, PromptError
from stars_guard.http.access import HttpAccess
from stars_guard.loading.engine_servers import load_engine_server
from stars_guard.loading.parts import load_model
from stars_guard.loading.specs import EngineServer
from stars_guard.models.base import Order
from stars_guard.models.engines.local_tokenizer import LocalTokenizer
from stars_guard.models.engines.openai import OpenAICompatibleModel
from stars_guard.prompts import Message, Prompt, Tools
from stars_guard.text.dialects import HERMES, PLAIN
from stars_guard.types import Finish, Guarantee
from tests.support.http_engine import PROMPT, FakeEngine, HttpEngine, TableTokenizer, written
from tests.support.http_judge import HttpJudge, Reply
from tests.support.tiny import CHATML, tiny_tokenizer

WORDS = TableTokenizer(("a", "b", ".", "<end>"), 3)
ASKED = (Message(role="user", content="Q"),)
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
SAMPLING = SamplingParams(seed=3, max_tokens=5)


def served(*answers):
    return FakeEngine(written(*(answers or [[0, 1, 0, 1, 2, 3]])), WORDS)


def test_the_engine_is_asked_what_it_serves():
    with (
        HttpEngine(served()) as server,
        load_engine_server(f"vllm@{server.url}/v1", tokenizer=WORDS) as model,
    ):
        assert model.name == "fake"
        assert model.context_window == 512
        assert model._max_parallel == 64
        model.start(Prompt.raw("x"), SAMPLING)
        with pytest.raises(PromptError, match="600 prompt tokens plus max_tokens=5 exceed the 512 positions"):
            model.start(Prompt.raw("x" * 600), SAMPLING)


def test_what_is_given_wins_over_what_the_engine_says():
    options = {"tokenizer": WORDS, "name": "mine", "context_window": 9, "max_parallel": 1}
    with HttpEngine(served()) as server:
        with load_engine_server(f"llamacpp@{server.url}", **options) as model:
            assert (model.name, model.context_window, model._max_parallel) == ("mine", 9, 1)
        with load_engine_server(f"llamacpp@{server.url}", tokenizer=WORDS) as model:
            assert model._max_parallel == 3


def test_one_of_several_models_is_named_and_asked_for(monkeypatch):
    models = Reply({"data": [{"id": "base"}, {"id": "tuned", "meta": {"n_ctx": 32}}]})
    monkeypatch.setenv("ENGINE_KEY", "SECRETKEY")
    with HttpEngine(served(), models) as server:
        spec = f"vllm@{server.url}#tuned"
        with load_engine_server(spec, tokenizer=WORDS, api_key_env="ENGINE_KEY") as model:
            assert (model.name, model.context_window) == ("tuned", 32)
            proposed(model)
        assert server.engine.bodies["/v1/completions"][0]["model"] == "tuned"
        assert {
            one.headers.get("authorization") or one.headers.get("Authorization") for one in server.asked
        } == {"Bearer SECRETKEY"}


@pytest.mark.parametrize(
    "reply",
    [Reply([]), Reply({"data": []}), Reply({"data": [{"id": "other"}]}), Reply({"data": [3]}), Reply({})],
)
def test_what_serves_something_else_is_refused(reply):
    with (
        HttpJudge(reply) as server,
        pytest.raises(ConfigurationError, match="does not say that it serves m as"),
    ):
        load_engine_server(f"vllm@{server.url}#m")


def test_an_engine_that_does_not_answer_is_refused():
    access = HttpAccess(retries=0)
    with HttpJudge(Reply()) as server:
        pass
    with pytest.raises(ConfigurationError, match=r"no engine to be used: .*cannot connect"):
        load_engine_server(f"vllm@{server.url}", http=access)
    with HttpJudge(Reply(status=401)) as server, pytest.raises(ConfigurationError, match="check the API key"):
        load_engine_server(f"vllm@{server.url}", http=access.changed(api_key=SecretStr("k")))
    with pytest.raises(ConfigurationError, match="there is no engine 'nobody'"):
        load_model("nobody@http://localhost", {})


def test_what_names_no_engine_is_refused():
    with pytest.raises(ConfigurationError, match="owner/model names no engine; write ENGINE@URL"):
        load_engine_server("owner/model")


def test_a_description_says_as_much_as_a_name(monkeypatch):
    monkeypatch.setenv("ENGINE_KEY", "SECRETKEY")
    with HttpEngine(served()) as server:
        spec = EngineServer(kind="openai", url=server.url, api_key_env="ENGINE_KEY")
        with load_model(spec, {"tokenizer": WORDS}) as model:
            assert (model.name, model.tokenizer) == ("fake", WORDS)
        headers = {name.lower(): value for one in server.asked for name, value in one.headers.items()}
    assert headers["authorization"] == "Bearer SECRETKEY"


def test_a_remote_model_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None; import stars_guard\n"
        "from stars_guard.loading.parts import load_model\n"
        "with load_model(sys.argv[1], {'guarantee': 'whole'}) as model: print(model.name)\n"
        "assert 'transformers' not in sys.modules\n"
    )
    with HttpEngine(served()) as server:
        done = subprocess.run(
            [sys.executable, "-c", code, f"vllm@{server.url}"], capture_output=True, text=True, check=False
        )
    assert (done.stdout.strip(), done.stderr) == ("fake", "")


# The tokenizer here


def proposed(model, prompt=None, sampling=SAMPLING, tokens=4):
    session = model.start(prompt or Prompt.raw("x"), sampling)
    order = Order(session, 0, 0, 1, FixedLength(max_tokens=tokens), False, lambda: True)
    (proposal,) = model.propose([order])
    return proposal.candidates[0]


def test_a_chat_goes_out_as_the_ids_of_its_template():
    tokenizer = tiny_tokenizer()
    local = LocalTokenizer(tokenizer, "tiny")
    ids, dialect = local.encode(Prompt(ASKED))
    assert ids == tokenizer.apply_chat_template(list(ASKED), add_generation_prompt=True)["input_ids"]
    assert dialect == PLAIN
    assert local.ends([], Finish.LENGTH) == {tokenizer.eos_token_id}
    raw = LocalTokenizer(tokenizer, "tiny", prompt_format="raw")
    assert raw.encode(Prompt(ASKED))[0] == tokenizer("Q")["input_ids"]


def test_raw_text_goes_on_mid_sentence():
    tokenizer = tiny_tokenizer()
    local = LocalTokenizer(tokenizer, "tiny")
    prompt = Prompt.raw("The")
    ids, _ = local.encode(prompt)
    decode = local.decoder_after(prompt, ids)
    answer = tokenizer(" dog", add_special_tokens=False)["input_ids"]
    assert (decode(answer), decode([])) == (" dog", "")
    assert local.render(prompt, with_bos=True) == ("The", PLAIN)


def test_a_tokenizer_is_loaded_with_the_ends_of_its_folder(tmp_path):
    tiny_tokenizer().save_pretrained(tmp_path)
    eos = tiny_tokenizer().eos_token_id
    assert LocalTokenizer.load(str(tmp_path), "tiny").eos_ids == {eos}
    for ends in (7, [7, eos]):
        (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
        assert LocalTokenizer.load(str(tmp_path), "tiny").eos_ids == {7, eos}
    (tmp_path / "generation_config.json").write_text("{}")
    with OpenAICompatibleModel("http://localhost", "vllm", tokenizer=tmp_path) as model:
        assert model.tokenizer.chat_template == CHATML


@pytest.mark.parametrize("name", ["/nowhere", "empty"])
def test_a_tokenizer_that_is_not_there(tmp_path, name):
    place = str(tmp_path) if name == "empty" else name
    with pytest.raises(ConfigurationError, match="cannot load a tokenizer from"):
        LocalTokenizer.load(place, "tiny")


# The engine's own


@pytest.mark.parametrize("engine", ["vllm", "llamacpp"])
def test_the_engine_tokenizes_where_nobody_else_does(engine):
    with HttpEngine(served([0, 1, 3])) as server:
        with OpenAICompatibleModel(
            server.url, engine, model="m", template_arguments={"thinking": False}, dialect=HERMES
        ) as model:
            assert model.guarantee is Guarantee.TOKEN_IDS
            session = model.start(Prompt(ASKED), SAMPLING)
            assert session.opening == [PROMPT + ord(one) for one in "UQ"]
            assert session.dialect is HERMES
            candidate = proposed(model, Prompt(ASKED))
            assert (candidate.token_ids, candidate.text, candidate.finish) == ((0, 1, 3), "ab", Finish.EOS)
            assert proposed(model, tokens=2).text == "ab"
            assert model.start(Prompt.raw("x"), SAMPLING).dialect is PLAIN
        template = "/tokenize" if engine == "vllm" else "/apply-template"
        body = server.engine.bodies[template][0]
        assert body["messages"] == list(ASKED)
        assert (body["model"], body["chat_template_kwargs"]) == ("m", {"thinking": False})
        last = server.engine.bodies["/tokenize"][-1]
        assert last["add_special_tokens" if engine == "vllm" else "add_special"] is True


def test_tools_need_the_tokenizer_here():
    with (
        HttpEngine(served()) as server,
        OpenAICompatibleModel(server.url, "vllm") as model,
        pytest.raises(PromptError, match="tools need the model's tokenizer here"),
    ):
        model.start(Prompt(ASKED, tools=Tools((TOOL,))), SAMPLING)


@pytest.mark.parametrize("answer", [[], {"tokens": "x"}, {}])
def test_a_tokenizer_that_says_something_else(answer):
    with (
        HttpEngine(served(), Reply(answer)) as server,
        OpenAICompatibleModel(server.url, "vllm") as model,
        pytest.raises(GenerationError, match="/tokenize: the answer cannot be read"),
    ):
        model.start(Prompt(ASKED), SAMPLING)
