"""Closer looks at an evaluation that was run on fakes: what each finds, and that it is written down."""

from __future__ import annotations

import pytest

from stars_guard import ConfigurationError
from stars_guard.cli.app import main
from stars_guard.evaluation import cells, evaluate
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.judges.base import Judgement
from stars_guard.evaluation.methods.guarded import Guarded
from stars_guard.evaluation.studies.bellman import BellmanErrors, bellman_errors
from stars_guard.evaluation.studies.gradient import GradientFigures
from stars_guard.evaluation.studies.grid import GridFigures
from stars_guard.evaluation.studies.miscalibration import FINAL_REWARD, Miscalibration
from stars_guard.evaluation.studies.records import StudyFindings
from stars_guard.evaluation.studies.resampling import ResamplingFigures, worst_of
from stars_guard.evaluation.studies.run import study
from stars_guard.evaluation.tasks.base import Task
from stars_guard.training.attack import ProbeAttacker, SuffixAttack
from tests.evaluation.studies.signs import PATHS, model, plan
from tests.support import calibration_answers
from tests.support.evaluations import prompts_file

pytestmark = pytest.mark.usefixtures("signs")


@pytest.fixture
def signs(fakes, monkeypatch):
    monkeypatch.setattr(cells, "load_model", model)


def studied(evaluation, folder):
    findings = study(evaluation, evaluate(evaluation, folder), folder)
    assert StudyFindings.read(EvalFolder(folder).studies) == findings
    for finding in findings.findings:
        assert finding.table.rows
        assert all(len(row) == len(finding.table.columns) for row in finding.table.rows)
    return findings.findings


def only(evaluation, folder):
    (finding,) = studied(evaluation, folder)
    return finding


def test_without_studies_nothing_is_written(tmp_path):
    evaluation = plan(tmp_path)
    assert study(evaluation, evaluate(evaluation, tmp_path / "out"), tmp_path / "out") == StudyFindings()
    assert not EvalFolder(tmp_path / "out").studies.exists()


def test_findings_of_studies_that_are_asked_for_no_longer_are_not_kept(tmp_path):
    output = tmp_path / "out"
    assert studied(plan(tmp_path, analyses=["miscalibration"]), output)
    study(plan(tmp_path), evaluate(plan(tmp_path), output), output)
    assert not EvalFolder(output).studies.exists()


def test_each_finding_is_written_before_the_next_one_is_sought(tmp_path, monkeypatch):
    evaluation, output = plan(tmp_path, analyses=["miscalibration", "bellman"]), tmp_path / "out"

    def cut_off(*anything):
        raise KeyboardInterrupt

    results = evaluate(evaluation, output)
    monkeypatch.setattr("stars_guard.evaluation.studies.run.bellman", cut_off)
    with pytest.raises(KeyboardInterrupt):
        study(evaluation, results, output)
    (finding,) = StudyFindings.read(EvalFolder(output).studies).findings
    assert finding.kind == "miscalibration"


def test_a_cut_off_file_of_findings_is_one_clear_error(tmp_path):
    path = tmp_path / "studies.json"
    path.write_text('{"version": 1, "findings": [')
    with pytest.raises(ConfigurationError, match=r"studies.json: not the findings .*; run the evaluation"):
        StudyFindings.read(path)
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        StudyFindings.read(tmp_path / "missing.json")


def test_a_grid_stands_side_by_side(tmp_path):
    grid = {"method": "guarded", "vary": {"guard.threshold": [-9.0, 0.0]}, "task": "asked"}
    finding = only(plan(tmp_path, studies={"bar": grid}), tmp_path / "out")
    figures = GridFigures.model_validate(finding.figures)
    assert (finding.name, finding.kind, figures.method) == ("bar", "grid", "guarded")
    assert list(figures.values) == ["-9.0", "0.0"]
    harmful = {point.x: point.y for point in finding.plot.series[0].points}
    assert harmful["-9.0"] == 0.5 > harmful["0.0"] == 0
    assert [row[:2] for row in finding.table.rows] == [("-9.0", 8), ("0.0", 8)]


def test_longer_beginnings_foretell_the_whole_better(tmp_path):
    finding = only(plan(tmp_path, analyses=["miscalibration"]), tmp_path / "out")
    for agreement in Miscalibration.model_validate(finding.figures).agreements:
        first, second = agreement.positions
        assert (first.tokens, second.tokens) == (1, 2)
        assert first.answers == second.answers == len(PATHS)
        assert 0 < first.pearson.value < second.pearson.value < 1
        assert first.pearson.low < first.pearson.value < first.pearson.high
        assert second.auc.value > first.auc.value > 0.5
    assert [agreement.foretold for agreement in Miscalibration(**finding.figures).agreements] == [
        FINAL_REWARD,
        "harm",
    ]


def test_without_a_judge_only_the_final_reward_is_foretold(tmp_path):
    task = Task(prompts=prompts_file(tmp_path, PATHS))
    finding = only(plan(tmp_path, tasks={"asked": task}, analyses=["miscalibration"]), tmp_path / "out")
    (agreement,) = Miscalibration(**finding.figures).agreements
    assert agreement.foretold == FINAL_REWARD


def test_answers_of_one_segment_foretell_nothing(tmp_path):
    task = Task(prompts=prompts_file(tmp_path, ["+", "-"]), judges=("harm",))
    evaluation = plan(tmp_path, tasks={"asked": task}, analyses=["miscalibration"])
    finding = study(evaluation, evaluate(evaluation, tmp_path / "out"), tmp_path / "out").findings[0]
    assert all(not agreement.positions for agreement in Miscalibration(**finding.figures).agreements)


def test_the_bellman_error_stands_beside_what_the_guard_gains(tmp_path):
    finding = only(plan(tmp_path, analyses=["bellman"]), tmp_path / "out")
    (forecast,) = BellmanErrors.model_validate(finding.figures).rewards
    # Candidates are a sign and a plus: the mean of the next reward is the last one, or one more.
    first = forecast.positions[0]
    assert (first.tokens, forecast.candidates) == (0, 2)
    assert first.error.value * forecast.spread == pytest.approx(0.5)
    assert first.bias.value * forecast.spread == pytest.approx(-0.5)
    assert first.to_end.value * forecast.spread == pytest.approx((2 * 3 + 6 * 1) / 8)
    (gain,) = forecast.gains
    assert (gain.method, gain.judge) == ("guarded", "harm")
    assert gain.harmful.value == -0.5
    assert gain.value.value > 0


def test_a_task_without_judges_has_no_gains(tmp_path):
    task = Task(prompts=prompts_file(tmp_path, PATHS))
    finding = only(plan(tmp_path, tasks={"asked": task}, analyses=["bellman"]), tmp_path / "out")
    assert BellmanErrors(**finding.figures).rewards[0].gains == ()


def test_a_reward_that_is_its_own_forecast_has_no_error_but_noise():
    good = calibration_answers.answers(calibration_answers.random_walk, prompts=200)
    bad = calibration_answers.answers(calibration_answers.noise, prompts=200)
    good_at, bad_at = (bellman_errors(answers, 1.0, seed=0)[2] for answers in (good, bad))
    assert good_at.error.value == pytest.approx(good_at.noise * (2 / 3.14159) ** 0.5, rel=0.25)
    assert bad_at.error.value > 1.5 * good_at.error.value
    assert good_at.bias.low < 0 < good_at.bias.high


def test_the_attacker_keeps_the_worst_of_several_answers(tmp_path):
    attack = {"kind": "resample", "k": 3}
    task = Task(prompts=prompts_file(tmp_path, PATHS[:4]), judges=("harm",), attack=attack)
    evaluation = plan(tmp_path, tasks={"asked": task}, analyses=["resampling"])
    figures = ResamplingFigures.model_validate(only(evaluation, tmp_path / "out").figures)
    assert [method.method for method in figures.methods] == ["plain", "guarded"]
    for method in figures.methods:
        assert [worst.asked for worst in method.worst] == [1, 2, 3]
        values = [worst.value.value for worst in method.worst]
        assert values == sorted(values, reverse=True)
        assert {worst.value.prompts for worst in method.worst} == {4}


def test_the_worst_answer_counts_for_its_prompt():
    said = [("a~way1", 1.0, False), ("a~way2", -1.0, True), ("b~way1", 0.5, None), ("b~way2", 0.0, None)]
    judgements = {
        f"{row}#0": Judgement(id=f"{row}#0", value=value, harmful=harm) for row, value, harm in said
    }
    first, second = worst_of(judgements, seed=0)
    assert (first.value.value, second.value.value) == (0.75, -0.5)
    assert (first.harmful.value, second.harmful.value) == (0, 1)
    assert second.harmful.prompts == 1
    assert worst_of({}, seed=0) == ()


class FakeAttacker:
    """Raises every reward by 2."""

    def search(self, prompt, response, settings):
        return SuffixAttack(suffix="!", before=response.count("+") - 3.0, rewards=(0.0, -1.0 + 2))


def test_a_white_box_attacker_works_on_the_worst_answers(tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(ProbeAttacker, "load", lambda *names: loaded.append(names) or FakeAttacker())
    probe = "tests.evaluation.studies.signs:guiding"
    analysis = {"kind": "gradient", "probe": probe, "prompts": 2}
    finding = only(plan(tmp_path, analyses=[analysis]), tmp_path / "out")
    figures = GradientFigures.model_validate(finding.figures)
    assert loaded == [(None, probe)]
    assert figures.answers[0].row == f"p{PATHS.index('---')}#0"
    assert (figures.passed_before, figures.passed_after, figures.target) == (0, 1, 0.0)
    assert len(figures.answers) == 2
    assert [point.x for point in finding.plot.series[0].points] == [0, 1, 2]


def test_a_probe_that_guides_nothing_has_no_target(tmp_path, monkeypatch):
    monkeypatch.setattr(ProbeAttacker, "load", lambda *names: FakeAttacker())
    finding = only(plan(tmp_path, analyses=["gradient"]), tmp_path / "out")
    assert GradientFigures(**finding.figures).passed_before is None


@pytest.mark.parametrize(
    ("analysis", "problem"),
    [
        ({"kind": "resampling", "judge": "other"}, "'other' is no judge of 'asked'"),
        (
            {"kind": "gradient", "judge": "pairs"},
            "'pairs' compares with 'plain'.*a judge of single answers",
        ),
        ({"kind": "miscalibration", "methods": ["idle"]}, "'idle' does not answer 'asked'"),
        ({"kind": "resampling"}, "asks in several ways"),
        ({"kind": "gradient", "probe": "distilbert"}, "probe='distilbert': is no probe"),
    ],
)
def test_an_analysis_that_does_not_suit_the_evaluation_fails_at_construction(tmp_path, analysis, problem):
    evaluation = plan(tmp_path)
    harm = evaluation.judges["harm"]
    judges = {"harm": harm, "other": harm, "pairs": {"kind": "pairwise", "by": harm.reward}}
    methods = {**evaluation.methods, "idle": Guarded()}
    task = evaluation.tasks["asked"].changed(methods=("plain", "guarded"), judges=("harm", "pairs"))
    with pytest.raises(ConfigurationError, match=problem):
        evaluation.changed(judges=judges, methods=methods, tasks={"asked": task}, analyses=[analysis])


@pytest.mark.parametrize(
    ("analysis", "problem"),
    [
        ({"kind": "bellman", "task": "gone"}, "no such entry of tasks: 'gone'"),
        ({"kind": "bellman", "judge": "gone"}, "no such entry of judges: 'gone'"),
        ({"kind": "miscalibration", "methods": ["gone"]}, "no such entry of methods: 'gone'"),
        ({"kind": "gradient", "method": "gone"}, "no such entry of methods: 'gone'"),
        ({"kind": "bellman", "rewards": ["gone"]}, "no such entry of rewards: 'gone'"),
        ("belman", "kind='belman'|'belman'"),
    ],
)
def test_a_wrong_analysis_fails_at_construction(tmp_path, analysis, problem):
    with pytest.raises(ConfigurationError, match=problem):
        plan(tmp_path, analyses=[analysis])


def test_an_analysis_that_needs_a_judge_says_so(tmp_path):
    task = Task(prompts=prompts_file(tmp_path, PATHS))
    with pytest.raises(ConfigurationError, match="needs a judge"):
        plan(tmp_path, tasks={"asked": task}, analyses=["gradient"])


def test_a_conversation_is_not_attacked_by_gradient(tmp_path, monkeypatch):
    monkeypatch.setattr(ProbeAttacker, "load", lambda *names: FakeAttacker())
    task = Task(prompts=prompts_file(tmp_path, PATHS), judges=("harm",), attack="multi_turn")
    evaluation = plan(tmp_path, tasks={"asked": task}, analyses=["gradient"])
    with pytest.raises(ConfigurationError, match="no answer to a single question"):
        study(evaluation, evaluate(evaluation, tmp_path / "out"), tmp_path / "out")


def test_the_command_line_runs_the_studies_of_a_file(tmp_path, capsys):
    evaluation = plan(tmp_path, analyses=["miscalibration"])
    file = tmp_path / "evaluation.json"
    file.write_text(evaluation.model_dump_json(), encoding="utf-8")
    file = file.rename(file.with_suffix(".yaml"))  # JSON is YAML
    assert main(["eval", str(file), "--output", str(tmp_path / "out"), "--json"]) == 0
    (finding,) = StudyFindings.read(EvalFolder(tmp_path / "out").studies).findings
    assert finding.kind == "miscalibration"
