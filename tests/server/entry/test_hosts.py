"""Names that a server goes by, and web pages of other origins, on a real socket."""

from __future__ import annotations

from contextlib import contextmanager

import httpx
import pytest

from stars_guard.errors import ConfigurationError
from stars_guard.server.entry.keys import hash_key
from tests.support.server_client import CHAT, asking, guard, quiet
from tests.support.server_socket import listening

PAGE = "https://app.example"
KEY = "sk-0123456789abcdef"


@contextmanager
def client(**config):
    """A client of a server with these settings."""
    with (
        listening(guard(), quiet(**config)) as (address, _, _),
        httpx.Client(base_url=f"http://{address[0]}:{address[1]}", trust_env=False, timeout=30) as connected,
    ):
        yield connected


NAMES = ["Guard.example", "*.guards.example", "[::1]"]


@pytest.mark.parametrize(
    "host", ["guard.example", "GUARD.example:8080", "guard.example.", "a.b.guards.example", "[::1]:8080"]
)
def test_a_name_of_the_server_is_served(host):
    with client(hosts=NAMES) as connected:
        answer = connected.post(CHAT, json=asking(), headers={"Host": host})
        assert answer.status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "guard.example.evil", "guards.example", "xguards.example", "127.0.0.1", ""]
)
def test_another_name_is_refused(host):
    with client(hosts=NAMES) as connected:
        answer = connected.post(CHAT, json=asking(), headers={"Host": host})
        assert (answer.status_code, answer.json()["error"]["code"]) == (421, "unknown_host")
        assert connected.get("/health/live", headers={"Host": "evil.example"}).status_code == 421


def test_probes_and_scrapers_may_use_the_address():
    with client(hosts=NAMES) as connected:
        for path in ("/health/live", "/health/ready", "/metrics"):
            assert connected.get(path).status_code == 200
        assert connected.get("/openapi.json").status_code == 421


def test_every_name_is_served_where_none_is_set():
    with client() as connected:
        assert connected.get("/v1/models", headers={"Host": "any.example"}).status_code == 200


PREFLIGHT = {
    "Origin": PAGE,
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
}


def test_no_page_may_ask_by_default():
    with client() as connected:
        preflight = connected.options(CHAT, headers=PREFLIGHT)
        answer = connected.post(CHAT, json=asking(), headers={"Origin": PAGE})
    assert preflight.status_code == 405
    assert not [name for each in (preflight, answer) for name in each.headers if name.startswith("access-c")]


def test_a_page_that_may_ask_learns_so_without_a_key():
    keys = [{"name": "page", "sha256": hash_key(KEY)}]
    with client(cors_origins=[PAGE], keys=keys) as connected:
        preflight = connected.options(CHAT, headers=PREFLIGHT)
        without = connected.post(CHAT, json=asking(), headers={"Origin": PAGE})
        answer = connected.post(
            CHAT, json=asking(), headers={"Origin": PAGE, "Authorization": f"Bearer {KEY}"}
        )
    assert preflight.status_code == 200
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "x-stainless-os" in preflight.headers["access-control-allow-headers"]
    assert [each.status_code for each in (without, answer)] == [401, 200]
    for each in (preflight, without, answer):
        assert each.headers["access-control-allow-origin"] == PAGE
        assert "access-control-allow-credentials" not in each.headers
    assert "x-request-id" in answer.headers["access-control-expose-headers"]


def test_another_page_may_not():
    with client(cors_origins=[PAGE]) as connected:
        preflight = connected.options(CHAT, headers={**PREFLIGHT, "Origin": "https://evil.example"})
        assert preflight.status_code == 400
        assert "access-control-allow-origin" not in preflight.headers


def test_every_page_may_where_that_is_meant():
    with client(cors_origins=["*"]) as connected:
        assert connected.options(CHAT, headers=PREFLIGHT).headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("hosts", "http://guard.example"),
        ("hosts", "guard.example:8080"),
        ("hosts", "guard.*"),
        ("hosts", ""),
        ("cors_origins", "app.example"),
        ("cors_origins", "https://app.example/"),
        ("cors_origins", "https://*/x"),
    ],
)
def test_what_is_no_name_or_origin_is_refused_at_the_start(setting, value):
    with pytest.raises(ConfigurationError, match=setting):
        quiet(**{setting: [value]})
