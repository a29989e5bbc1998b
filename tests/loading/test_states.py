"""Where hidden states are, as options of commands say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from stars_guard import ConfigurationError
from stars_guard.loading.configuration import Configuration
from stars_guard.loading.specs import EngineServer
from stars_guard.loading.states import layer_numbers, written_states
from stars_guard.models.engines.written_states import WrittenStates


def test_a_folder_and_its_layers():
    states = written_states("/dev/shm/a:b:0,15, 18")
    assert (states.folder, states.layers) == (Path("/dev/shm/a:b"), (0, 15, 18))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/dev/shm/states", "is not FOLDER:LAYERS"),
        ("/dev/shm/states:a,b", "holds no layers"),
        ("/dev/shm/states:", "holds no layers"),
        ("/dev/shm/states:15,18", "--states: .*begin with 0"),
    ],
)
def test_what_is_no_such_thing(text, message):
    with pytest.raises(ConfigurationError, match=message):
        written_states(text)


def test_layers_alone():
    assert layer_numbers("--layers", "15,18") == (15, 18)


def test_a_file_of_settings_says_it(tmp_path):
    file = tmp_path / "guard.toml"
    lines = ["[model]", 'kind = "openai"', 'url = "http://localhost:1"', 'tokenizer = "t"']
    file.write_text("\n".join([*lines, 'states = {folder = "/dev/shm/states", layers = [0, 3]}']))
    model = Configuration.of_file(file).model
    assert isinstance(model, EngineServer)
    assert model.states == WrittenStates(folder=Path("/dev/shm/states"), layers=(0, 3))
