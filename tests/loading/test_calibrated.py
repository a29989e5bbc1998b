"""Settings in files: the same after a round trip, read by every entry point, and only for their reward."""

from __future__ import annotations

import builtins
import math
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.algorithm.candidates import Adaptive, Fixed
from stars_guard.algorithm.config import ChannelRules, GuardConfig
from stars_guard.algorithm.rules import (
    Best,
    Constant,
    FrontLoaded,
    Hard,
    Last,
    LinearInSegments,
    LinearInTokens,
    Raise,
    Refuse,
    Soft,
    Table,
)
from stars_guard.algorithm.segments import Boundary, EntropyCut, FixedLength
from stars_guard.errors import ConfigurationError, MissingExtraError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading import parts
from stars_guard.loading.calibrated import CalibratedConfig, MadeFor, as_config, read_config, write_config
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.rewards.corrected import CorrectedReward, Correction, PositionMap
from stars_guard.testing import KeywordReward, ScriptedModel
from stars_guard.types import Channel
from tests.support.cli_runner import Run, loaded, run

__all__ = ["loaded", "run"]  # pytest finds fixtures by name

NUMBERS = st.floats(-1e6, 1e6)
SHARES = st.floats(0, 1)
TABLES = st.lists(
    st.tuples(st.integers(1, 10**6), NUMBERS), min_size=1, max_size=5, unique_by=lambda one: one[0]
)


def table(entries: list[tuple[int, float]]) -> Table:
    positions, thresholds = zip(*sorted(entries), strict=True)
    return Table(positions=positions, thresholds=thresholds)


THRESHOLDS = st.one_of(
    st.builds(Constant, target=NUMBERS),
    st.builds(LinearInTokens, target=NUMBERS, alpha=SHARES),
    st.builds(LinearInSegments, target=NUMBERS, alpha=SHARES, segments=st.integers(1, 99)),
    st.builds(FrontLoaded, target=st.floats(-9, 0), start=st.floats(0, 9), decay_tokens=st.floats(0.1, 99)),
    TABLES.map(table),
)
ACCEPTANCES = st.one_of(st.builds(Soft, beta=st.floats(1e-6, 1e6)), st.just(Hard()))
FLOORS = st.none() | st.just(-math.inf) | st.floats(-1e9, -1e6)  # under every target
POLICIES = st.one_of(st.builds(Best, floor=FLOORS), st.just(Last()), st.just(Refuse()), st.just(Raise()))
RULES = st.builds(ChannelRules, threshold=THRESHOLDS, acceptance=ACCEPTANCES, floor=FLOORS)
CONFIGS = st.builds(
    GuardConfig,
    threshold=THRESHOLDS,
    acceptance=ACCEPTANCES,
    exhaustion=POLICIES,
    floor=FLOORS,
    segments=st.sampled_from([FixedLength(max_tokens=7), EntropyCut(), Boundary(marks='.\n"\\')]),
    drawing=st.sampled_from([Fixed(candidates=3), Adaptive(), Adaptive(segment_tokens=(8, 64))]),
    reasoning=st.none() | RULES,
    tools=st.none() | RULES,
    refusal_text=st.text(st.characters(exclude_categories=["Cs"])),
    max_attempts=st.integers(1, 99),
)
MADE_FOR = st.none() | st.builds(
    MadeFor, reward=st.sampled_from(["r", "a reward"]), model=st.just("m"), acceptance=st.floats(0.01, 1)
)

CORRECTIONS = st.lists(
    st.tuples(st.integers(0, 10**4), st.dictionaries(st.floats(-99, 99), st.floats(-99, 99), min_size=1)),
    min_size=1,
    max_size=3,
    unique_by=lambda one: one[0],
).map(lambda maps: Correction(maps=tuple(position_map(*one) for one in sorted(maps, key=lambda m: m[0]))))


def position_map(tokens: int, knots: dict[float, float]) -> PositionMap:
    return PositionMap(tokens=tokens, partial=tuple(sorted(knots)), final=tuple(sorted(knots.values())))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings") / "config.toml"


@given(config=CONFIGS, made_for=MADE_FOR)
def test_all_settings_survive_the_file(file: Path, config: GuardConfig, made_for: MadeFor | None) -> None:
    write_config(file, config, made_for)
    again = read_config(file)
    assert again == CalibratedConfig(**dict(config), made_for=made_for)
    write_config(file, again)
    assert read_config(file) == again
    assert hash(read_config(file)) == hash(again)


@given(config=CONFIGS, correction=CORRECTIONS)
def test_a_correction_survives_the_file(file: Path, config: GuardConfig, correction: Correction) -> None:
    write_config(file, config, correction=correction)
    again = read_config(file)
    assert again.correction == correction
    write_config(file, again)
    assert read_config(file) == again


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("threshold =", "is not TOML"),
        ("", "threshold"),
        ('[threshold]\nkind = "constant"\ntarget = 1\n[extra]\n', "unknown setting 'extra'"),
        ('max_attempts = 0\n[threshold]\nkind = "constant"\ntarget = 1\n', "max_attempts=0"),
        ("\udcff", "is not TOML"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, words: str) -> None:
    place = tmp_path / "c.toml"
    place.write_text(text, errors="surrogateescape")
    with pytest.raises(ConfigurationError, match=words) as caught:
        read_config(place)
    assert str(place) in str(caught.value)


def test_settings_may_be_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "c.yaml"
    place.write_text("max_attempts: 7\nthreshold: {kind: constant, target: 1.5}\n")
    config = read_config(place)
    assert (config.max_attempts, config.threshold) == (7, Constant(target=1.5))
    for text, words in (("a: [", "is not YAML"), ("- a", "holds no settings"), ("", "threshold")):
        place.write_text(text)
        with pytest.raises(ConfigurationError, match=words):
            read_config(place)
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingExtraError, match=r"stars-guard\[serve\]"):
        read_config(place)
    with pytest.raises(ConfigurationError, match=r"neither \.toml nor \.yaml"):
        read_config(tmp_path / "c.ini")


def test_files_that_cannot_be_used_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_config(tmp_path / "nowhere.toml")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_config(tmp_path / "nowhere" / "c.toml", GuardConfig(threshold=Constant(target=1)))
    with pytest.raises(ConfigurationError, match=r"c\.yaml does not end in \.toml"):
        write_config(tmp_path / "c.yaml", GuardConfig(threshold=Constant(target=1)))
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "tomli_w":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match="calibrate"):
        write_config(tmp_path / "c.toml", GuardConfig(threshold=Constant(target=1)))


def test_what_is_no_path_stays() -> None:
    config = GuardConfig(threshold=Constant(target=1))
    assert as_config(config) is config
    assert as_config(None) is None


@pytest.fixture
def calm(tmp_path: Path) -> Path:
    """Settings made for the fakes of these tests."""
    config = GuardConfig(threshold=Constant(target=1), acceptance=Hard(), max_attempts=7)
    write_config(tmp_path / "c.toml", config, MadeFor(reward="keywords", model="scripted", acceptance=0.5))
    return tmp_path / "c.toml"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    config = GuardConfig(threshold=Constant(target=1))
    write_config(tmp_path / "o.toml", config, MadeFor(reward="shouting", model="scripted", acceptance=0.5))
    return tmp_path / "o.toml"


def test_guards_are_loaded_with_files(calm: Path, other: Path, loaded: dict[str, Any]) -> None:
    parts._SHARED.clear()
    for guard in (
        StarsGuardedLLM.load("m", "r", str(calm)),
        StarsGuardedLLM.load(config=calm),
        StarsGuardedLLM.shared("m", "r", calm),
    ):
        assert guard.config == read_config(calm)
        result = guard.generate("Hi")
        assert "poison" not in result.text
        assert result.trace == type(result.trace).model_validate_json(
            result.trace.model_dump_json()
        ).model_copy(update={"config": guard.config})
    for load in (StarsGuardedLLM.load, StarsGuardedLLM.shared):
        with pytest.raises(ConfigurationError, match="'shouting', but the reward here is 'keywords'"):
            load("m", "r", other)
    parts._SHARED.clear()


def test_one_request_must_not_use_the_settings_of_another_reward(calm: Path, other: Path) -> None:
    guard = StarsGuardedLLM(ScriptedModel([["Hi."]]), KeywordReward(["poison"]), read_config(calm))
    assert guard.generate("Hi").text == "Hi."
    with pytest.raises(ConfigurationError, match="shouting"):
        guard.generate("Hi", config=read_config(other))


SHIFT = Correction(maps=(PositionMap(tokens=0, partial=(0.0,), final=(0.5,)),))
"""Every partial score is half a unit too low."""


@pytest.fixture
def shifted(tmp_path: Path) -> Path:
    """Settings on a corrected reward: 1.5 is what it gives to a calm prefix."""
    config = GuardConfig(
        threshold=Constant(target=1.5), acceptance=Hard(), tools=ChannelRules(threshold=Constant(target=1))
    )
    made_for = MadeFor(reward="corrected(keywords)", model="scripted", acceptance=0.5)
    write_config(tmp_path / "s.toml", config, made_for, SHIFT)
    return tmp_path / "s.toml"


def test_a_correction_is_applied_by_whoever_builds_a_guard(
    shifted: Path, calm: Path, loaded: dict[str, Any], run: Run
) -> None:
    parts._SHARED.clear()
    guards = [
        StarsGuardedLLM.load("m", "r", shifted),
        StarsGuardedLLM.shared("m", "r", shifted),
        StarsGuardedLLM(loaded["model"], loaded["reward"], read_config(shifted)),
    ]
    for guard in guards:
        assert isinstance(guard.reward, CorrectedReward)
        first = guard.generate("Hi").trace.segments[0].attempts
        assert [one.reward for one in first] == [-0.5, 1.5]
    again, plain = StarsGuardedLLM.shared("m", "r", shifted), StarsGuardedLLM.shared("m", "r", calm)
    assert again.loop is guards[1].loop
    assert plain.loop is not again.loop
    assert plain.model is again.model
    assert plain.reward is loaded["reward"]
    parts._SHARED.clear()
    assert '"reward":1.5' in run("generate", "Hi", "--config", str(shifted), "--reward", "r", "--json").out


def test_a_reward_is_corrected_once_and_not_where_channels_have_their_own_rules(shifted: Path) -> None:
    settings, raw = read_config(shifted), KeywordReward(["poison"])
    reward = settings.corrected(raw)
    assert settings.corrected(reward) is reward
    assert StarsGuardedLLM(ScriptedModel([["Hi."]]), reward, settings).reward is reward
    asked = [ScoreRequest(Prompt.of("x"), "calm", finished=False, channel=one) for one in Channel]
    assert [one.value for one in reward.score(asked)] == [1.5, 1.5, 1.0]


def test_a_correction_cannot_come_with_a_request(shifted: Path, calm: Path) -> None:
    parts = ScriptedModel([["Hi."]]), KeywordReward(["poison"])
    settings, plain = read_config(shifted), read_config(calm)
    with pytest.raises(ConfigurationError, match=r"made for the reward 'corrected\(keywords\)'"):
        StarsGuardedLLM(*parts, plain).generate("Hi", config=settings)
    with pytest.raises(ConfigurationError, match="build one with these settings"):
        StarsGuardedLLM(*parts, plain).generate("Hi", config=settings.changed(made_for=None))
    with pytest.raises(ConfigurationError, match="made for the reward 'keywords'"):
        StarsGuardedLLM(*parts, settings).generate("Hi", config=plain)


def test_commands_take_files(run: Run, calm: Path, other: Path, tmp_path: Path) -> None:
    done = run("generate", "Hi", "--config", str(calm), "--reward", "some/reward", "--json")
    assert done.code == 0
    assert '"max_attempts":7' in done.out
    assert "poison" not in done.out
    assert (
        '"max_attempts":3'
        in run("generate", "Hi", "--config", str(calm), "--max-attempts", "3", "--json").out
    )
    assert run("demo", "--config", str(calm), "--output", str(tmp_path)).code == 0
    assert run("chat", "--config", str(calm), stdin="/quit\n").code == 0
    wrong = run("generate", "Hi", "--config", str(other))
    assert (wrong.code, wrong.out) == (2, "")
    assert "'shouting', but the reward here is 'keywords'" in wrong.err


def test_a_table_has_no_target_to_change(run: Run, tmp_path: Path) -> None:
    write_config(tmp_path / "t.toml", GuardConfig(threshold=Table(positions=(4,), thresholds=(1.0,))))
    file = str(tmp_path / "t.toml")
    assert run("generate", "Hi", "--config", file).code == 0
    wrong = run("generate", "Hi", "--config", file, "--target", "1")
    assert wrong.code == 2
    assert "add --schedule" in wrong.err
    assert run("generate", "Hi", "--config", file, "--target", "1", "--schedule", "constant").code == 0
