"""A poisoned word at every boundary: it is in no message, log line, file or span that somebody gets."""

from __future__ import annotations

import json
import logging
import traceback
from functools import partial
from types import SimpleNamespace

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from stars_guard.adapters import CallSettings, content_text, offered_tools, past_tool_call, requested_schema
from stars_guard.algorithm.config import SamplingParams
from stars_guard.algorithm.trace import read_jsonl
from stars_guard.batch.answers import failed
from stars_guard.batch.rows import Row, read_rows
from stars_guard.batch.runner import answers_here
from stars_guard.errors import GenerationError, PromptError, ScoringError, StarsGuardError
from stars_guard.models import OpenAICompatibleModel
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.prompts import Prompt, Tools
from stars_guard.rewards import FunctionReward, RemoteReward
from stars_guard.rewards.bridges.any_guardrail import AnyGuardrailReward, answer_only
from stars_guard.rewards.bridges.scikit import SklearnReward
from stars_guard.rewards.servers.formats import VLLM_CLASSIFY, RemoteFormat
from stars_guard.rewards.servers.scores import AnswerError
from stars_guard.server.telemetry.logs import JsonFormatter, TextFormatter
from stars_guard.server.telemetry.spans import Spans
from stars_guard.testing import FailingReward, ScriptedModel
from tests.support.guards import guarded, hard
from tests.support.http_judge import HttpJudge, Reply
from tests.support.server_client import CHAT, asking, quiet, served
from tests.support.tiny import tiny_llama, tiny_tokenizer

POISON = "xyzzy"
SCRIPT = [[f"a candidate {POISON}"]]


def raising(error):
    """A function of anything that raises ``error``, with a note that quotes as well."""

    def function(*anything):
        error.add_note(f"while reading {POISON}")
        raise error

    return function


def noted(text):
    """A scorer that fails in a task of its own."""

    async def function(prompt, response):
        raise ScoringError(text)

    return function


class Broken(ScriptedModel):
    """Fails at one method, and says what it read."""

    def __init__(self, method, error):
        super().__init__(SCRIPT)
        setattr(self, method, raising(error))


class BrokenSession(ScriptedModel):
    """Opens sessions that fail when their prompt is measured."""

    def start(self, prompt, sampling):
        session = super().start(prompt, sampling)
        measured = {"prompt_tokens": property(raising(GenerationError(POISON)))}
        session.__class__ = type("Session", (type(session),), measured)
        return session


class Classes:
    """A classifier that reads one text, and fails at the next."""

    classes_ = ("good", "bad")

    def predict_proba(self, texts):
        if texts == ["answer"]:
            return [[0.5, 0.5]]
        raise ValueError(texts[0])


KINDS = (ValueError, ScoringError, GenerationError, PromptError, StarsGuardError)
REWARDS = {
    **{f"reward raises {kind.__name__}": FunctionReward(raising(kind(POISON))) for kind in KINDS},
    **{f"fake raises {kind.__name__}": FailingReward(kind(POISON)) for kind in KINDS},
    "reward raises a group": FunctionReward(raising(ExceptionGroup(POISON, [ValueError(POISON)]))),
    "reward raises in a task": FunctionReward(noted(POISON)),
    "reward returns text": FunctionReward(lambda prompt, response: response),
    "guardrail answers text": AnyGuardrailReward(
        SimpleNamespace(validate=lambda text: SimpleNamespace(valid=True, score=POISON)),
        ask=answer_only,
        read=lambda output: output.score,
        name="rail",
    ),
    "classifier raises": SklearnReward(Classes(), good="good", name="classes"),
}
MODELS = {
    f"{method} raises {kind.__name__}": Broken(method, kind(POISON))
    for method in ("start", "propose")
    for kind in KINDS
} | {"session raises": BrokenSession(SCRIPT)}
GUARDS = {
    **{name: partial(guarded, SCRIPT, reward) for name, reward in REWARDS.items()},
    **{name: partial(guarded, model, None) for name, model in MODELS.items()},
}


def told(error):
    """All that an error says by itself; a foreign one that it is chained to may say more."""
    parts = [str(error), repr(error), repr(error.args), repr(getattr(error, "__notes__", ()))]
    return "\n".join([*parts, *traceback.format_exception_only(error)])


def logged(caplog):
    """The log as a server writes it, in both of its forms."""
    return "\n".join(
        form.format(record) for record in caplog.records for form in (JsonFormatter(), TextFormatter())
    )


def clean(caplog, *things):
    for thing in things:
        assert POISON not in (thing if isinstance(thing, str) else json.dumps(thing, default=str))
    assert POISON not in logged(caplog)


@pytest.mark.parametrize("on_error", ["raise", "stop"])
@pytest.mark.parametrize("name", GUARDS)
def test_what_a_model_or_a_reward_raises_is_named_by_its_kind(name, on_error, caplog):
    caplog.set_level(logging.INFO)
    try:
        result = GUARDS[name](hard(on_error=on_error)).generate("x")
    except StarsGuardError as error:
        clean(caplog, told(error), str(error.trace))
    else:
        clean(caplog, str(result.trace.model_dump()))


@pytest.mark.parametrize("name", GUARDS)
def test_neither_does_a_batch_file_hold_it(name, caplog):
    (done,) = answers_here(GUARDS[name](), [Row(id="a", prompt="x")], 1)
    assert done.answer.error is not None
    clean(caplog, done.answer.line(), done.trace.model_dump_json() if done.trace else "")
    written = failed("a", 1, PromptError("p")).answer.line()
    assert json.loads(written)["error"] == {"type": "PromptError", "message": "p"}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", GUARDS)
async def test_neither_does_a_server_say_log_or_trace_it(name, stream, caplog):
    caplog.set_level(logging.INFO)
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with served(GUARDS[name](), quiet(), [Spans(provider)]) as http:
        answer = await http.post(CHAT, json=asking(stream=stream))
    provider.shutdown()
    (span,) = exporter.get_finished_spans()
    assert answer.status_code >= 400
    clean(caplog, answer.text, str(answer.headers), span.to_json())


# --- servers ---------------------------------------------------------------------------------------------

ONE_TOKEN = {"completion_tokens": 1}
ECHOES = {
    "a refusal that quotes": Reply({"error": {"message": POISON}}, status=400),
    "an outage that quotes": Reply({"error": {"message": POISON}}, status=500),
    "no JSON": Reply(raw=POISON.encode()),
    "a text": Reply(POISON),
    "a place elsewhere": Reply(status=302, headers={"Location": f"http://127.0.0.1/{POISON}"}),
    "no choices": Reply({"choices": POISON}),
    "a strange end": Reply({"choices": [{"text": "a", "finish_reason": POISON}], "usage": ONE_TOKEN}),
    "no tokens": Reply({"choices": [{"text": POISON, "finish_reason": "stop"}], "usage": POISON}),
    "another text": Reply({"choices": [{"text": [POISON], "finish_reason": "stop"}], "usage": ONE_TOKEN}),
    "texts for numbers": Reply({"data": [{"index": 0, "probs": [POISON, POISON]}]}),
    "a text for a number": Reply({"data": [{"index": POISON, "probs": [0.5, 0.5]}]}),
    "labels": Reply({"data": [{"index": 0, "probs": {POISON: 0.5}}]}),
}


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
def test_what_an_engine_echoes_is_not_quoted(echo, caplog):
    caplog.set_level(logging.INFO)
    with (
        HttpJudge(echo) as engine,
        OpenAICompatibleModel(engine.url, "openai", guarantee="text") as model,
        pytest.raises(GenerationError) as caught,
    ):
        guarded(model).generate(Prompt.raw(POISON))
    clean(caplog, told(caught.value))


def quoting(answer):
    raise AnswerError(f"cannot read {answer}")


FORMATS = {
    "built in": "vllm_classify",
    "raises": RemoteFormat(VLLM_CLASSIFY.body, lambda answer: [float(str(answer))], ("text",), "logit"),
    "quotes": RemoteFormat(VLLM_CLASSIFY.body, quoting, ("text",), "logit"),
}


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES)
def test_what_a_scoring_server_echoes_is_not_quoted(echo, form, caplog):
    caplog.set_level(logging.INFO)
    with (
        HttpJudge(echo) as judge,
        RemoteReward(f"{judge.url}/classify", form) as reward,
        pytest.raises(ScoringError) as caught,
    ):
        guarded(SCRIPT, reward).generate("x")
    clean(caplog, told(caught.value))


# --- what users send -------------------------------------------------------------------------------------

QUOTING_TEMPLATE = "{{ raise_exception('not ' + messages[0]['content']) }}"
TOOL = {"type": "function", "function": {"name": POISON, "parameters": {"type": "object", "properties": {}}}}
NAMED = {"type": "function", "function": {"name": f"no{POISON}"}}
CALL = {"function": {"name": POISON, "arguments": POISON}}


def templated(template):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    return TransformersModel(tiny_llama(vocab_size=len(tokenizer)), tokenizer)


def row_of_a_file(tmp_path, **fields):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(fields))
    return list(read_rows(path))


WRONG = {
    "template raises": lambda path: templated(QUOTING_TEMPLATE).encode(Prompt.of(POISON)),
    "template adds": lambda path: templated("{{ 1 + messages[0]['content'] }}").encode(Prompt.of(POISON)),
    "tools of one name": lambda path: Tools((TOOL, TOOL)),
    "tool without a name": lambda path: Tools(({"name": POISON},)),
    "unknown tool choice": lambda path: Tools((TOOL,), choice=f"not {POISON}"),
    "call without arguments": lambda path: Prompt.of(
        [{"role": "assistant", "content": "", "tool_calls": [CALL]}]
    ),
    "message": lambda path: Prompt.of([{"role": POISON, "content": [POISON]}]),
    "schema keyword": lambda path: guarded(templated("{{ messages[0]['content'] }}")).generate(
        "x", sampling=SamplingParams(response_schema={"type": POISON})
    ),
    "schema": lambda path: SamplingParams(response_schema=POISON),
    "stop string": lambda path: SamplingParams(stop=[POISON, 5]),
    "number": lambda path: SamplingParams(temperature=POISON),
    "row": lambda path: Row(id="a", prompt=POISON, messages=POISON, seed=POISON),
    "row's sampling": lambda path: Row(
        id="a", prompt=POISON, sampling={"stop": [POISON, ""], "top_p": POISON}
    ),
    "row of a file": lambda path: row_of_a_file(path, prompt=[POISON], seed=POISON),
    "request of a file": lambda path: row_of_a_file(path, body={"prompt": POISON, "temperature": POISON}),
    "call option": lambda path: CallSettings.of({"max_tokens": POISON, "stop": 5}),
    "tool choice of a call": lambda path: offered_tools([TOOL], [POISON]),
    "named tool of a call": lambda path: offered_tools([TOOL], f"not {POISON}"),
    "response format": lambda path: requested_schema({"type": POISON}),
    "content": lambda path: content_text([{"type": POISON, POISON: POISON}]),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_request_is_said_without_its_texts(wrong, tmp_path, caplog):
    with pytest.raises(StarsGuardError) as caught:
        wrong(tmp_path)
    clean(caplog, told(caught.value))


def test_what_is_left_out_of_a_past_turn_is_logged_without_its_texts(caplog):
    caplog.set_level("DEBUG", logger="stars_guard")  # a server of another test may have set it
    past_tool_call("c", POISON, POISON)
    content_text([{"type": POISON, POISON: POISON}, {"type": "image", "url": POISON}], past=True)
    assert len(caplog.records) == 3
    clean(caplog, "")


def test_a_refusal_in_a_templates_own_words_is_told():
    with pytest.raises(PromptError, match=r"these messages: no users$"):
        templated("{{ raise_exception('no users') }}").encode(Prompt.of("Hi"))


def test_a_trace_file_is_not_quoted(tmp_path):
    path = tmp_path / "traces.jsonl"
    path.write_text(json.dumps({"version": POISON, "segments": [{"attempts": [{"text": POISON}]}]}))
    with pytest.raises(StarsGuardError) as caught:
        next(read_jsonl(path))
    assert POISON not in told(caught.value)


BODIES = {
    "model": {"model": POISON},
    "role": {"messages": [{"role": POISON, "content": POISON}]},
    "part": {"messages": [{"role": "user", "content": [{"type": POISON, "text": POISON}]}]},
    "content": {"messages": [{"role": "user", "content": {POISON: POISON}}]},
    "number": {"temperature": POISON},
    "stop": {"stop": [POISON, ""]},
    "stop of another kind": {"stop": {POISON: POISON}},
    "choice": {"tools": [TOOL], "tool_choice": POISON},
    "named choice": {
        "tools": [TOOL],
        "tool_choice": {"type": "function", "function": {"name": f"no{POISON}"}},
    },
    "tools of one name": {"tools": [TOOL, TOOL]},
    "tool": {"tools": [{"type": POISON}]},
    "format": {"response_format": {"type": POISON}},
    "past call": {"messages": [{"role": "assistant", "content": " ", "tool_calls": [CALL]}]},
    "setting": {"stars": {"target": POISON}},
    "bias": {"logit_bias": {POISON: 1}},
}


@pytest.mark.parametrize("fields", BODIES.values(), ids=BODIES)
async def test_a_server_repeats_no_value_of_a_request(fields, caplog):
    caplog.set_level(logging.INFO)
    async with served() as http:
        answer = await http.post(CHAT, json=asking(**fields))
        broken = await http.post(CHAT, content=f'{{"messages": "{POISON}" {POISON}')
    assert answer.status_code in (400, 404)
    assert broken.status_code == 400
    clean(caplog, answer.text, broken.text)
