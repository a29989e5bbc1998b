"""Which uniform draws decide acceptance: those of the seed, or those of a key that the operator holds.

Whoever chooses a seed and can compute its draws needs only to search for a seed whose first draw is tiny, and
the soft rule shows what it would practically never show. A keyed draw cannot be computed without the key, and
is bound to everything that a client chooses of what is drawn and to the candidate itself, so that what one
request reveals of its draws says nothing about those of other texts.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from functools import cache
from hashlib import blake2b
from typing import TypeAlias

from stars_guard.algorithm.config import SamplingParams
from stars_guard.algorithm.random_numbers import ACCEPTANCE, uniform
from stars_guard.algorithm.segments import Segments
from stars_guard.errors import ConfigurationError
from stars_guard.prompts import Prompt
from stars_guard.types import Candidate

AcceptanceDraws: TypeAlias = Callable[[int, int, Candidate], float]
"""The uniform draw in [0, 1) that decides acceptance, by numbers of segment and attempt, and by candidate."""

LEAST_BYTES = 16
"""Shortest secret, so that nobody finds it by trying."""


def seeded_draws(seed: int) -> AcceptanceDraws:
    """Draws that follow from the seed alone: whoever knows it can compute them."""
    return lambda segment, attempt, candidate: uniform(seed, segment, attempt, ACCEPTANCE)


class AcceptanceKey:
    """A secret that acceptance draws are hashed with. The same key and request repeat an answer.

    Args:
        secret: text or bytes, of 16 bytes or more.

    Raises:
        ConfigurationError: the secret is too short.
    """

    def __init__(self, secret: str | bytes) -> None:
        as_bytes = secret.encode() if isinstance(secret, str) else secret
        if len(as_bytes) < LEAST_BYTES:
            raise ConfigurationError(
                f"an acceptance key of {len(as_bytes)} bytes could be guessed; give {LEAST_BYTES} or more, "
                "such as the output of: openssl rand -hex 32"
            )
        self._key = blake2b(as_bytes, digest_size=32, person=b"stars_guard key").digest()

    @classmethod
    def fresh(cls) -> AcceptanceKey:
        """A key from the operating system, which nobody knows."""
        return cls(secrets.token_bytes(32))

    @property
    def fingerprint(self) -> str:
        """What tells one key from another, and says nothing about it."""
        return blake2b(digest_size=8, key=self._key, person=b"stars_guard name").hexdigest()

    def draws(self, prompt: Prompt, sampling: SamplingParams, segments: Segments) -> AcceptanceDraws:
        """Draws of one request.

        Args:
            prompt: what it asks.
            sampling: how it proposes, with ``seed`` set.
            segments: where its segments end.
        """

        @cache  # at the first draw, since a prompt may be long and whoever submits it must not wait
        def of_request() -> bytes:
            tools = prompt.tools
            chosen = (
                prompt.messages,
                prompt.text,
                tools and (tools.schemas, tools.choice, tools.parallel),
                sampling.model_dump(mode="json"),
                segments.model_dump(mode="json"),
            )
            text = json.dumps(chosen, sort_keys=True, default=str).encode()
            return blake2b(text, digest_size=32, key=self._key, person=b"stars_guard draw").digest()

        def draw(segment: int, attempt: int, candidate: Candidate) -> float:
            # The candidate, too: an engine may write something else when it is asked again, and a request
            # that was once found to be lucky must not pass all of that.
            address = [segment, attempt, candidate.text, candidate.token_ids]
            bits = blake2b(json.dumps(address).encode(), digest_size=8, key=of_request()).digest()
            return (int.from_bytes(bits, "little") >> 11) * 2.0**-53

        return draw

    def __repr__(self) -> str:
        return f"AcceptanceKey({self.fingerprint})"
