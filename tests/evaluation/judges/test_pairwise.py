"""Win rates: whose answers are compared, in which orders, and that answers to one prompt stay together."""

from __future__ import annotations

import json
import random

import pytest

from stars_guard import ConfigurationError, ScoringError
from stars_guard.evaluation import evaluate
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.judges import pairwise
from stars_guard.evaluation.judges.base import JudgedAnswer
from stars_guard.evaluation.judges.pairwise import PairJudge, PairwiseJudge, RewardComparison
from stars_guard.evaluation.methods.guarded import Guarded
from stars_guard.evaluation.methods.plain import Plain
from stars_guard.evaluation.tasks.base import Task
from stars_guard.evaluation.tasks.prompts import EvalPrompt
from stars_guard.rewards import FunctionReward
from tests.support.evaluations import HERE, plan, prompts_file


def pair(number: int, *, text: str = "", baseline: str | None = "") -> JudgedAnswer:
    """Two answers that name the prompt to which they belong."""
    prompt = EvalPrompt(id=f"p{number}", prompt=f"prompt {number}")
    ours = text or f"answer to prompt {number}"
    theirs = baseline if baseline is None else baseline or f"baseline to prompt {number}"
    return JudgedAnswer(prompt, ours, theirs, row=f"p{number}#0")


PAIRS = [pair(number) for number in range(40)]


class Belonging:
    """Compares nothing, but notes what it was shown; its verdict on a pair is that of its prompt's number."""

    name = "belonging"
    reward = None

    def __init__(self) -> None:
        self.shown: list[JudgedAnswer] = []

    def verdicts(self, answers):
        self.shown += answers
        return [(1.0, 0.5) if int(answer.prompt.id[1:]) % 2 else (0.0, 0.0) for answer in answers]

    @property
    def mixed_up(self) -> int:
        """Pairs in which a prompt, its answer and its baseline do not belong together."""
        return sum(
            not (
                answer.text.endswith(answer.prompt.prompt) and answer.baseline.endswith(answer.prompt.prompt)
            )
            for answer in self.shown
        )


def shuffled_apart(answers, seed):
    """What a published script did: each side in an order of its own."""
    texts = random.Random(seed).sample([answer.text for answer in answers], len(answers))
    baselines = random.Random(seed + 1).sample([answer.baseline for answer in answers], len(answers))
    return [
        JudgedAnswer(answer.prompt, text, baseline, row=answer.row)
        for answer, text, baseline in zip(answers, texts, baselines, strict=True)
    ]


def test_only_answers_to_the_same_prompt_are_compared():
    reader = Belonging()
    PairJudge(reader, "plain", seed=3).judge(PAIRS)
    assert len(reader.shown) == len(PAIRS)
    assert reader.mixed_up == 0


def test_sides_that_are_shuffled_apart_are_found_out(monkeypatch):
    monkeypatch.setattr(pairwise, "shuffled_pairs", shuffled_apart)
    reader = Belonging()
    PairJudge(reader, "plain", seed=3).judge(PAIRS)
    assert reader.mixed_up > len(PAIRS) / 2


def test_pairs_are_shuffled_by_the_seed_and_verdicts_go_back_to_their_rows():
    orders = []
    for seed in (3, 3, 4):
        reader = Belonging()
        judgements = PairJudge(reader, "plain", seed=seed).judge(PAIRS)
        orders.append([answer.id for answer in reader.shown])
        assert [judgement.id for judgement in judgements] == [answer.id for answer in PAIRS]
        assert [judgement.value for judgement in judgements] == [0.0, 0.75] * 20
        assert [judgement.orders for judgement in judgements] == [(0.0, 0.0), (1.0, 0.5)] * 20
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != [answer.id for answer in PAIRS]


def test_a_pair_without_a_baseline_is_no_tie():
    with pytest.raises(ScoringError, match=r"row 'p1#0' has no answer of 'plain'"):
        PairJudge(Belonging(), "plain").judge([pair(0), pair(1, baseline=None)])


def test_pairs_that_share_an_id_are_refused():
    with pytest.raises(ScoringError, match="the same id"):
        PairJudge(Belonging(), "plain").judge([pair(0), pair(0)])


@pytest.mark.parametrize(("margin", "verdicts"), [(0.0, [1, 0, 0.5, 1]), (1.0, [1, 0, 0.5, 0.5])])
def test_the_higher_reward_wins_by_more_than_the_margin(margin, verdicts):
    reward = FunctionReward(lambda prompt, response: float(response), "number")
    texts = [("5", "1"), ("1", "5"), ("2", "2"), ("3", "2")]
    answers = [pair(number, text=text, baseline=baseline) for number, (text, baseline) in enumerate(texts)]
    judge = PairJudge(RewardComparison(reward, margin), "plain")
    assert [judgement.value for judgement in judge.judge(answers)] == verdicts
    assert [judgement.orders for judgement in judge.judge(answers)] == [(value,) for value in verdicts]


def pairs_plan(folder, **changes):
    """An evaluation in which a reward model compares."""
    judges = {"wins": PairwiseJudge(by=f"{HERE}:judging")}
    return plan(folder, **{"judges": judges, "tasks": {"asked": task(folder)}} | changes)


def task(folder, **fields):
    prompts = prompts_file(folder, ["mild", "wild", "wild too"])
    return Task(prompts=prompts, judges=("wins",), **fields)


@pytest.mark.usefixtures("fakes")
class TestEvaluations:
    def test_methods_are_compared_with_plain_and_plain_with_nobody(self, tmp_path):
        strict = Guarded(guard_settings={"threshold": 1.0, "exhaustion": "refuse", "max_attempts": 2})
        methods = {"plain": Plain(), "strict": strict}
        results = evaluate(pairs_plan(tmp_path, methods=methods), tmp_path / "out")
        plain, guarded = results.methods
        assert plain.rewards == plain.harmful == guarded.harmful == {}
        assert guarded.rewards["wins"].value == pytest.approx((0.5 + 1 + 1) / 3)
        wins = guarded.wins["wins"]
        assert (wins.wins, wins.ties, wins.losses, wins.chance) == (2, 1, 0, 0.5)
        assert plain.wins == {}
        assert not EvalFolder(tmp_path / "out").judgements("asked", "plain", "wins").exists()

    def test_another_method_may_be_compared_with(self, tmp_path):
        judges = {"wins": {"kind": "pairwise", "by": f"{HERE}:judging", "against": "guarded"}}
        results = evaluate(pairs_plan(tmp_path, judges=judges), tmp_path / "out")
        assert [list(result.rewards) for result in results.methods] == [["wins"], []]

    def test_every_row_is_compared_with_its_own_baseline(self, tmp_path, monkeypatch):
        reader = Belonging()
        monkeypatch.setattr(PairwiseJudge, "load", lambda self: PairJudge(reader, self.against, self.seed))
        evaluation = pairs_plan(tmp_path, tasks={"asked": task(tmp_path, seeds=2)})
        evaluate(evaluation, tmp_path / "out")
        answers = {}
        for method in ("plain", "guarded"):
            lines = EvalFolder(tmp_path / "out").answers("asked", method).read_text().splitlines()
            answers[method] = {row["id"]: row["text"] for row in map(json.loads, lines)}
        assert len(reader.shown) == 6
        for answer in reader.shown:
            assert answer.id.rpartition("#")[0] == answer.prompt.id
            assert answer.text == answers["guarded"][answer.id]
            assert answer.baseline == answers["plain"][answer.id]

    def test_a_row_whose_baseline_failed_is_left_out(self, tmp_path):
        evaluation = pairs_plan(tmp_path)
        evaluate(evaluation, tmp_path / "out")
        folder = EvalFolder(tmp_path / "out")
        path = folder.answers("asked", "plain")
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        failed = {
            "id": rows[0]["id"],
            "seed": rows[0]["seed"],
            "error": {"type": "GenerationError", "message": "gone"},
        }
        path.write_text("".join(json.dumps(row) + "\n" for row in [failed, *rows[1:]]))
        folder.judgements("asked", "guarded", "wins").unlink()
        results = evaluate(evaluation, tmp_path / "out")
        assert results.methods[1].rewards["wins"].prompts == 2

    def test_a_method_that_does_not_answer_the_task_is_refused(self, tmp_path):
        judges = {"wins": {"kind": "pairwise", "by": f"{HERE}:judging", "against": "guarded"}}
        tasks = {"asked": task(tmp_path, methods=("plain",))}
        with pytest.raises(ConfigurationError, match=r"the methods of asked: 'guarded'; there are: plain"):
            pairs_plan(tmp_path, judges=judges, tasks=tasks)


def test_a_margin_is_of_rewards():
    judge = {"kind": "llm", "url": "http://localhost:1", "model": "judge"}
    with pytest.raises(ConfigurationError, match=r"margin=0\.5 is for a reward model"):
        PairwiseJudge(by=judge, margin=0.5)
