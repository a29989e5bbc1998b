"""Where hidden states are and of which layers, as options of commands say it."""

from __future__ import annotations

from stars_guard.errors import ConfigurationError
from stars_guard.models.engines.written_states import WrittenStates


def written_states(text: str) -> WrittenStates:
    """What ``--states`` says.

    Raises:
        ConfigurationError: it is not ``FOLDER:LAYERS``.
    """
    folder, _, layers = text.rpartition(":")
    if not folder:
        raise ConfigurationError(f"--states {text} is not FOLDER:LAYERS, such as /dev/shm/states:0,15,18")
    return WrittenStates.found_at("--states", {"folder": folder, "layers": layer_numbers("--states", layers)})


def layer_numbers(option: str, text: str) -> tuple[int, ...]:
    """Layers in a text such as ``15,18,22``.

    Args:
        option: where they were given.
        text: what was given.

    Raises:
        ConfigurationError: it is something else.
    """
    words = text.split(",")
    if not all(word.strip().isdecimal() for word in words):
        raise ConfigurationError(f"{option} {text} holds no layers; write numbers, such as 15,18,22")
    return tuple(int(word) for word in words)
