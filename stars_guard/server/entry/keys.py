"""Who asks, and how often: API keys known by their hashes, each with limits of its own."""

from __future__ import annotations

import hmac
import re
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

from pydantic import Field, model_validator

from stars_guard.server.openai.faults import Fault, overloaded
from stars_guard.settings import Settings

_MINUTE = 60.0
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ApiKey(Settings):
    """A client who may ask, by the hash of the key; the key itself is not known here."""

    name: str = Field(min_length=1)
    """The client's name in logs and metrics."""
    sha256: str
    """SHA-256 of the key, as ``stars-guard config hash-key`` prints it."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """Most requests begun in any 60 seconds; None is no limit."""
    concurrent: int | None = Field(default=None, ge=1)
    """Most requests at the same time."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Longest answer, if shorter than that of the server."""

    @model_validator(mode="before")
    @classmethod
    def _hashed(cls, values: Any) -> Any:
        # Here and not on the field, whose value would be repeated: it may be a key by mistake.
        given = values.get("sha256") if isinstance(values, dict) else None
        if given is not None and not (isinstance(given, str) and _SHA256.fullmatch(given)):
            raise ValueError(
                "sha256 is not the hash of a key, 64 of 0-9a-f; make one with stars-guard config hash-key"
            )
        return values


def hash_key(key: str) -> str:
    """The hash by which a configuration names a key."""
    # Keys are long and random, so they need no slow hash and no salt.
    return sha256(key.encode()).hexdigest()


def _given(headers: Mapping[str, str]) -> str:
    """The key that a request carries; empty if there is none."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()


class Keys:
    """The keys of a server, and what is running for each; without any key, everybody may ask."""

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._keys = keys
        self._begun: dict[str, deque[float]] = defaultdict(deque)
        self._running: dict[str, int] = defaultdict(int)

    def owner(self, headers: Mapping[str, str]) -> ApiKey | None:
        """The key that a request carries in its ``headers``; None where the server has no keys.

        Raises:
            Fault: 401, no key or a wrong one.
        """
        if not self._keys:
            return None
        digest = hash_key(_given(headers))
        # All are compared, each in constant time, so that the time says nothing of a key.
        matching = [key for key in self._keys if hmac.compare_digest(key.sha256, digest)]
        if not matching:
            how = "'Authorization: Bearer KEY' or 'x-api-key: KEY'"
            raise Fault(401, f"send a valid API key as {how}", code="invalid_api_key")
        return matching[0]

    @contextmanager
    def counted(self, key: ApiKey | None) -> Iterator[None]:
        """Count a request of ``key`` while it runs.

        Raises:
            Fault: 429, the request is over a limit of the key.
        """
        if key is None:
            yield
            return
        self._check(key)
        self._running[key.name] += 1
        try:
            yield
        finally:
            self._running[key.name] -= 1

    def _check(self, key: ApiKey) -> None:
        now, begun = time.monotonic(), self._begun[key.name]
        while begun and begun[0] <= now - _MINUTE:
            begun.popleft()
        if key.requests_per_minute is not None and len(begun) >= key.requests_per_minute:
            wait = int(begun[0] + _MINUTE - now) + 1
            raise overloaded(f"this key may begin {key.requests_per_minute} requests a minute", wait)
        if key.concurrent is not None and self._running[key.name] >= key.concurrent:
            raise overloaded(f"this key may have {key.concurrent} requests at the same time", 1)
        if key.requests_per_minute is not None:
            begun.append(now)
