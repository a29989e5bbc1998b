"""Random numbers addressed by what they are for, so that nothing else can change them.

The draw for (seed, segment, attempt, step) is a hash of that address. It does not depend on how many
candidates are drawn at once or on which other requests share the batch, and a trace can recompute it.
"""

from __future__ import annotations

import secrets
import struct
from hashlib import blake2b

ACCEPTANCE = -1
"""The step whose draw decides acceptance; token draws count from 0."""

_SCALE = 2.0**-53


def fresh_seed() -> int:
    """A seed from the operating system, in [0, 2**63)."""
    return secrets.randbits(63)


def address_hash(seed: int, segment: int, attempt: int, step: int) -> int:
    """64 uniform bits for one address.

    Args:
        seed: of the request, in [0, 2**64).
        segment: number of the segment in the answer, from 0.
        attempt: number of the attempt at the segment, from 0.
        step: number of the token in the attempt, from 0, or :data:`ACCEPTANCE`.
    """
    packed = struct.pack("<Qqqq", seed, segment, attempt, step)
    return int.from_bytes(blake2b(packed, digest_size=8, person=b"stars_guard").digest(), "little")


def uniform(seed: int, segment: int, attempt: int, step: int) -> float:
    """A uniform number in [0, 1) with 53 bits, for one address.

    Args:
        seed: as for :func:`address_hash`; likewise ``segment``, ``attempt`` and ``step``.
    """
    return (address_hash(seed, segment, attempt, step) >> 11) * _SCALE
