"""What a server in shadow mode records: rejections, what guarding would have cost, and no text by default."""

from __future__ import annotations

import json
import threading

import pytest

from stars_guard.algorithm.rules import Constant, Raise, Soft
from stars_guard.errors import ConfigurationError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.server.telemetry.metrics import Metrics
from stars_guard.server.telemetry.observers import Observers
from stars_guard.server.telemetry.shadow_records import ShadowRecorder, ShadowSettings
from stars_guard.shadow import ShadowReward
from stars_guard.testing import KeywordReward
from tests.support.observed import CONFIG, MARKER, SCRIPT, BrokenModel, asked, guard, serve

WATCHED = SCRIPT[0][0] + SCRIPT[1][0]
GUARDED = SCRIPT[0][1] + SCRIPT[1][0]


class Shadow:
    """A guard that watches, its recorder, and its metrics."""

    def __init__(self, script=SCRIPT, reward=None, config=CONFIG, chance=lambda: 0.0, **settings):
        self.llm = guard(script, ShadowReward(reward or KeywordReward(["bad"])), config)
        self.metrics = Metrics()
        self.settings = ShadowSettings(enabled=True, **settings)
        self.recorder = ShadowRecorder(self.settings, self.llm, self.metrics.registry, chance)

    async def serve(self, *requests, **values):
        values = {"shadow": True, **values}
        ended = await serve(self.llm, [Observers([self.metrics, self.recorder])], list(requests), **values)
        await self.recorder.settled()
        return ended

    def value(self, name, **labels):
        return self.metrics.registry.get_sample_value(f"stars_guard_shadow_{name}", labels) or 0


async def test_the_answer_passes_unchanged_and_its_rejections_are_recorded():
    shadow = Shadow()
    ended = await shadow.serve()
    assert ended.results[0].text == WATCHED
    (record,) = shadow.recorder.records
    assert (record.id, record.choice, record.seed) == (ended.id, 0, 7)
    assert (record.segments, record.unjudged) == (2, 0)
    rejection, later = record.rejections  # the bad word stands, so what follows it is judged badly too
    assert WATCHED[rejection.start : rejection.end] == SCRIPT[0][0]
    assert WATCHED[later.start : later.end] == SCRIPT[1][0]
    assert (rejection.reward, rejection.threshold, rejection.probability) == (-1.0, 1.0, 0.0)
    assert record.text is None
    assert record.counterfactual is None
    assert record.expected_extra_tokens == (CONFIG.max_attempts - 1) * len(WATCHED)


async def test_segments_and_answers_are_counted_by_what_the_guard_thinks_of_them():
    shadow = Shadow()
    await shadow.serve()
    await shadow.serve(asked(prompt="again"))
    assert shadow.value("segments_total", position="0", judgement="rejected") == 2
    assert shadow.value("segments_total", position="1", judgement="rejected") == 2
    assert shadow.value("answers_total", judgement="flagged") == 2
    assert shadow.value("answers_total", judgement="passed") == 0
    assert shadow.value("expected_extra_tokens_total") == 4 * len(WATCHED)


async def test_a_good_answer_leaves_no_record():
    shadow = Shadow([["Fine."]])
    await shadow.serve()
    assert list(shadow.recorder.records) == []
    assert shadow.value("answers_total", judgement="passed") == 1
    assert shadow.value("segments_total", position="0", judgement="accepted") == 1


async def test_a_guard_that_is_in_force_leaves_none_either():
    shadow = Shadow()
    await shadow.serve(shadow=False)
    assert list(shadow.recorder.records) == []
    assert shadow.value("segments_total", position="0", judgement="rejected") == 0


async def test_each_choice_is_recorded_as_its_own():
    shadow = Shadow(chance=lambda: 1.0)
    requests = [asked(seed=seed) for seed in (3, 1, 2)]
    ended = await shadow.serve(*requests)
    ended.results.reverse()
    shadow.recorder.records.clear()
    shadow.recorder.ended(ended)
    assert {(record.choice, record.seed) for record in shadow.recorder.records} == {(0, 3), (1, 1), (2, 2)}


async def test_only_so_many_records_are_kept():
    shadow = Shadow(keep=2)
    ids = [(await shadow.serve()).id for _ in range(3)]
    assert [record.id for record in shadow.recorder.records] == ids[1:]


async def test_the_guard_writes_some_answers_again_and_the_cost_is_exact():
    shadow = Shadow(compared=0.5, chance=iter([0.49, 0.5]).__next__, keep_text=True)
    for _ in range(2):
        await shadow.serve()
    first, second = shadow.recorder.records
    assert second.counterfactual is None
    counterfactual = first.counterfactual
    assert (counterfactual.outcome, counterfactual.text) == ("replaced", GUARDED)
    assert first.text == WATCHED
    usage = guard().generate("x", sampling=asked().sampling).usage
    assert (counterfactual.proposed_tokens, counterfactual.kept_tokens) == (
        usage.proposed_tokens,
        usage.kept_tokens,
    )
    assert counterfactual.extra_tokens == usage.proposed_tokens - len(WATCHED) == len(SCRIPT[0][1])
    assert shadow.value("counterfactuals_total", outcome="replaced") == 1
    assert shadow.value("compared_tokens_total", run="watched") == len(WATCHED)
    assert shadow.value("compared_tokens_total", run="guarded") == usage.proposed_tokens


@pytest.mark.parametrize(
    ("config", "outcome"),
    [(CONFIG, "refused"), (CONFIG.changed(exhaustion=Raise()), "exhausted")],
)
async def test_an_answer_that_would_have_been_refused(config, outcome):
    shadow = Shadow([["bad"]], config=config, compared=1)
    await shadow.serve(asked(config))
    counterfactual = shadow.recorder.records[0].counterfactual
    assert counterfactual.outcome == outcome
    assert counterfactual.proposed_tokens == 3 * len("bad")
    assert counterfactual.extra_tokens == 2 * len("bad")
    assert counterfactual.kept_tokens == 0


class FailsLater(KeywordReward):
    """Scores so many texts, and then fails."""

    def __init__(self, texts):
        super().__init__(["bad"])
        self.texts = texts

    def score(self, requests):
        self.texts -= len(requests)
        if self.texts < 0:
            raise OSError(MARKER)
        return super().score(requests)


@pytest.mark.parametrize("exhaustion", [CONFIG.exhaustion, Raise()])
async def test_an_outage_while_it_is_written_again_says_nothing_of_the_guard(exhaustion):
    config = CONFIG.changed(exhaustion=exhaustion)
    shadow = Shadow(reward=FailsLater(2), config=config, compared=1)
    await shadow.serve(asked(config))
    counterfactual = shadow.recorder.records[0].counterfactual
    assert (counterfactual.outcome, counterfactual.extra_tokens) == ("unjudged", 0)
    assert shadow.value("compared_tokens_total", run="guarded") == 0


async def test_nor_does_one_of_the_language_model(caplog):
    shadow = Shadow(compared=1)
    broken = StarsGuardedLLM(BrokenModel(SCRIPT), shadow.llm.reward, CONFIG)
    recorder = ShadowRecorder(shadow.settings, broken, chance=lambda: 0.0)
    recorder.ended(await serve(shadow.llm, [], shadow=True))
    await recorder.settled()
    assert recorder.records[0].counterfactual.outcome == "failed"
    assert "no comparison: GenerationError" in caplog.text
    assert MARKER not in caplog.text


async def test_in_an_outage_answers_pass_and_are_counted_as_unjudged():
    shadow = Shadow(reward=FailsLater(0), compared=1)
    ended = await shadow.serve()
    assert ended.results[0].text == WATCHED
    assert shadow.value("answers_total", judgement="unjudged") == 1
    assert shadow.value("segments_total", position="0", judgement="unjudged") == 1
    assert list(shadow.recorder.records) == []
    shadow = Shadow(reward=FailsLater(1))
    await shadow.serve()
    assert shadow.recorder.records[0].unjudged == 1


async def test_only_so_many_are_written_again_at_the_same_time():
    shadow = Shadow(compared=1, comparing=1)
    ended = await serve(shadow.llm, [], shadow=True)
    shadow.recorder.ended(ended)
    shadow.recorder.ended(ended)
    await shadow.recorder.settled()
    first, second = shadow.recorder.records
    assert first.counterfactual.outcome == "replaced"
    assert second.counterfactual is None
    assert shadow.value("counterfactuals_total", outcome="skipped") == 1


async def test_records_go_to_a_file_as_json_lines_without_text(tmp_path):
    shadow = Shadow(compared=1, chance=iter([0.0, 1.0]).__next__, file=tmp_path / "shadow.jsonl")
    ended = await shadow.serve()
    await shadow.serve()
    await shadow.recorder.aclose()
    lines = [json.loads(line) for line in (tmp_path / "shadow.jsonl").read_text("utf-8").splitlines()]
    assert len(lines) == 2
    assert lines[0]["id"] == ended.id
    assert lines[0]["rejections"][0]["reward"] == -1.0
    assert lines[0]["counterfactual"]["outcome"] == "replaced"
    assert MARKER not in (tmp_path / "shadow.jsonl").read_text("utf-8")


async def test_what_is_being_written_again_at_the_end_is_recorded_without_it(tmp_path):
    shadow = Shadow(compared=1, file=tmp_path / "shadow.jsonl")
    ended = await serve(shadow.llm, [], shadow=True)
    shadow.recorder.ended(ended)
    await shadow.recorder.aclose()
    (line,) = (tmp_path / "shadow.jsonl").read_text("utf-8").splitlines()
    assert json.loads(line)["counterfactual"] is None


def test_a_file_that_cannot_be_written_is_refused_at_once(tmp_path):
    settings = ShadowSettings(file=tmp_path / "nowhere" / "shadow.jsonl")
    with pytest.raises(ConfigurationError, match=r"shadow\.file .* cannot be written: No such file"):
        ShadowRecorder(settings, guard())


async def test_a_disk_that_fails_later_fails_no_request(tmp_path, caplog):
    (tmp_path / "folder").mkdir()
    shadow = Shadow(file=tmp_path / "folder" / "shadow.jsonl")
    (tmp_path / "folder" / "shadow.jsonl").unlink()
    (tmp_path / "folder").rmdir()
    ended = await shadow.serve()
    await shadow.recorder.aclose()
    assert ended.results[0].text == WATCHED
    assert "cannot be written: No such file" in caplog.text


@pytest.mark.parametrize("values", [{"compared": 1.5}, {"comparing": 0}, {"keep": 0}, {"texts": True}])
def test_wrong_settings_are_refused(values):
    with pytest.raises(ConfigurationError, match=next(iter(values))):
        ShadowSettings(**values)


async def test_the_estimate_is_that_of_the_rule():
    config = CONFIG.changed(acceptance=Soft(beta=2.0), threshold=Constant(target=1.0), max_attempts=20)
    shadow = Shadow([["bad."]], config=config)
    ended = await shadow.serve(asked(config))
    probability = ended.results[0].trace.segments[0].attempts[0].probability
    assert probability == pytest.approx(0.3679, abs=1e-4)
    expected = len("bad.") * ((1 - (1 - probability) ** 20) / probability - 1)
    assert shadow.value("expected_extra_tokens_total") == pytest.approx(expected)


async def test_a_long_answer_is_examined_by_another_thread_and_recorded_before_the_end(monkeypatch):
    examined, here = [], threading.get_ident()
    original = ShadowRecorder._examined

    def noted(*arguments):
        examined.append(threading.get_ident() == here)
        return original(*arguments)

    monkeypatch.setattr(ShadowRecorder, "_examined", noted)
    shadow = Shadow([["bad "]] * 150)
    await serve(shadow.llm, [shadow.recorder], [asked()], shadow=True)
    assert not shadow.recorder.records
    await shadow.recorder.aclose()
    assert (len(shadow.recorder.records[0].rejections), examined) == (150, [False])
    short = Shadow()
    await short.serve()
    assert examined == [False, True]
