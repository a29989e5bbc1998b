"""One file of settings: which is read, what it may say, and what is taken of it."""

from __future__ import annotations

import os

import pytest

from stars_guard import embedded
from stars_guard.algorithm.config import Budget, GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Constant
from stars_guard.errors import ConfigurationError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading import configuration, parts, specs
from stars_guard.loading.calibrated import read_config
from stars_guard.loading.configuration import CONFIG_ENV, CONFIG_NAME, Configuration, config_file, located
from stars_guard.testing import KeywordReward, ScriptedModel

WHOLE = """
model = "vllm@http://127.0.0.1:1#m"
reward = "org/reward"
served_name = "mine"

[guard]
threshold = 1.5

[sampling]
temperature = 0.3
max_tokens = 9

[budget]
max_reward_calls = 7

[limits]
running = 2
"""
ALONE = "max_attempts = 3\n[threshold]\nkind = 'constant'\ntarget = 0.5\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory of its own, and no word of the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(CONFIG_ENV, raising=False)
    return tmp_path


def test_the_named_file_comes_before_the_environments_and_that_before_the_one_that_lies_here(
    here, monkeypatch
):
    assert config_file() is None
    assert located() is None
    (here / CONFIG_NAME).write_text(ALONE)
    lying = config_file()
    assert (lying.path, lying.found) == (here / CONFIG_NAME, True)
    assert str(lying).endswith("found in the working directory")
    monkeypatch.setenv(CONFIG_ENV, "of_env.toml")
    assert (str(config_file()), config_file().found) == ("of_env.toml", False)
    assert str(config_file("named.toml")) == "named.toml"
    monkeypatch.setenv(CONFIG_ENV, "")
    assert config_file() is None
    monkeypatch.delenv(CONFIG_ENV)
    assert config_file("") is None


def test_a_whole_file_says_everything_but_what_the_server_alone_reads(here):
    (here / "c.toml").write_text(WHOLE)
    file = Configuration.of_file("c.toml")
    assert file.model == specs.EngineServer(kind="openai", url="http://127.0.0.1:1", name="m", engine="vllm")
    assert file.reward == specs.LocalReward(kind="local", path="org/reward")
    assert file.guard.threshold == Constant(target=1.5)
    assert file.sampling == SamplingParams(temperature=0.3, max_tokens=9)
    assert file.budget == Budget(max_reward_calls=7)
    assert read_config("c.toml") == file.guard


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modell = 'x'", r"c\.toml: Configuration: unknown setting 'modell' \(did you mean 'model'\?\)"),
        ("guard = 3", "guard is no table"),
        ("[guard]\nfile = 'x.toml'\nfloor = 1", "guard.file stands alone"),
        ("[guard]\nfloor = 1", "threshold: Field required"),
        ("[sampling]\ntop_p = 3", "top_p=3"),
    ],
)
def test_what_is_wrong_is_named_with_the_file(here, text, message):
    (here / "c.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=message) as caught:
        Configuration.of_file("c.toml")
    assert "c.toml" in str(caught.value)
    if "guard" in text:
        with pytest.raises(ConfigurationError, match=message):
            read_config("c.toml")


@pytest.mark.parametrize("section", ["guard = 'alone.toml'", "[guard]\nfile = 'alone.toml'"])
def test_the_guard_may_be_in_a_file_of_its_own(here, section):
    (here / "alone.toml").write_text(ALONE)
    (here / "c.toml").write_text(section)
    assert Configuration.of_file("c.toml").guard == read_config("alone.toml") == read_config("c.toml")
    assert Configuration.of_file("alone.toml") == Configuration(guard=read_config("alone.toml"))


def test_the_guard_goes_with_the_reward_beside_it_and_alone_with_any(here):
    (here / "c.toml").write_text(WHOLE)
    (here / "alone.toml").write_text(ALONE)
    whole, alone = Configuration.of_file("c.toml"), Configuration.of_file("alone.toml")
    assert whole.guard_beside(None) is whole.guard
    assert whole.guard_beside("org/other") is None
    assert alone.guard_beside("org/other") is alone.guard


def test_a_section_says_a_cascade(here):
    (here / "c.toml").write_text(
        "[reward]\nkind = 'cascade'\nlow = -1.0\nhigh = 2.5\n[reward.first]\nreward = 'embedded:probe'\n"
        "offset = 0.3\nunit = 0.8\n[reward.second]\nreward = {kind = 'embedded'}\n"
    )
    first = specs.CascadePart(reward="embedded:probe", offset=0.3, unit=0.8)
    assert Configuration.of_file("c.toml").reward == specs.CascadeReward(
        first=first, second=specs.CascadePart(), low=-1.0, high=2.5
    )


UNTRUSTED = {
    "reward = 'mine.py:calm'\n[guard]\nthreshold = 1.0": "code that would be run",
    "[reward]\nkind = 'local'\npath = 'x'\noptions = {trust_remote_code = true}": "trust_remote_code",
    "[model]\nkind = 'vllm'\npath = 'x'\noptions = {trust_remote_code = true}": "trust_remote_code",
    "[model]\nkind = 'openai'\nurl = 'http://a'\napi_key_env = 'K'": "a key in the environment",
    "[reward]\nkind = 'remote'\nurl = 'http://a'\nformat = 'tei_predict'\nhttp = {api_key_env = 'K'}": (
        "a key in the environment"
    ),
    "[reward]\nkind = 'cascade'\nlow = 0\nhigh = 1\nfirst = {}\nsecond = {reward = 'mine.py:calm'}": (
        "code that would be run"
    ),
    "[reward]\nkind = 'cascade'\nlow = 0\nhigh = 1\nfirst = {}\nsecond = {}\n"
    "options = {trust_remote_code = true}": ("trust_remote_code"),
    "[reward]\nkind = 'cascade'\nlow = 0\nhigh = 1\nsecond = {}\n[reward.first.reward]\nkind = 'remote'\n"
    "url = 'http://a'\nformat = 'tei_predict'\nhttp = {api_key_env = 'K'}": "a key in the environment",
}


@pytest.mark.parametrize("text", UNTRUSTED)
def test_a_file_that_nobody_named_runs_no_code_and_sends_no_secret(here, monkeypatch, text):
    (here / CONFIG_NAME).write_text(text)
    with pytest.raises(ConfigurationError, match=f"names {UNTRUSTED[text]}.*if you trust it, say so"):
        located()
    monkeypatch.setenv(CONFIG_ENV, CONFIG_NAME)
    assert located() is not None
    assert located(here / CONFIG_NAME) is not None


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no owners of files here")
def test_a_file_of_somebody_else_is_not_taken_for_ones_own(here, monkeypatch):
    (here / CONFIG_NAME).write_text(ALONE)
    assert located().settings.guard.max_attempts == 3
    (here / CONFIG_NAME).chmod(0o666)
    with pytest.raises(ConfigurationError, match="belongs to another user, or others may write it"):
        located()
    (here / CONFIG_NAME).chmod(0o644)
    os.chown(here / CONFIG_NAME, 12345, -1) if os.geteuid() == 0 else monkeypatch.setattr(
        os, "geteuid", lambda: 12345
    )
    with pytest.raises(ConfigurationError, match="To read none, set STARS_GUARD_CONFIG to nothing"):
        located()


@pytest.fixture
def loads(monkeypatch):
    """What is loaded, and nothing is."""
    asked = {}
    monkeypatch.setattr(
        parts, "load_model", lambda spec, options: asked.update(model=spec) or ScriptedModel([["x"]])
    )
    monkeypatch.setattr(
        parts, "load_reward", lambda spec, options: asked.update(reward=spec) or KeywordReward([])
    )
    return asked


@pytest.mark.parametrize("load", [StarsGuardedLLM.load, StarsGuardedLLM.shared])
def test_a_guard_is_made_of_a_file_and_of_what_is_given_beside_it(here, loads, load):
    (here / "c.toml").write_text(WHOLE)
    llm = load(config="c.toml")
    file = Configuration.of_file("c.toml")
    assert loads == {"model": file.model, "reward": file.reward}
    assert (llm.config, llm.sampling, llm.budget) == (file.guard, file.sampling, file.budget)
    llm = load("org/other", config=here / "c.toml", sampling=SamplingParams(seed=1))
    assert loads["model"].path == "org/other"
    assert (llm.sampling, llm.budget) == (SamplingParams(seed=1), file.budget)
    with pytest.raises(ConfigurationError, match="no config for the reward model 'org/else'"):
        load(reward="org/else", config="c.toml")
    assert load(config=GuardConfig(threshold=2)).sampling == SamplingParams()
    assert load().config == embedded.CONFIG


def test_the_sections_of_the_server_are_those_that_it_reads_itself():
    server = pytest.importorskip("stars_guard.server.config").ServerConfig
    assert server.model_fields.keys() - Configuration.model_fields.keys() == configuration.SERVER_SECTIONS
