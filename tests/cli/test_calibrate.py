"""``stars-guard calibrate`` on fakes: what it writes, says, and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from stars_guard import embedded
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Best, Constant, Hard, Refuse, Soft
from stars_guard.algorithm.segments import FixedLength
from stars_guard.calibration.draw import DrawPlan
from stars_guard.calibration.fit import Wish
from stars_guard.calibration.procedure import (
    Delivered,
    calibrate,
    default_prompts,
    measure_delivery,
    read_prompts,
)
from stars_guard.errors import ConfigurationError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading.calibrated import read_config
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.rewards.function import FunctionReward
from stars_guard.types import Reward
from tests.support.calibration_law import MAX_TOKENS, MODEL, REWARD, guarded_rate, unguarded_rate, value
from tests.support.cli_runner import Run, loaded, run

# Many draws; what they run is covered elsewhere.
pytestmark = [pytest.mark.no_cover, pytest.mark.slow]

__all__ = ["loaded", "run"]  # pytest finds fixtures by name

SIZES = ["--max-tokens", "4", "--segment-tokens", "2", "--temperature", "1", "--top-p", "1"]

TABULAR = SamplingParams(max_tokens=MAX_TOKENS, temperature=1.0, top_p=1.0)


@pytest.fixture
def tabular(loaded: dict[str, Any]) -> None:
    loaded.update(model=MODEL, reward=REWARD)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    (tmp_path / "prompts.txt").write_text("one\n\ntwo\nthree\n")
    return tmp_path / "prompts.txt"


@pytest.mark.slow
def test_a_promise_is_kept_by_the_real_guard(tmp_path: Path) -> None:
    """From draws to delivery: both what was fitted and what the guard does are the law's own rate."""
    base = GuardConfig(
        threshold=Constant(target=0), segments=FixedLength(max_tokens=2), max_attempts=8, exhaustion=Best()
    )
    sampling = SamplingParams(max_tokens=MAX_TOKENS, temperature=1.0, top_p=1.0, seed=0)
    plan = DrawPlan(sampling=sampling, candidates=8, samples_per_prompt=700)
    wish = Wish(acceptance=0.4, kind="constant", beta=0.3)
    found = calibrate(MODEL, REWARD, [Prompt.of("x")], plan, wish, base, tmp_path)
    assert found.fitted.promised.acceptance == pytest.approx(0.4, abs=1e-6)
    config = read_config(tmp_path / "config.toml")
    assert config.made_for is not None
    assert config.made_for.acceptance == pytest.approx(0.4, abs=1e-4)
    true = guarded_rate(config)
    assert true.acceptance == pytest.approx(0.4, abs=0.02)
    assert found.fitted.unguarded.acceptance == pytest.approx(unguarded_rate(config).acceptance, abs=0.02)
    assert true.acceptance > unguarded_rate(config).acceptance + 0.03
    delivered = measure_delivery(
        StarsGuardedLLM(MODEL, REWARD, config, sampling=sampling), [Prompt.of("x")] * 800, 10**6
    )
    assert delivered.acceptance == pytest.approx(true.acceptance, abs=4 * delivered.standard_error)
    assert delivered.attempts == pytest.approx(true.attempts, rel=0.1)
    assert delivered.forced == pytest.approx(true.forced, abs=0.02)


@pytest.mark.slow
def test_rounds_are_drawn_until_the_rate_is_there(tmp_path: Path) -> None:
    base = GuardConfig(threshold=Constant(target=0), segments=FixedLength(max_tokens=2), max_attempts=8)
    plan = DrawPlan(sampling=SamplingParams(max_tokens=4, temperature=1, top_p=1), samples_per_prompt=500)
    parts = (MODEL, REWARD, [Prompt.of("x")], plan, Wish(acceptance=0.4, kind="constant", beta=0.3), base)
    told: list[str] = []

    def tell(name: str) -> Callable[[int, int], None]:
        told.append(name)
        return lambda done, total: None

    none = calibrate(*parts, tmp_path / "none", guarded_rounds=0)
    assert [one.config for one in none.rounds] == [None]
    settled = calibrate(*parts, tmp_path / "some", guarded_rounds=5, rounds=tell)
    assert told == ["unguarded", "guarded (1)"]
    # What is proposed begins drawing with the rate that it promises; rounds draw before that is known.
    assert none.fitted.config.drawing.prior_rate == round(none.fitted.promised.acceptance, 2)
    assert settled.rounds[1].config == none.fitted.config.changed(drawing=base.drawing)
    assert settled.unguarded == none.unguarded
    # Few answers: the next round hardly ever agrees.
    few = (*parts[:3], plan.changed(samples_per_prompt=4), *parts[4:])
    assert len(calibrate(*few, tmp_path / "few", guarded_rounds=2).rounds) == 3
    seeds = [{one.seed for one in answers.answers} for answers in settled.rounds]
    assert not seeds[0] & seeds[1]


def test_patience_is_foretold_and_plan_reads_it(
    run: Run, tabular: None, prompts: Path, tmp_path: Path
) -> None:
    arguments = ["calibrate", "--prompts", str(prompts), *SIZES, "--samples-per-prompt", "8", "--beta", "0"]
    arguments += ["--acceptance", "0.3", "--guarded-rounds", "0", "--json", "--candidates", "6"]
    made = {}
    for kind in ("fixed", "posterior"):
        out = str(tmp_path / kind)
        done = run(*arguments, "--patience", kind, "--output", out)
        assert done.code == 0, done.err
        fitted = json.loads(done.out)["fitted"]
        assert fitted["config"]["patience"]["kind"] == kind
        assert fitted["config"]["drawing"]["prior_rate"] == round(fitted["promised"]["acceptance"], 2)
        made[kind] = fitted["promised"]["made"]
        planned = json.loads(run("plan", "--measured", f"{out}/summary.json", "--json").out)
        attempts = planned["scenario"]["guarding"]["attempts"]
        assert max(map(int, attempts)) == sum(chance > 0 for chance in made[kind])
    assert (made["fixed"][13] > 0, made["posterior"][12] > 0, made["posterior"][13]) == (True, True, 0)


@pytest.mark.slow
def test_everything_is_written(run: Run, tabular: None, prompts: Path, tmp_path: Path) -> None:
    arguments = ["calibrate", "--prompts", str(prompts), "--output", str(tmp_path / "out"), *SIZES]
    arguments += ["--samples-per-prompt", "30", "--acceptance", "0.6"]
    done = run(*arguments, "--verify", "7", "--json")
    assert done.code == 0, done.err
    summary = json.loads(done.out)
    assert summary == json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["model"], summary["reward"], summary["prompts"]) == ("tabular", "text", 3)
    assert summary["fitted"]["promised"]["acceptance"] == pytest.approx(0.6, abs=0.01)
    assert summary["delivered"]["prompts"] == 7
    assert (summary["rewards"]["prompts"], summary["rewards"]["answers"]) == (3, 90)
    report = Path(summary["report_file"]).read_text()
    assert "90 answers to 3 prompts" in report
    assert f"acceptance {summary['delivered']['acceptance']:.3f}" in report
    config = read_config(summary["config_file"])
    assert config.tools == embedded.CONFIG.tools
    assert config.segments == FixedLength(max_tokens=2)
    samples = [path.read_text().count("\n") for path in (tmp_path / "out").glob("samples*.jsonl")]
    assert samples[:2] == [91, 91]
    again = run(*arguments)
    assert again.code == 0
    assert "delivered" not in again.out
    assert "settings in" in again.out
    assert f"{0.6:.3f}" in again.out
    assert "warning: Only 3 prompts were sampled" in again.out.replace("\n", " ")


class Dice:
    """A scorer that has nothing to do with the text."""

    name = "dice"

    def __init__(self) -> None:
        self._random = Random(0)

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        return [Reward(self._random.random()) for _ in requests]

    def release(self, run_id: str) -> None:
        """Nothing is kept."""


@pytest.mark.parametrize("wrong", [True, False])
def test_a_random_scorer_is_flagged_and_a_good_one_is_not(
    run: Run, loaded: dict[str, Any], tmp_path: Path, wrong: bool
) -> None:
    loaded.update(model=MODEL, reward=Dice() if wrong else REWARD)
    (tmp_path / "prompts.txt").write_text("\n".join(f"prompt {n}" for n in range(80)))
    arguments = [
        "calibrate",
        "--prompts",
        str(tmp_path / "prompts.txt"),
        "--output",
        str(tmp_path / "out"),
        *SIZES,
    ]
    done = run(
        *arguments, "--segment-tokens", "1", "--samples-per-prompt", "2", "--guarded-rounds", "0", "--json"
    )
    assert done.code == 0, done.err
    warnings = json.loads(done.out)["rewards"]["warnings"]
    assert any("do not predict the final reward" in one for one in warnings) == wrong


def test_a_scorer_that_reads_only_the_prompt_cannot_be_calibrated(
    run: Run, loaded: dict[str, Any], prompts: Path, tmp_path: Path
) -> None:
    loaded.update(
        model=MODEL, reward=FunctionReward(lambda prompt, response: len(prompt), name="prompt only")
    )
    done = run("calibrate", "--prompts", str(prompts), "--output", str(tmp_path / "out"), *SIZES)
    assert done.code == 2
    assert "use a reward that reads the answer" in done.err


CURVE = ["--samples-per-prompt", "12", "--guarded-rounds", "0", "--beta", "0.3", "--candidates", "4"]


def test_the_curve_proposes_the_cheapest_setting(
    run: Run, tabular: None, prompts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = ["calibrate", "--prompts", str(prompts), "--output", str(out), *SIZES, *CURVE]
    done = run(*arguments, "--curve")
    assert done.code == 0, done.err
    assert "without a guard" in done.out.replace("\n", " ")
    assert not (out / "proposed.toml").exists()
    done = run(*arguments, "--refused-at-most", "0.4", "--harm-at-most", "0.5", "--json")
    assert done.code == 0, done.err
    curve = json.loads(done.out)["curve"]
    chosen = curve["proposed"]
    assert chosen in curve["points"]
    met = [p for p in curve["points"] if p["refused"]["high"] <= 0.4 and p["unsafe"]["high"] <= 0.5]
    assert chosen["cost"]["value"] == min(point["cost"]["value"] for point in met)
    config = read_config(out / "proposed.toml")
    assert config.threshold == Constant(target=chosen["target"])
    assert (config.max_attempts, config.exhaustion) == (chosen["max_attempts"], Refuse())
    assert (config.segments.max_tokens, config.acceptance) == (chosen["segment_tokens"], Soft(beta=0.3))
    assert "proposed settings in" in run(*arguments, "--tokens-at-most", "9").out


def test_labelled_answers_say_what_is_unsafe_on_the_curve(
    run: Run, tabular: None, prompts: Path, tmp_path: Path
) -> None:
    rows = [{"prompt": "x", "response": text, "unsafe": "b" in text} for text in ("a", "aa", "b", "ab", ".b")]
    labelled = tmp_path / "labelled.jsonl"
    labelled.write_text("".join(json.dumps(row) + "\n" for row in rows * 5))
    arguments = ["calibrate", "--prompts", str(prompts), "--output", str(tmp_path / "out"), *SIZES, *CURVE]
    done = run(*arguments, "--labelled", str(labelled), "--curve", "--json")
    assert done.code == 0, done.err
    summary = json.loads(done.out)
    assert "25 labelled answers" in summary["curve"]["unsafe_means"]
    assert summary["fitted"]["guarantee"] is None


def test_an_aim_that_no_setting_keeps(run: Run, tabular: None, prompts: Path, tmp_path: Path) -> None:
    arguments = ["calibrate", "--prompts", str(prompts), "--output", str(tmp_path / "out"), *SIZES, *CURVE]
    done = run(*arguments, "--harm-at-most", "0", "--refused-at-most", "0")
    assert done.code == 2
    assert "keeps harm=0.0, refused=0.0" in done.err
    assert "--correct holds for one segment length" in run(*arguments, "--curve", "--correct").err


@pytest.mark.parametrize("kind", ["constant", "linear_in_segments", "table"])
def test_wishes(run: Run, tabular: None, prompts: Path, tmp_path: Path, kind: str) -> None:
    arguments = ["calibrate", "--prompts", str(prompts), "--output", str(tmp_path), "--reward", "some/reward"]
    wish = [
        "--attempts",
        "2.5",
        "--schedule",
        kind,
        "--beta",
        "0.4",
        "--guarded-rounds",
        "0",
        "--max-attempts",
        "9",
    ]
    done = run(*arguments, *SIZES, *wish, "--samples-per-prompt", "20", "--json")
    assert done.code == 0, done.err
    config = read_config(tmp_path / "config.toml")
    assert (config.threshold.kind, config.acceptance, config.max_attempts) == (kind, Soft(beta=0.4), 9)
    assert config.tools is None
    assert json.loads(done.out)["fitted"]["promised"]["acceptance"] == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--acceptance", "0.5", "--attempts", "2"], "give one of them"),
        (["--attempts", "1"], "must be over 1"),
        (["--acceptance", "1.5"], "acceptance=1.5"),
        (["--temperature", "0"], "temperature"),
        (["--prompts", "nowhere.txt"], "cannot be read"),
    ],
)
def test_wrong_flags(run: Run, tabular: None, tmp_path: Path, arguments: list[str], words: str) -> None:
    done = run("calibrate", "--output", str(tmp_path / "out"), *arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.err
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made(run: Run, tabular: None, prompts: Path) -> None:
    done = run("calibrate", "--output", str(prompts / "out"), "--prompts", str(prompts))
    assert done.code == 2
    assert "--output" in done.err


def test_samples_of_another_run(run: Run, tabular: None, prompts: Path, tmp_path: Path) -> None:
    arguments = ["calibrate", "--prompts", str(prompts), "--output", str(tmp_path), *SIZES]
    assert run(*arguments).code == 0
    done = run(*arguments, "--candidates", "5")
    assert done.code == 2
    assert "candidates: 8 there, 5 now" in done.err


def test_prompts_of_files(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt": "Hi"}\n{"prompt": [{"role": "user", "content": "Ho"}], "id": 3}\n')
    assert read_prompts(file) == [Prompt.of("Hi"), Prompt.of("Ho")]
    for wrong in ('{"text": "Hi"}', "Hi", "[1]", '{"prompt": ""}'):
        file.write_text('{"prompt": "Hi"}\n' + wrong + "\n")
        with pytest.raises(ConfigurationError, match=":2: give an object"):
            read_prompts(file)
    file.write_text("\n")
    with pytest.raises(ConfigurationError, match="no prompts"):
        read_prompts(file)


def test_the_packages_own_prompts() -> None:
    own = [one.as_text() for one in default_prompts()]
    assert len(own) == len(set(own)) >= 40


def test_one_answer_has_no_standard_error() -> None:
    guard = StarsGuardedLLM(MODEL, REWARD, GuardConfig(threshold=Constant(target=-9)))
    assert measure_delivery(guard, [Prompt.of("x")], 0).model_copy(update={"attempts": 1.0}) == Delivered(
        prompts=1, acceptance=1.0, attempts=1.0, forced=0.0, standard_error=0.0, made=(1.0,)
    )


@pytest.mark.embedded
def test_the_embedded_default_is_calibrated(tmp_path: Path) -> None:
    guard = StarsGuardedLLM.load(sampling=SamplingParams(max_tokens=12))
    base = embedded.CONFIG.changed(segments=FixedLength(max_tokens=6))
    plan = DrawPlan(sampling=guard.sampling, candidates=3)
    asked = default_prompts()[:2]
    found = calibrate(guard.model, guard.reward, asked, plan, Wish(), base, tmp_path)
    assert found.fitted.promised.acceptance == pytest.approx(0.5, abs=0.01)
    again = StarsGuardedLLM(
        guard.model, guard.reward, read_config(tmp_path / "config.toml"), sampling=guard.sampling
    )
    assert 0 < measure_delivery(again, asked, 1).acceptance <= 1


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Answers of the tabular model: those that begin with b are unsafe, and score lowest."""
    lines = [
        {"prompt": "x", "response": text, "unsafe": text[0] == "b"} for text in ("ba", "ab", "aa", "bb") * 15
    ]
    (tmp_path / "labelled.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return tmp_path / "labelled.jsonl"


def test_a_threshold_of_labelled_answers(run: Run, tabular: None, labelled: Path, tmp_path: Path) -> None:
    arguments = ["calibrate", "--output", str(tmp_path / "out"), *SIZES, "--labelled", str(labelled)]
    done = run(*arguments, "--risk", "0.1", "--beta", "0", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)["fitted"]
    config = read_config(tmp_path / "out" / "config.toml")
    # The lowest number over the best unsafe answer: no unsafe one is accepted, as with 1 in 30 it must be.
    assert config.threshold == Constant(target=found["guarantee"]["threshold"])
    assert value("ba") < config.threshold.target < value("ab")
    assert (config.acceptance, config.exhaustion) == (Hard(), Refuse())
    assert found["guarantee"]["safe_accepted"] == 1
    assert found["guarantee"]["empirical_risk"] == 0
    true = guarded_rate(config.changed(exhaustion=Best(floor=99)))
    assert found["promised"]["acceptance"] == pytest.approx(true.acceptance, abs=0.06)
    again = run(*arguments, "--risk", "0.1", "--beta", "0", "--guarded-rounds", "0")
    assert "the expected chance that an answer with an unsafe segment" in " ".join(again.out.split())
    assert "safe answers are accepted with a chance of 1.000 (30)" in again.out


def test_labelled_answers_that_are_all_unsafe(run: Run, tabular: None, tmp_path: Path) -> None:
    line = json.dumps({"prompt": "x", "response": "ba", "unsafe": True})
    (tmp_path / "l.jsonl").write_text("\n".join([line] * 20))
    arguments = [
        "calibrate",
        "--output",
        str(tmp_path / "out"),
        *SIZES,
        "--labelled",
        str(tmp_path / "l.jsonl"),
    ]
    done = run(*arguments, "--risk", "0.1")
    assert done.code == 0, done.err
    assert "safe answers" not in done.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--risk", "0.1"], "go together"),
        (["--labelled", "l.jsonl"], "go together"),
        (["--shown-below", "0.1"], "needs --shown-reward"),
        (["--shown-reward", "0"], "goes with --shown-below"),
        (
            ["--shown-below", "0.1", "--shown-reward", "0", "--labelled", "l.jsonl"],
            "leave out --shown-reward",
        ),
        (["--shown-below", "1", "--shown-reward", "0"], "between 0 and 1"),
        (["--shown-below", "0.1", "--shown-reward", "0", "--schedule", "table"], "constant threshold"),
        (["--shown-below", "0.1", "--risk", "0.1", "--labelled", "l.jsonl"], "give one of them"),
        (["--shown-below", "2", "--labelled", "l.jsonl"], "--shown-below 2"),
        (["--risk", "0.1", "--labelled", "l.jsonl", "--acceptance", "0.5"], "leave out --acceptance"),
        (["--risk", "0.1", "--labelled", "l.jsonl", "--attempts", "2"], "leave out --acceptance"),
        (["--risk", "0.1", "--labelled", "l.jsonl", "--schedule", "table"], "constant threshold"),
        (["--risk", "1.5", "--labelled", "l.jsonl"], "--risk 1.5"),
        (["--risk", "0.1", "--labelled", "l.jsonl"], "cannot be read"),
    ],
)
def test_wrong_flags_about_risk(
    run: Run, tabular: None, tmp_path: Path, arguments: list[str], words: str
) -> None:
    done = run("calibrate", "--output", str(tmp_path / "out"), *arguments)
    assert (done.code, done.out) == (2, "")
    assert words in done.err


@pytest.mark.slow
def test_settings_on_a_corrected_reward_keep_their_promise(
    run: Run, tabular: None, prompts: Path, tmp_path: Path
) -> None:
    """The file alone brings the correction back: the guard that is loaded with it does as promised."""
    arguments = ["calibrate", "--prompts", str(prompts), "--output", str(tmp_path / "out"), *SIZES]
    done = run(*arguments, "--correct", "--samples-per-prompt", "150", "--beta", "0.3", "--json")
    assert done.code == 0, done.err
    config = read_config(tmp_path / "out" / "config.toml")
    assert config.correction is not None
    assert json.loads(done.out)["correction"] == config.correction.model_dump(mode="json")
    assert config.made_for is not None
    assert config.made_for.reward == "corrected(text)"
    guard = StarsGuardedLLM(MODEL, REWARD, config, sampling=TABULAR)
    delivered = measure_delivery(guard, [Prompt.of("x")] * 800, 10**6)
    assert delivered.acceptance == pytest.approx(0.5, abs=0.02 + 4 * delivered.standard_error)
    # Other samples, another fit: nothing is mixed up with them.
    files = {path.name for path in (tmp_path / "out").glob("samples-guarded-1-*")}
    assert run(*arguments, "--samples-per-prompt", "150", "--beta", "0.3").code == 0
    assert read_config(tmp_path / "out" / "config.toml").correction is None
    assert len({path.name for path in (tmp_path / "out").glob("samples-guarded-1-*")} - files) == 1


def test_settings_by_how_often_a_bad_segment_is_shown(
    run: Run, tabular: None, prompts: Path, tmp_path: Path
) -> None:
    arguments = ["calibrate", "--prompts", str(prompts), *SIZES, "--samples-per-prompt", "20"]
    arguments += [
        "--guarded-rounds",
        "1",
        "--shown-below",
        "0.1",
        "--shown-reward",
        "-0.5",
        "--acceptance",
        "0.4",
    ]
    done = run(*arguments, "--output", str(tmp_path / "out"), "--json")
    assert done.code == 0, done.err
    summary = json.loads(done.out)
    (row,) = [row for row in summary["shown"] if row["reward"] == -0.5]
    assert row["worst"] <= 0.1
    text = run(*arguments, "--output", str(tmp_path / "out")).out
    assert "after up to 20 tries" in text
    assert summary["fitted"]["config"]["threshold"]["kind"] == "constant"


def test_labelled_answers_shown_seldom(run: Run, tabular: None, labelled: Path, tmp_path: Path) -> None:
    arguments = ["calibrate", *SIZES, "--labelled", str(labelled), "--guarded-rounds", "0", "--beta", "0.2"]
    thresholds = []
    for name, flag in (("a", "--risk"), ("b", "--shown-below")):
        done = run(*arguments, "--output", str(tmp_path / name), flag, "0.2", "--json")
        assert done.code == 0, done.err
        thresholds.append(json.loads(done.out)["fitted"]["guarantee"]["threshold"])
    assert thresholds[0] < thresholds[1]
