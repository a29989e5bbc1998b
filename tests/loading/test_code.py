"""Rewards by name: files, modules and judges, and the command line that takes them."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent

import pytest

from stars_guard import Constant, GuardConfig, Hard, StarsGuardedLLM, embedded
from stars_guard.errors import ConfigurationError, MissingExtraError, ScoringError
from stars_guard.loading import parts
from stars_guard.loading.parts import load_reward
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import RewardModel, ScoreRequest
from stars_guard.rewards.function import FunctionReward
from stars_guard.rewards.judges.judge import JudgeReward
from stars_guard.testing import KeywordReward, ScriptedModel
from tests.support.cli_runner import Run, loaded, run

__all__ = ["loaded", "run"]  # pytest finds fixtures by name

CODE = """
from __future__ import annotations

from dataclasses import dataclass

from stars_guard.testing import KeywordReward


def calm(prompt: str, response: str) -> float:
    return -float(response.count("!"))


async def gentle(prompt, response, *, words=("never",)):
    return -float(sum(map(response.count, words)))


def strict():
    return KeywordReward(["poison"])


class Polite(KeywordReward):
    def __init__(self, words=("damn",)):
        super().__init__(words)


@dataclass
class Marks:
    weight: float

    def __call__(self, prompt, response):
        return -self.weight * response.count("?")


class Shelf:
    ready = Polite()
    marks = Marks(2.0)


ready = Shelf.ready
_hidden = None
number = 3.0


def optional(prompt="", response=""):
    return 1.0


def three(prompt, response, policy):
    return 1.0


def broken():
    raise OSError("no disk")


class Part:
    name = "part"

    def __init__(self, size):
        self.size = size

    def score(self, requests):
        return []

    def release(self, run_id):
        pass
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my_rewards.py"
    path.write_text(CODE)
    return path


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "named_reward_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "rewards.py").write_text(CODE)
    (folder / "lacking.py").write_text("import a_package_that_is_not_there")
    (folder / "wrong.py").write_text("def broken(:")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder.name
    for name in [name for name in sys.modules if name.startswith(folder.name)]:
        del sys.modules[name]


def value(reward: RewardModel, response: str) -> float:
    (scored,) = reward.score([ScoreRequest(Prompt.of("Hello"), response, finished=False)])
    return scored.value


KINDS = [
    ("calm", "calm", "Go!!", -2.0),
    ("gentle", "gentle", "never ever", -1.0),
    ("strict", "keywords", "poison", -1.0),
    ("Polite", "keywords", "damn", -1.0),
    ("ready", "keywords", "damn", -1.0),
    ("Shelf.ready", "keywords", "fine", 1.0),
    ("Shelf.marks", "Marks", "why?", -2.0),
]


@pytest.mark.parametrize(("attribute", "name", "response", "expected"), KINDS)
def test_kinds_of_attributes(file: Path, attribute: str, name: str, response: str, expected: float) -> None:
    reward = load_reward(f"{file}:{attribute}", {})
    assert isinstance(reward, RewardModel)
    assert (reward.name, value(reward, response)) == (name, expected)


def test_modules(package: str) -> None:
    reward = load_reward(f"{package}.rewards:calm", {})
    assert isinstance(reward, FunctionReward)
    assert value(reward, "No!") == -1.0
    module = sys.modules[f"{package}.rewards"]
    assert load_reward(f"{package}.rewards:ready", {}) is module.ready  # imported once


def test_a_module_may_name_itself_while_it_is_imported(package: str, tmp_path: Path) -> None:
    """Parts are loaded in a thread of their own, which must not wait for the import that waits for it."""
    (tmp_path / package / "app.py").write_text(
        dedent(f"""
        from stars_guard.loading import parts
        from stars_guard.testing import ScriptedModel
        parts.load_model = lambda path, options: ScriptedModel([["Hello."]])

        def calm(prompt, response):
            return 1.0

        parts = parts.load_parts(None, "{package}.app:calm")
        """)
    )
    original = parts.load_model
    try:
        assert load_reward(f"{package}.app:calm", {}).name == "calm"
        assert sys.modules[f"{package}.app"].parts[1].name == "calm"
    finally:
        parts.load_model = original


def test_files_are_found_from_here_and_from_home(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    assert load_reward("my_rewards.py:calm", {}).name == "calm"
    assert load_reward("./my_rewards.py:calm", {}).name == "calm"
    monkeypatch.setenv("HOME", str(file.parent))
    monkeypatch.setenv("USERPROFILE", str(file.parent))
    assert load_reward("~/my_rewards.py:calm", {}).name == "calm"


def test_a_file_stands_in_no_modules_way(tmp_path: Path) -> None:
    import json

    (tmp_path / "json.py").write_text("def calm(prompt, response):\n    return 1.0\n")
    assert load_reward(f"{tmp_path / 'json.py'}:calm", {}).name == "calm"
    assert sys.modules["json"] is json


def test_a_file_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "half.py"
    path.write_text("raise ValueError('not today')")
    before = set(sys.modules)
    with pytest.raises(ConfigurationError, match=r"running .*half.py failed: ValueError: not today"):
        load_reward(f"{path}:calm", {})
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("clam", r"has no clam; it has: dataclass, KeywordReward, calm, gentle"),
        ("Shelf.none", r"has no Shelf.none"),
        ("_hidden", "is NoneType and no reward"),
        ("number", "is float and no reward"),
        ("three", "is function and no reward"),
        ("Part", "is type and no reward"),
        ("optional", "made float and no reward model with name, score and release"),
        ("Shelf", "made Shelf and no reward model"),
        ("broken", r"calling .*:broken failed: OSError: no disk"),
    ],
)
def test_what_is_no_reward(file: Path, attribute: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_reward(f"{file}:{attribute}", {})


def test_ready_rewards_are_among_what_a_file_has(tmp_path: Path) -> None:
    code = "from stars_guard.testing import KeywordReward as Words\nready, number = Words(['damn']), 3\n"
    (tmp_path / "own.py").write_text(code)
    with pytest.raises(ConfigurationError, match=r"has no raedy; it has: Words, ready$"):
        load_reward(f"{tmp_path / 'own.py'}:raedy", {})


def test_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ConfigurationError, match="has no calm; it has: nothing"):
        load_reward(f"{tmp_path / 'empty.py'}:calm", {})


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("no_such_module_here", "there is no module no_such_module_here; install it, or name its file"),
        ("{package}.none", "there is no module .*none"),
        (
            "{package}.lacking",
            "importing .*lacking failed: ModuleNotFoundError: .*a_package_that_is_not_there",
        ),
        ("{package}.wrong", "importing .*wrong failed: SyntaxError"),
        ("nowhere/rewards.py", "there is no file nowhere/rewards.py"),
    ],
)
def test_what_is_not_there(package: str, place: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_reward(f"{place.format(package=package)}:calm", {})


def test_code_takes_no_options(file: Path) -> None:
    with pytest.raises(ConfigurationError, match="takes no options, but got dtype, good"):
        load_reward(f"{file}:calm", {"good": "safe", "dtype": "float32"})


def test_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, object] = {}

    def load(place: str, **options: object) -> KeywordReward:
        asked.update(place=place, **options)
        return KeywordReward([])

    monkeypatch.setattr(JudgeReward, "load", load)
    assert load_reward("judge:llama_guard_3@org/model@main", {"dtype": "bfloat16"}).name == "keywords"
    assert asked == {"place": "org/model@main", "prompt": "llama_guard_3", "dtype": "bfloat16"}


def test_judges_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="nope"):
        load_reward("judge:nope@org/model", {})
    monkeypatch.setattr(JudgeReward, "load", lambda place, *, prompt: None)
    with pytest.raises(ConfigurationError, match="loading judge:wild_guard@org/model failed: TypeError"):
        load_reward("judge:wild_guard@org/model", {"good": "safe"})
    monkeypatch.setitem(sys.modules, "stars_guard.rewards.judges.judge", None)
    with pytest.raises(MissingExtraError, match=r"stars-guard\[transformers\]"):
        load_reward("judge:wild_guard@org/model", {})


@pytest.mark.embedded
def test_a_real_model_as_a_judge() -> None:
    options = {"device": "cpu", "dtype": "float32"}
    reward = load_reward(f"judge:question@{embedded.chat_model()}", options)
    assert isinstance(reward, JudgeReward)
    assert value(reward, "Good morning.") == value(reward, "Good morning.")


FIRM = GuardConfig(threshold=Constant(target=0.0), acceptance=Hard())
SCRIPT = [["Mix!! ", "Mix. "], ["Bake!", "Bake."]]


def test_guards_load_by_spec(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "load_model", lambda path, options: ScriptedModel(SCRIPT))
    monkeypatch.setitem(
        sys.modules, "stars_guard.rewards.classifiers.classifier", None
    )  # code needs no extra
    assert StarsGuardedLLM.load(reward=f"{file}:calm", config=FIRM).generate("Bake?").text == "Mix. Bake."
    with pytest.raises(ConfigurationError, match="rewards differ in scale"):
        StarsGuardedLLM.load(reward=f"{file}:calm")
    one, two = (StarsGuardedLLM.shared(reward=f"{file}:calm", config=FIRM) for _ in range(2))
    assert one.reward is two.reward


def test_a_wrong_reward_is_found_before_the_model_is_loaded(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "load_model", lambda path, options: pytest.fail("loaded in vain"))
    with pytest.raises(ConfigurationError, match="has no clam"):
        StarsGuardedLLM.load(reward=f"{file}:clam", config=FIRM)


def test_named_code_that_raises_passes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "away.py").write_text("def judge(prompt, response):\n    raise OSError('away')\n")
    monkeypatch.setattr(parts, "load_model", lambda path, options: ScriptedModel(SCRIPT))
    llm = StarsGuardedLLM.load(reward=f"{tmp_path / 'away.py'}:judge", config=FIRM)
    with pytest.raises(ScoringError, match="scoring with judge failed: OSError"):
        next(iter(llm.stream("Bake?")))


TARGET = ["--target", "0", "--rule", "hard", "--schedule", "constant"]
LOAD_REWARD = parts.load_reward


@pytest.fixture
def really(run: Run, loaded: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line with the real loading of rewards."""
    loaded["model"] = ScriptedModel(SCRIPT)
    monkeypatch.setattr(parts, "load_reward", LOAD_REWARD)
    return run


def test_the_command_line_takes_specs(really: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    done = really("generate", "Bake?", "--reward", "my_rewards.py:calm", *TARGET, "--device", "cpu")
    assert (done.code, done.out) == (0, "Mix. Bake.\n"), done.err
    whole = really("generate", "Bake?", "--reward", f"{file}:calm", *TARGET)
    assert whole.out == "Mix. Bake.\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--reward", "my_rewards.py:calm"], "needs --target"),
        (["--reward", "my_rewards.py:clam", *TARGET], "my_rewards.py has no clam"),
        (["--reward", "none.py:calm", *TARGET], "there is no file none.py"),
        (["--reward", "./my_rewards.py", *TARGET], "or name code: path/to/file.py:attribute"),
        (
            ["--reward", "my_rewards.py:calm", "--good", "safe", *TARGET],
            "have no effect with --reward my_rew",
        ),
        (["--reward", "judge:nope@org/model", *TARGET], "nope"),
        (
            ["--reward", "judge:wild_guard@x", "--scale", "logit", *TARGET],
            "have no effect with --reward judge",
        ),
        (
            ["--reward", "Qwen/Qwen3Guard-Stream-4B", "--good", "safe", *TARGET],
            "have no effect with --reward Qwen/Qwen3Guard-Stream-4B",
        ),
    ],
)
def test_the_command_line_refuses_in_one_line(
    really: Run, file: Path, flags: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    done = really("generate", "Bake?", *flags)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert done.err.count("\n") == 1
