"""Seeds for candidates that an engine draws: addressed, like every random number here."""

from __future__ import annotations

from stars_guard.algorithm.random_numbers import address_hash
from stars_guard.models.engines.profiles import ServerProfile

CANDIDATE = -2
"""The step whose hash seeds a candidate; acceptance is -1, and token draws count from 0."""


def seed_of(profile: ServerProfile, seed: int, segment: int, attempt: int) -> dict[str, int]:
    """The field that seeds the call whose first candidate is ``attempt``.

    Where the engine gives the choices of a call successive seeds, those of a segment are successive too, so
    that a candidate is the same in whatever call it is drawn.
    """
    if profile.seed is None:
        return {}
    if not profile.successive_seeds:
        return {profile.seed: _hashed(profile, seed, segment, attempt)}
    # Half of the range is left for attempts, so that no seed is too long for its field.
    return {profile.seed: _hashed(profile, seed, segment, 0) // 2 + attempt}


def _hashed(profile: ServerProfile, seed: int, segment: int, attempt: int) -> int:
    return address_hash(seed, segment, attempt, CANDIDATE) >> (64 - profile.seed_bits)
