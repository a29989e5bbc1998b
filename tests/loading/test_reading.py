"""What a reward model needs that reads texts alone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from stars_guard import ConfigurationError
from stars_guard.loading import parts
from stars_guard.loading.reading import text_reader
from stars_guard.loading.specs import CascadePart, CascadeReward

CASCADE = CascadeReward(first=CascadePart(reward="embedded:probe"), second=CascadePart(), low=0, high=1)


def test_what_is_no_probe_needs_nothing():
    assert text_reader(None) == {}
    assert text_reader("org/classifier", "org/model") == {}


@pytest.mark.parametrize("reward", ["embedded:probe", CASCADE])
@pytest.mark.parametrize("model", [None, "org/model"])
def test_a_probe_reads_with_a_language_model(monkeypatch, reward, model):
    loaded = []
    states = SimpleNamespace(read_states=object())
    monkeypatch.setattr(parts, "load_model", lambda *given: loaded.append(given) or states)
    assert text_reader(reward, model, {"dtype": "float32"}) == {"read": states.read_states}
    ((spec, options),) = loaded
    assert (getattr(spec, "path", None), options) == (model, {"dtype": "float32"})


@pytest.mark.parametrize(
    ("model", "options"),
    [("vllm@http://localhost:8000", {"states": object()}), ("vllm:org/model", {"hidden_layers": (1,)})],
)
def test_an_engine_reads_that_is_told_to_hand_out_states(monkeypatch, model, options):
    states = SimpleNamespace(read_states=object())
    monkeypatch.setattr(parts, "load_model", lambda *given: states)
    assert text_reader("embedded:probe", model, options) == {"read": states.read_states}


@pytest.mark.parametrize("model", ["vllm@http://user:secret@localhost:8000", "vllm:org/model"])
def test_an_engine_hands_out_no_states(model):
    with pytest.raises(ConfigurationError, match="hands out none") as refused:
        text_reader("embedded:probe", model)
    assert "secret" not in str(refused.value)
