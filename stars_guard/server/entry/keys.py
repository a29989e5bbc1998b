"""Who asks, and how often: API keys known by their hashes, each with limits of its own."""

from __future__ import annotations

import hmac
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256

from stars_guard.server.config import ApiKey
from stars_guard.server.openai.faults import Fault, overloaded

_MINUTE = 60.0


def hash_key(key: str) -> str:
    """How a configuration names a key. Keys are long and random, so a plain hash does."""
    return sha256(key.encode()).hexdigest()


class Keys:
    """The keys of a server; without any, everybody may ask."""

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._keys = keys
        self._begun: dict[str, deque[float]] = defaultdict(deque)
        self._running: dict[str, int] = defaultdict(int)

    def owner(self, authorization: str | None) -> ApiKey | None:
        """Whose key a request carries; None where there are no keys.

        Raises:
            Fault: 401, no key or a wrong one.
        """
        if not self._keys:
            return None
        scheme, _, given = (authorization or "").partition(" ")
        digest = hash_key(given.strip())
        # All are compared, each in constant time, so that the time tells nothing.
        found = [key for key in self._keys if hmac.compare_digest(key.sha256, digest)]
        if scheme.lower() != "bearer" or not found:
            raise Fault(401, "send a valid API key as 'Authorization: Bearer KEY'", code="invalid_api_key")
        return found[0]

    @contextmanager
    def counted(self, key: ApiKey | None) -> Iterator[None]:
        """One request of a key, within its limits.

        Raises:
            Fault: 429.
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
