"""That no client leaves this machine is watched; this is the test of the watch."""

from __future__ import annotations

import socket

import pytest
from network import elsewhere


def test_a_connection_to_elsewhere_is_refused_and_noticed() -> None:
    with pytest.raises(ConnectionRefusedError, match=r"192\.0\.2\.1"):
        socket.create_connection(("192.0.2.1", 80))
    assert elsewhere
    elsewhere.clear()
