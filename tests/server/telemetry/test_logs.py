"""Log lines of real traffic: one for each request, with numbers and ids, and text only where it is wanted."""

from __future__ import annotations

import io
import json
import logging

import pytest

from stars_guard.algorithm.rules import Raise
from stars_guard.errors import ScoringError
from stars_guard.server.telemetry.exchange import Outcome
from stars_guard.server.telemetry.logs import RequestLog, write_logs
from stars_guard.server.telemetry.observers import ObservabilitySettings
from stars_guard.testing import FailingReward
from tests.support.observed import CONFIG, MARKER, SCRIPT, asked, end, exchange, guard, serve, turned_away

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Written:
    """What was logged in one form."""

    def __init__(self, form):
        self._stream = io.StringIO()
        self.handler = write_logs(ObservabilitySettings(logs=form), self._stream)

    @property
    def text(self):
        return self._stream.getvalue()

    @property
    def lines(self):
        return [json.loads(line) for line in self.text.splitlines()]

    def of_requests(self):
        return [line for line in self.lines if line["message"] == "request"]


@pytest.fixture
def written(request):
    logger = logging.getLogger("stars_guard")
    before = logger.level
    output = Written(getattr(request, "param", "json"))
    yield output
    logging.getLogger().removeHandler(output.handler)
    logger.level = before


async def test_a_request_is_one_line_of_json(written):
    ended = await serve(guard(), [RequestLog()], stream=True, key="team-a")
    (line,) = written.lines
    (result,) = ended.results
    expected = {
        "level": "info",
        "logger": "stars_guard.server.requests",
        "message": "request",
        "id": ended.id,
        "endpoint": "chat.completions",
        "model": "served",
        "key": "team-a",
        "stream": True,
        "shadow": False,
        "status": 200,
        "outcome": "answered",
        "error": None,
        "trace_id": None,
        "run_ids": [result.trace.run_id],
        "stop_reasons": ["eos"],
        "guarantee": "token_ids",
        "kept_tokens": result.usage.kept_tokens,
        "proposed_tokens": result.usage.proposed_tokens,
        "reward_calls": 3,
        "segments": 2,
        "attempts": 3,
        "forced": 0,
        "advised": 0,
    }
    assert expected.items() <= line.items()
    assert 0 <= line["waited_seconds"] <= line["first_text_seconds"] <= line["total_seconds"]
    assert line["upstream_first_candidates_seconds"] >= 0
    assert line["time"].endswith("+00:00")


@pytest.mark.parametrize("written", ["text"], indirect=True)
async def test_or_one_line_to_be_read_by_people(written):
    ended = await serve(guard(), [RequestLog()])
    (line,) = written.text.splitlines()
    assert f'INFO stars_guard.server.requests request id="{ended.id}"' in line
    assert 'outcome="answered"' in line
    assert "error=" not in line


@pytest.mark.parametrize("written", ["off"], indirect=True)
async def test_or_nothing(written, capsys):
    await serve(guard(reward=FailingReward(OSError())), [RequestLog()])
    assert written.text == capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("outcome", "level"),
    [
        (Outcome.REJECTED, "info"),
        (Outcome.CANCELLED, "info"),
        (Outcome.TIMED_OUT, "warning"),
        (Outcome.EXHAUSTED, "warning"),
        (Outcome.SCORING_ERROR, "error"),
        (Outcome.GENERATION_ERROR, "error"),
        (None, "error"),
    ],
)
def test_outages_are_errors(written, outcome, level):
    turned_away([RequestLog()], outcome)
    (line,) = written.lines
    assert line["level"] == level
    assert line["outcome"] == (outcome or Outcome.INTERNAL_ERROR).value
    assert "kept_tokens" not in line


async def test_an_error_is_named_by_its_types(written):
    await serve(guard(reward=FailingReward(OSError(MARKER))), [RequestLog()])
    (line,) = written.of_requests()
    assert line["error"] == "ScoringError from OSError"
    end(exchange(outcome=Outcome.SCORING_ERROR, error=ScoringError(MARKER)), [RequestLog()])
    assert written.of_requests()[1]["error"] == "ScoringError"


def test_the_client_s_trace_is_named(written):
    turned_away([RequestLog()], headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
    turned_away([RequestLog()], headers={"traceparent": MARKER})
    assert [line["trace_id"] for line in written.lines] == [TRACE, None]


async def test_nothing_that_users_wrote_is_logged(written):
    log = RequestLog(ObservabilitySettings())
    await serve(guard(), [log], [asked(stop=(MARKER + "!",))])
    await serve(guard([[f"bad {MARKER}"]]), [log])
    await serve(guard([[f"bad {MARKER}"]], config=CONFIG.changed(exhaustion=Raise())), [log])
    await serve(guard(reward=FailingReward(OSError(MARKER))), [log])
    assert len(written.of_requests()) == 4
    assert MARKER not in written.text


@pytest.mark.parametrize("written", ["json", "text"], indirect=True)
def test_the_words_of_an_exception_are_not_logged(written):
    try:
        raise ValueError(MARKER)
    except ValueError:
        logging.getLogger("stars_guard").exception("internal error")
    assert "ValueError" in written.text
    assert "test_the_words_of_an_exception_are_not_logged" in written.text
    assert MARKER not in written.text


async def test_text_is_logged_where_the_operator_wants_it(written):
    log = RequestLog(ObservabilitySettings(log_text=True))
    await serve(guard(), [log])
    turned_away([log])
    first, second = written.lines
    assert first["prompt"] == f"Tell me of {MARKER}."
    assert first["texts"] == [SCRIPT[0][1] + SCRIPT[1][0]]
    assert (second["prompt"], second["texts"]) == (None, [])


async def test_a_level_that_nobody_reads_is_not_logged(written):
    logging.getLogger("stars_guard").setLevel(logging.CRITICAL)
    await serve(guard(), [RequestLog()])
    assert written.text == ""
