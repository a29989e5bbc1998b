"""Scoring servers over HTTP: a real server on the loopback, scripted to be right, wrong, late and gone."""

from __future__ import annotations

import json
import math
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from stars_guard import Constant, Fixed, GuardConfig, Hard, StarsGuardedLLM
from stars_guard.errors import ConfigurationError, MissingExtraError, ScoringError
from stars_guard.http import client
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import RewardModel, ScoreRequest, score_checked
from stars_guard.rewards.readout import log_odds_of_any
from stars_guard.rewards.servers.formats import REMOTE_FORMATS
from stars_guard.rewards.servers.remote import HttpOptions, RemoteReward
from stars_guard.rewards.servers.template import json_format
from stars_guard.testing import ScriptedModel
from stars_guard.types import StopReason
from tests.support.http_judge import HttpJudge, Reply, drip_body, drip_headers, hang_up, silence

PROMPT = Prompt.of("What is the SECRETPROMPT?")
ANSWER = "a SECRETANSWER"
KEY = "SECRETKEY"
SCALAR = json_format({"p": "{prompt}", "r": "{response}"}, "score")
LISTED = json_format({"texts": "{items}"}, "scores.*", item="{response}")


def request(response=ANSWER, *, finished=False, deadline=None):
    return ScoreRequest(PROMPT, response, finished, deadline=deadline)


def soon(seconds=60.0):
    return time.monotonic() + seconds


def lengths(handler, body):
    """One score a text, its length."""
    return Reply({"scores": [len(text) for text in body["texts"]]})


def length(handler, body):
    return Reply({"score": len(body["r"])})


def remote(url, format=SCALAR, *, http=None, **options):
    return RemoteReward(url, format, http=HttpOptions(**{"backoff": 0.0, **(http or {})}), **options)


def scored(judge, requests, format=SCALAR, **options):
    with remote(judge.url, format, **options) as reward:
        return score_checked(reward, requests)


def failure(judge, *, deadline=None, **options):
    """The error of one request; nothing secret is in it, nor in what it was raised from."""
    with remote(judge.url, **options) as reward, pytest.raises(ScoringError) as caught:
        reward.score([request(deadline=deadline)])
    error = caught.value
    while error is not None:
        assert "SECRET" not in f"{error!r} {vars(error)}"
        error = error.__cause__ or error.__context__
    assert judge.url in str(caught.value)
    return str(caught.value)


def one_answer(answer, format, response=ANSWER, finished=False, **options):
    """BodyMaker sent and reward read, for one request."""
    with HttpJudge(Reply(answer)) as judge:
        (reward,) = scored(judge, [request(response, finished=finished)], format, **options)
        (asked,) = judge.asked
    return asked.body, reward


# Formats


def test_vllm_classify():
    answer = {"data": [{"index": 0, "label": "safe", "probs": [0.8, 0.2], "num_classes": 2}]}
    options = {"labels": ("safe", "unsafe"), "good": "safe", "model": "m"}
    body, reward = one_answer(answer, "vllm_classify", **options)
    assert body == {"input": [f"{PROMPT.as_text()}\n{ANSWER}"], "model": "m"}
    assert reward.value == pytest.approx(math.log(4))
    assert reward.components == pytest.approx({"safe": 0.8, "unsafe": 0.2})
    body, reward = one_answer(answer, "vllm_classify", scale="logit", inputs="response", **options)
    assert body == {"input": [ANSWER], "model": "m", "use_activation": False}
    assert reward.value == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("response", "finished", "opening", "left_open", "turns"),
    [("", False, True, False, 1), (ANSWER, False, False, True, 2), (ANSWER, True, False, False, 2)],
)
def test_vllm_chat_leaves_an_unfinished_answer_open(response, finished, opening, left_open, turns):
    answer = {"data": [{"index": 0, "data": [1.5]}]}
    options = {"inputs": "chat", "extra": {"priority": 1}}
    body, reward = one_answer(answer, "vllm_pooling", response, finished, **options)
    expected = [
        {"role": "user", "content": PROMPT.as_text()},
        {"role": "assistant", "content": response},
    ]
    assert body == {
        "task": "classify",
        "use_activation": False,
        "messages": expected[:turns],
        "add_generation_prompt": opening,
        "continue_final_message": left_open,
        "priority": 1,
    }
    assert reward.value == 1.5
    assert reward.components == {}


def test_chat_is_one_text_a_call():
    with HttpJudge(Reply({"data": [{"index": 0, "data": [1.5]}]})) as judge:
        scored(judge, [request()] * 5, "vllm_pooling", inputs="chat")
        assert len(judge.asked) == 5


def test_vllm_pooling_last_reads_the_last_token():
    answer = {"data": [{"index": 0, "data": [[9.0], [8.0], [-2.5]]}]}
    body, reward = one_answer(answer, "vllm_pooling_last")
    assert body["task"] == "token_classify"
    assert reward.value == -2.5


def test_vllm_score():
    answer = {"data": [{"index": 0, "object": "score", "score": 0.75}]}
    body, reward = one_answer(answer, "vllm_score")
    assert body == {"text_1": [PROMPT.as_text()], "text_2": [ANSWER]}
    assert reward.value == pytest.approx(math.log(3))
    body, reward = one_answer(answer, "vllm_score", scale="logit")
    assert body["use_activation"] is False
    assert reward.value == 0.75


def test_vllm_answers_are_put_in_order_by_index():
    data = [{"index": 1, "score": 0.25}, {"index": 0, "score": 0.75}]
    with HttpJudge(Reply({"data": data})) as judge:
        rewards = scored(judge, [request("a"), request("b")], "vllm_score", scale="probability")
    assert [reward.value for reward in rewards] == pytest.approx([0.75, 0.25])


def test_sglang_classify():
    body, reward = one_answer([{"embedding": [-3.25]}], "sglang_classify")
    assert body == {"text": [f"{PROMPT.as_text()}\n{ANSWER}"]}
    assert reward.value == -3.25


def test_tei_predict_reads_logits_by_label():
    answer = [[{"score": 2.0, "label": "unsafe"}, {"score": -1.0, "label": "safe"}]]
    options = {"labels": ("safe", "unsafe"), "bad": "unsafe"}
    body, reward = one_answer(answer, "tei_predict", **options)
    assert body == {"inputs": [[PROMPT.as_text(), ANSWER]], "raw_scores": True, "truncate": False}
    assert reward.value == pytest.approx(-3.0)
    body, reward = one_answer(answer, "tei_predict", "", inputs="response", multi_label=True, **options)
    assert body["inputs"] == [[" "]]
    assert reward.value == pytest.approx(-2.0)


def test_tei_predict_of_a_scalar_model_needs_no_label():
    assert one_answer([[{"score": 0.5, "label": "LABEL_0"}]], "tei_predict")[1].value == 0.5


def test_moderation_is_about_the_worst_category():
    scores = {"hate": 0.2, "violence": 0.5, "sexual": 0.0}
    answer = {"id": "x", "results": [{"flagged": False, "category_scores": scores}]}
    body, reward = one_answer(answer, "openai_moderation")
    assert body == {"input": [ANSWER]}
    assert reward.value == 0.0
    assert reward.components == scores
    assert one_answer(answer, "openai_moderation", bad="hate")[1].value == pytest.approx(math.log(4))
    named = one_answer(answer, "openai_moderation", bad=("hate", "sexual"), scale="probability")
    assert named[1].value == pytest.approx(0.8)


@pytest.mark.parametrize(("flagged", "value"), [(True, 0.0), (False, 1.0)])
def test_moderation_flags(flagged, value):
    answer = {"results": [{"flagged": flagged, "category_scores": None}]}
    assert one_answer(answer, "openai_moderation_flags")[1].value == value


def test_probabilities_of_independent_labels():
    answer = {"data": [{"index": 0, "probs": [0.5, 0.2, 0.9]}]}
    options = {"labels": ("a", "b", "fine"), "bad": ("a", "b"), "multi_label": True}
    expected = -log_odds_of_any([0.0, math.log(0.25)])
    assert one_answer(answer, "vllm_classify", **options)[1].value == pytest.approx(expected)


@pytest.mark.parametrize(
    ("probs", "multi_label", "value"),
    [
        ([1.0, 1e-30], False, 30 * math.log(10)),
        ([1.0, 0.0], False, 126 * math.log(2)),
        ([0.0, 1.0], False, -126 * math.log(2)),
        ([1.0, 0.0], True, 25 * math.log(2)),
        ([0.0, 1.0], True, -126 * math.log(2)),
    ],
)
def test_certainty_stays_finite_and_resolution_is_kept(probs, multi_label, value):
    answer = {"data": [{"index": 0, "probs": probs}]}
    options = {"labels": ("good", "bad"), "good": "good", "multi_label": multi_label}
    assert one_answer(answer, "vllm_classify", **options)[1].value == pytest.approx(value)


# Templates


def test_template_of_a_single_request():
    body = {
        "model": "judge",
        "n": 1,
        "text": ["Q: {prompt} A: {response} {other}", "{response}"],
        "chat": "{messages}",
        "done": "{finished}",
    }
    format = json_format(body, "out.0.value")
    sent, reward = one_answer({"out": [{"value": -7}]}, format, "{prompt}", finished=True)
    messages = [
        {"role": "user", "content": PROMPT.as_text()},
        {"role": "assistant", "content": "{prompt}"},
    ]
    assert sent == {
        "model": "judge",
        "n": 1,
        "text": [f"Q: {PROMPT.as_text()} A: {{prompt}} {{other}}", "{prompt}"],
        "chat": messages,
        "done": True,
    }
    assert reward.value == -7.0


def test_template_of_a_batch():
    format = json_format(
        {"rows": "{items}", "k": 3},
        "rows.*.p",
        item={"q": "{prompt}", "a": ["{response}"]},
        unit="probability",
    )
    with HttpJudge(
        Reply({"rows": [{"p": {"bad": 0.5, "good": 0.5}}, {"p": {"good": 0.8, "bad": 0.2}}]})
    ) as judge:
        rewards = scored(judge, [request("x"), request("y")], format, labels=("good", "bad"), bad="bad")
        (asked,) = judge.asked
    rows = [{"q": PROMPT.as_text(), "a": ["x"]}, {"q": PROMPT.as_text(), "a": ["y"]}]
    assert asked.body == {"rows": rows, "k": 3}
    assert [reward.value for reward in rewards] == pytest.approx([0.0, math.log(4)])


def test_one_label_may_be_the_bad_one():
    toxic = json_format({"t": "{response}"}, "toxicity", unit="probability")
    reward = one_answer({"toxicity": 0.2}, toxic, labels=("toxic",), bad="toxic")[1]
    assert reward.value == pytest.approx(math.log(4))


@given(prompt=st.text(min_size=1).filter(str.strip), response=st.text())
def test_texts_arrive_as_they_are(prompt, response):
    format = json_format({"p": "{prompt}", "both": "<{prompt}|{response}>"}, "score")
    asked = ScoreRequest(Prompt.of(prompt), response, finished=False)
    assert format.body([asked], "template") == {"p": prompt, "both": f"<{prompt}|{response}>"}


def test_half_a_surrogate_pair_can_be_sent():
    with HttpJudge(length) as judge:
        (reward,) = scored(judge, [request("\ud83d")])
    assert reward.value == 1.0


@pytest.mark.parametrize(
    ("body", "scores", "item", "message"),
    [
        (["{response}"], "s", None, "must be a JSON object, got list"),
        ({"t": "{prompt}"}, "s", None, "needs {response} or {messages}"),
        ({"t": "{items}"}, "s.*", "{prompt}", "needs {response} or {messages}"),
        ({"t": "{items}"}, "s.*", None, "a batch needs"),
        ({"t": "{response}"}, "s", "{response}", "a batch needs"),
        ({"t": "{items}"}, "s", "{response}", "a batch needs"),
        ({"t": "{response}"}, "s.*", None, "a batch needs"),
        ({"t": "{response}", "m": "say {messages}"}, "s", None, "must be a whole text"),
        ({"t": "{items}", "p": "{prompt}"}, "s.*", "{response}", "put the rest into item="),
    ],
)
def test_template_that_cannot_work(body, scores, item, message):
    with pytest.raises(ConfigurationError, match=message):
        json_format(body, scores, item=item)


# Batches, threads, connections


def test_batches_keep_the_order():
    asked = [request("x" * size) for size in range(1, 12)]
    with HttpJudge(lengths) as judge:
        rewards = scored(judge, asked, LISTED, http={"max_batch": 4, "max_parallel": 2})
        assert sorted(len(one.body["texts"]) for one in judge.asked) == [3, 4, 4]
        assert judge.connections <= 2
    assert [reward.value for reward in rewards] == list(range(1, 12))


def test_nothing_to_score_sends_nothing():
    with HttpJudge(lengths) as judge:
        assert scored(judge, [], LISTED) == []
        assert judge.asked == []


def test_connections_are_pooled_and_parallel_calls_bounded():
    gate, waiting, most = threading.Condition(), [], []

    def together(handler, body):
        with gate:
            waiting.append(body)
            most.append(len(waiting))
            gate.notify_all()
            gate.wait_for(lambda: len(most) >= 3, timeout=30)
            waiting.remove(body)
        return length(handler, body)

    with HttpJudge(together) as judge, remote(judge.url, http={"max_parallel": 3}) as reward:
        assert reward.parallel_calls == 3
        values = [one.value for one in reward.score([request("x" * size) for size in range(20)])]
        reward.score([request()])
        assert len(judge.asked) == 21
        assert judge.connections <= 3
    assert values == list(range(20))
    assert max(most) == 3


def test_several_threads_may_score():
    results = {}

    def work(number):
        results[number] = [one.value for one in reward.score([request("x" * number)] * 3)]

    with HttpJudge(lengths) as judge, remote(judge.url, LISTED) as reward:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(judge.asked) == 8
    assert results == {number: [float(number)] * 3 for number in range(8)}


def test_closed_is_an_error():
    with HttpJudge(length) as judge:
        reward = remote(judge.url)
        assert isinstance(reward, RewardModel)
        assert reward.name == f"remote at {judge.url}"
        reward.release("run")
        reward.close()
        reward.close()
        with pytest.raises(ScoringError, match="is closed"):
            reward.score([request()])
        assert judge.asked == []


# Answers that are no judgement

WRONG = {
    "nan": (Reply(raw=b'{"score": NaN}'), "score is not a finite number"),
    "infinity": (Reply(raw=b'{"score": -Infinity}'), "score is not a finite number"),
    "overflow": (Reply(raw=b'{"score": 1e999}'), "score is not a finite number"),
    "huge integer": (Reply({"score": 10**400}), "score is not a finite number"),
    "too many digits": (Reply(raw=b'{"score": ' + b"9" * 5000 + b"}"), "is not JSON"),
    "text": (Reply({"score": ANSWER}), "score is a text, not a number"),
    "bool": (Reply({"score": True}), "score is true or false, not a number"),
    "null": (Reply({"score": None}), "score is null, not a number"),
    "missing": (Reply({"echo": ANSWER}), "the field score is missing"),
    "no object": (Reply(ANSWER), "the field score is missing"),
    "two for one": (Reply({"score": [1, 2]}), "2 numbers for one text, 1 expected"),
    "malformed": (Reply(raw=b'{"score": SECRETANSWER'), "is not JSON"),
    "deep": (Reply(raw=b"[" * 200_000), "is not JSON"),
    "no utf-8": (Reply(raw=b"\xff\xfe\xff"), "is not JSON"),
    "empty": (Reply(raw=b""), "answer of 0 bytes is not JSON"),
    "truncated": (Reply({"score": 1}, promised=1000), "broke off or is no HTTP"),
    "no http": (lambda handler, body: handler.wfile.write(b"SECRETANSWER\r\n\r\n"), "is no HTTP"),
    "too long": (Reply({"score": 1, "echo": "x" * 400_000}), "max_answer_bytes=300000"),
    "status 500": (Reply({"error": ANSWER}, status=500), "status 500; look into the server's log"),
    "status 400": (Reply({"error": ANSWER}, status=400), "status 400; the server does not take this body"),
    "status 401": (Reply({"error": ANSWER}, status=401), "status 401; check the API key"),
    "redirect": (
        Reply(status=307, headers={"Location": "/SECRET"}),
        "status 307; redirects are not followed",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_answer_is_an_error_and_not_asked_for_again(name):
    reply, message = WRONG[name]
    with HttpJudge(reply) as judge:
        assert message in failure(judge, http={"max_answer_bytes": 300_000, "api_key": KEY})
        assert len(judge.asked) == 1


@pytest.mark.parametrize(
    ("format", "answer", "options", "message"),
    [
        (LISTED, {"scores": []}, {}, "0 scores for 1 requests"),
        (LISTED, {"scores": [1, 2]}, {}, "2 scores for 1 requests"),
        (LISTED, {"scores": 1}, {}, r"scores.* is a number, not a list"),
        (LISTED, {"scores": {"0": 1}}, {}, r"scores.* is an object, not a list"),
        (json_format({"r": "{response}"}, "s.2"), {"s": [1, 2]}, {}, "too short for the index 2"),
        ("vllm_score", {"data": [{"index": 1, "score": 0.5}]}, {}, "does not count from 0"),
        ("vllm_score", {"data": [{"index": 0, "score": 0.5}] * 2}, {}, "does not count from 0"),
        ("vllm_score", {"data": [{"index": 0, "score": -3}]}, {}, "use scale='logit'"),
        (
            "vllm_classify",
            {"data": [{"index": 0, "probs": [0.5]}]},
            {"labels": "ab"},
            "1 numbers for one text",
        ),
        ("vllm_classify", {"data": [{"index": 0, "probs": [0.9, 0.9]}]}, {"labels": "ab"}, "do not sum to 1"),
        ("vllm_pooling_last", {"data": [{"index": 0, "data": []}]}, {}, "no vector for the last token"),
        ("vllm_pooling", {"data": [{"index": 0, "data": [[1.0]]}]}, {}, "is a list, not a number"),
        ("tei_predict", [[{"label": "a", "score": 1}] * 2], {"labels": "ab"}, "a label comes twice"),
        (
            "tei_predict",
            [[{"label": "a", "score": 1}, {"label": "SECRETANSWER", "score": 1}]],
            {"labels": "ab"},
            "the labels are not ['a', 'b']",
        ),
        (
            "openai_moderation",
            {"results": [{"category_scores": None}]},
            {},
            "category_scores is not an object",
        ),
        ("openai_moderation", {"results": [{"category_scores": {}}]}, {}, "missing: there is none"),
        ("openai_moderation", {"results": [{"category_scores": {"a": 0}}]}, {"bad": "b"}, "are missing: b"),
        ("openai_moderation", {"results": [{"category_scores": {"a": 2}}]}, {}, "not between 0 and 1"),
        ("openai_moderation_flags", {"results": [{"flagged": 0}]}, {}, "neither true nor false"),
    ],
)
def test_answer_that_does_not_fit_its_format(format, answer, options, message):
    if "labels" in options:
        options = {"good": "a", **options}
    with HttpJudge(Reply(answer)) as judge:
        assert message in failure(judge, format=format, **options)
        assert len(judge.asked) == 1


# Time


def test_nothing_is_sent_after_the_deadline():
    with HttpJudge(lengths) as judge, remote(judge.url, LISTED) as reward:
        late = [request(), request(deadline=time.monotonic() - 1), request(deadline=soon())]
        with pytest.raises(ScoringError, match=r"no answer by the deadline|nothing was sent"):
            reward.score(late)
        assert judge.asked == []


def test_a_call_alone_is_not_sent_after_its_deadline():
    with HttpJudge(length) as judge, remote(judge.url) as reward:
        with pytest.raises(ScoringError, match="nothing was sent, the deadline has passed"):
            reward.score([request(deadline=time.monotonic())])
        assert judge.asked == []
        assert judge.connections == 0


@pytest.mark.parametrize("step", [silence, drip_body, drip_headers])
@pytest.mark.parametrize("limit", ["timeout", "deadline"])
def test_a_call_ends_in_time_and_is_not_repeated(step, limit):
    with HttpJudge(step) as judge:
        if limit == "timeout":
            message = failure(judge, http={"timeout": 0.3})
        else:
            message = failure(judge, deadline=soon(0.3), http={"timeout": 300.0})
        assert "no whole answer in time" in message or "no answer by the deadline" in message
        assert len(judge.asked) == 1


@pytest.mark.parametrize("step", [silence, drip_body, drip_headers])
def test_a_connection_is_free_again_in_time(step):
    http = {"timeout": 300.0, "max_parallel": 1}
    with HttpJudge(step, length) as judge, remote(judge.url, http=http) as reward:
        with pytest.raises(ScoringError, match="no whole answer in time"):
            reward.score([request(deadline=soon(0.3))])
        assert reward.score([request("four", deadline=soon())])[0].value == 4.0


@contextmanager
def deaf():
    """A listener, and its address, where connections are taken and nothing of them is read."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener, f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    ("scheme", "response"), [("https", "short"), ("http", "x" * 2**24)], ids=["handshake", "sending"]
)
def test_everything_before_an_answer_counts_too(scheme, response):
    begun = time.monotonic()
    with deaf() as (listener, place), remote(f"{scheme}://{place}", http={"timeout": 300.0}) as reward:
        with pytest.raises(ScoringError, match="no whole answer in time"):
            reward.score([request(response, deadline=soon(0.3))])
        assert time.monotonic() - begun < 60  # and not the 300 seconds of the client
        taken, _ = listener.accept()
        taken.settimeout(60)
        with taken, suppress(ConnectionResetError):
            while taken.recv(2**20):  # until the client hangs up, which it does by itself
                pass


def test_a_call_that_waits_for_its_turn_is_given_up_at_the_deadline():
    with HttpJudge(silence) as judge, remote(judge.url, http={"max_parallel": 1, "timeout": 300.0}) as reward:
        first = threading.Thread(target=pytest.raises, args=(ScoringError, reward.score, [request()]))
        first.start()
        while not judge.asked:
            time.sleep(0.01)
        with pytest.raises(ScoringError, match="no answer by the deadline"):
            reward.score([request(deadline=soon(0.2))])
        assert len(judge.asked) == 1
        judge.stopping.set()
        first.join()


# Retries

TROUBLE = {
    "hang up": hang_up,
    "429": Reply(status=429),
    "429 with seconds": Reply(status=429, headers={"Retry-After": "0"}),
    "503 with a date": Reply(status=503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    "503 with nonsense": Reply(status=503, headers={"Retry-After": "soon"}),
    "502": Reply(status=502),
    "504": Reply(status=504),
}


@pytest.mark.parametrize("name", TROUBLE)
def test_passing_trouble_is_overcome(name):
    with HttpJudge(TROUBLE[name], TROUBLE[name], length) as judge:
        (reward,) = scored(judge, [request("four", deadline=soon())])
        assert len(judge.asked) == 3
    assert reward.value == 4.0


@pytest.mark.parametrize("name", TROUBLE)
def test_retries_are_bounded(name):
    with HttpJudge(TROUBLE[name]) as judge:
        failure(judge, http={"retries": 1})
        assert len(judge.asked) == 2


def tomorrow():
    return format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)


@pytest.mark.parametrize("wait", ["50", "9" * 5000, tomorrow()], ids=["seconds", "digits", "date"])
@pytest.mark.parametrize("limit", ["timeout", "deadline"])
def test_a_server_that_asks_for_more_time_than_there_is_is_given_up(wait, limit):
    with HttpJudge(Reply(status=503, headers={"Retry-After": wait})) as judge:
        deadline = soon(30) if limit == "deadline" else None
        assert "status 503" in failure(
            judge, deadline=deadline, http={"timeout": 300.0 if deadline else 30.0}
        )
        assert len(judge.asked) == 1


@pytest.fixture
def pauses(monkeypatch):
    """Seconds of each wait for another try, none of which is waited."""
    waited = []

    async def noted(seconds):
        waited.append(seconds)

    monkeypatch.setattr(client, "sleep", noted)
    return waited


def test_the_deadline_may_pass_between_two_calls(monkeypatch):
    clock = [100.0]

    async def overslept(seconds):
        clock[0] = 200.0

    monkeypatch.setattr(client, "sleep", overslept)
    monkeypatch.setattr(client, "monotonic", lambda: clock[0])
    http = {"timeout": 30.0, "backoff": 1.0}
    with HttpJudge(Reply(status=503)) as judge, remote(judge.url, http=http) as reward:
        with pytest.raises(ScoringError, match="the deadline has passed"):
            reward.score([request(deadline=150.0)])
        assert len(judge.asked) == 1


def test_backoff_doubles(pauses):
    script = [Reply(status=503), Reply(status=503), Reply(status=503, headers={"Retry-After": "3"})]
    with HttpJudge(*script) as judge:
        assert "status 503" in failure(judge, http={"retries": 3, "backoff": 0.5})
        assert len(judge.asked) == 4
    assert pauses == [0.5, 1.0, 3.0]


def test_refused_connection_is_tried_again_and_says_so(pauses):
    with HttpJudge(length) as judge:
        pass
    assert "cannot connect ([Errno" in failure(judge, http={"backoff": 0.25})
    assert pauses == [0.25, 0.5]


# Secrets


@pytest.mark.parametrize(
    ("options", "header", "value"),
    [
        ({"api_key": SecretStr(KEY)}, "Authorization", f"Bearer {KEY}"),
        ({"api_key": KEY, "api_key_header": "x-api-key"}, "x-api-key", KEY),
        ({"api_key_env": "STARS_TEST_KEY"}, "Authorization", f"Bearer {KEY}"),
    ],
)
def test_api_key_goes_into_a_header_and_nowhere_else(monkeypatch, options, header, value):
    monkeypatch.setenv("STARS_TEST_KEY", KEY)
    with HttpJudge(length) as judge, remote(judge.url, http=options) as reward:
        reward.score([request()])
        (asked,) = judge.asked
        assert KEY not in f"{reward.name} {reward!r} {HttpOptions(**options)!r}"
    assert asked.headers[header] == value
    assert KEY not in f"{asked.path}{asked.body}"


def test_user_and_query_of_the_url_are_sent_and_not_shown(caplog):
    caplog.set_level("INFO")
    with HttpJudge(Reply(status=500)) as judge:
        url = judge.url.replace("//", "//user:SECRETPASSWORD@") + "/score?key=SECRETQUERY"
        with RemoteReward(url, "vllm_score") as reward, pytest.raises(ScoringError) as caught:
            reward.score([request()])
        (asked,) = judge.asked
    assert reward.name == f"vllm_score at {judge.url}/score"
    assert "SECRET" not in str(caught.value)
    assert "SECRETPASSWORD" not in caplog.text
    assert asked.path == "/score?key=SECRETQUERY"
    assert asked.headers["Authorization"].startswith("Basic ")


def test_environment_does_not_redirect_the_texts(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with HttpJudge(length) as judge:
        assert scored(judge, [request("four")])[0].value == 4.0


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("localhost:8000/classify", {}, "url must be a whole one"),
        ("ftp://SECRET@host/", {}, "url must be a whole one"),
        ("http://host:SECRET/", {}, "url must be a whole one"),
        ("http:///classify", {}, "url must be a whole one"),
        ("http://[SECRET/", {}, "url must be a whole one"),
        ("http://host/\x00", {}, "url must be a whole one"),
        ("http://user:SECRET@host/", {"http": {"api_key": KEY}}, "both an API key and a user"),
        ("http://host/", {"http": {"api_key": f"{KEY}\n"}}, "characters that a header cannot carry"),
        ("http://host/", {"http": {"api_key": f"{KEY}ä"}}, "characters that a header cannot carry"),
        ("http://host/", {"http": {"api_key_env": "STARS_NO_KEY"}}, "STARS_NO_KEY holds no API key"),
        ("http://host/", {"http": {"timeout": 0}}, "timeout=0"),
        ("http://host/", {"http": {"api_key_header": "a b"}}, "api_key_header"),
        ("http://host/", {"format": "grpc"}, "unknown format 'grpc'; use vllm_classify, "),
        ("http://host/", {"format": "vllm_score", "inputs": "chat"}, "inputs='chat' does not fit"),
        ("http://host/", {"format": "openai_moderation", "scale": "logit"}, "scale='logit' does not fit"),
        ("http://host/", {"format": "openai_moderation", "good": "a"}, "moderation takes no labels"),
        ("http://host/", {"labels": ("a", "b")}, "say which are good"),
        ("http://host/", {"labels": ("a", "a"), "good": "a"}, "names one twice"),
        ("http://host/", {"extra": {"x": math.nan}}, "making the JSON body"),
        ("http://host/", {"extra": {"x": object()}}, "making the JSON body"),
    ],
)
def test_what_cannot_work_fails_at_construction(url, options, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        remote(url, **options)
    assert "SECRET" not in str(caught.value)


def test_every_format_is_in_the_table():
    assert all(REMOTE_FORMATS[name].choose_inputs(None) for name in REMOTE_FORMATS)
    table = sys.modules["stars_guard.rewards.servers.formats"].__doc__
    assert all(f"``{name}``" in table for name in REMOTE_FORMATS)


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *files, *name]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_certificates_are_checked(certificate, pauses, monkeypatch):
    with HttpJudge(length) as judge:
        judge.encrypt(*map(str, certificate))
        assert "CERTIFICATE_VERIFY_FAILED" in failure(judge)
        assert judge.asked == []
        assert pauses == []
        context = ssl.create_default_context(cafile=str(certificate[0]))
        assert scored(judge, [request("four")], http={"verify": context})[0].value == 4.0
        assert scored(judge, [request("four")], http={"verify": False})[0].value == 4.0
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        assert scored(judge, [request("four")])[0].value == 4.0
        assert len(judge.asked) == 3


# Without httpx, and as part of the guard


def test_httpx_is_imported_late():
    code = (
        "import sys; import stars_guard.rewards.servers.remote as remote; assert 'httpx' not in sys.modules\n"
        "from stars_guard.errors import MissingExtraError\n"
        "sys.modules['httpx'] = None\n"
        "try: remote.RemoteReward('http://host/', 'vllm_score')\n"
        "except MissingExtraError as error: print(error)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert "pip install 'stars-guard[remote]'" in found.stdout, found.stderr


def test_missing_httpx_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "stars_guard.http.client", None)
    with pytest.raises(MissingExtraError, match=r"'httpx' is not installed.*stars-guard\[remote\]"):
        remote("http://host/")


OUTAGES = {
    **{name: reply for name, (reply, _) in WRONG.items()},
    "silence": silence,
    "slow drip": drip_body,
    "slow headers": drip_headers,
    "hang up": hang_up,
    "overloaded": Reply(status=503),
    "wrong length": Reply({"score": []}),
}


def generate(script, on_error):
    """A guarded answer of three segments, judged by a server that does what the script says."""
    config = GuardConfig(
        threshold=Constant(target=1.0), acceptance=Hard(), drawing=Fixed(candidates=1), on_error=on_error
    )
    http = {"timeout": 0.3, "max_answer_bytes": 300_000}
    with HttpJudge(*script) as judge, remote(judge.url, http=http) as reward:
        return StarsGuardedLLM(ScriptedModel([["one "], ["two "], ["three"]]), reward, config).generate(
            "Hello"
        )


def test_a_guard_judges_over_http():
    assert generate([Reply({"score": 5.0})], "raise").text == "one two three"


@pytest.mark.parametrize("name", OUTAGES)
@pytest.mark.parametrize("accepted", [0, 1])
def test_an_outage_never_accepts_a_segment(name, accepted):
    script = [*[Reply({"score": 5.0})] * accepted, OUTAGES[name]]
    result = generate(script, "stop")
    assert result.stop_reason is StopReason.SCORING_ERROR
    assert result.text == "one " * accepted
    with pytest.raises(ScoringError, match=r"http://127.0.0.1") as caught:
        generate(script, "raise")
    judged = [one.accepted for segment in caught.value.trace.segments for one in segment.attempts]
    assert judged == [True] * accepted


def test_control_tokens_in_what_is_judged_are_mere_text():
    with HttpJudge(Reply({"data": [{"index": 0, "probs": [0.9]}]})) as judge:
        for inputs in ("text", "response", "chat"):
            with RemoteReward(f"{judge.url}/classify", "vllm_classify", inputs=inputs) as reward:
                reward.score([ScoreRequest(Prompt.of("a <|im_end|>"), "b <|im_end|> [INST]", finished=True)])
    sent = [json.dumps(asked.body) for asked in judge.asked]
    assert all("b < |im_end|> [ INST]" in body for body in sent)
    assert not any("<|im_end|>" in body for body in sent)
