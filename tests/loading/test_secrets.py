"""Secrets in the environment."""

from __future__ import annotations

import pytest

from stars_guard.algorithm.acceptance import AcceptanceKey
from stars_guard.errors import ConfigurationError
from stars_guard.loading.secrets import ACCEPTANCE_KEY_ENV, acceptance_key

SECRET = "0123456789abcdef"


@pytest.mark.parametrize("variable", [None, "MY_KEY"])
def test_the_key_is_that_of_the_variable(monkeypatch, variable):
    monkeypatch.setenv(variable or ACCEPTANCE_KEY_ENV, SECRET)
    key = acceptance_key(variable)
    assert key is not None
    assert key.fingerprint == AcceptanceKey(SECRET).fingerprint


def test_without_a_variable_there_is_no_key(monkeypatch):
    monkeypatch.delenv(ACCEPTANCE_KEY_ENV, raising=False)
    assert acceptance_key() is None


def test_a_named_variable_must_hold_a_key(monkeypatch):
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="MY_KEY holds no acceptance key; set it"):
        acceptance_key("MY_KEY")
    monkeypatch.setenv("MY_KEY", "short")
    with pytest.raises(ConfigurationError, match="could be guessed"):
        acceptance_key("MY_KEY")
