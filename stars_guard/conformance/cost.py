"""What a reward costs here. Reported, never judged: only its user knows what it may cost."""

from __future__ import annotations

import sys
import time

from stars_guard.conformance.result import Result, passed
from stars_guard.conformance.subject import Subject, request

BATCHES = (1, 8, 32)


def cost(subject: Subject) -> Result:
    """Milliseconds per candidate by batch size, candidates per second, and growth of the peak memory."""
    before = peak_memory()
    milliseconds = {size: _milliseconds(subject, size) for size in BATCHES}
    values = {f"ms_at_{size}": value for size, value in milliseconds.items()}
    values["per_second"] = 1000 / min(milliseconds.values())
    shown = ", ".join(f"{value:.2g} ms at {size}" for size, value in milliseconds.items())
    message = f"per candidate {shown}; up to {values['per_second']:.3g} a second"
    if before is not None and (after := peak_memory()) is not None:
        values["memory_growth_mib"] = after - before
        message += f"; peak memory grew by {after - before:.0f} MiB"
    return passed("cost", f"{message} (reported, not judged)", **values)


def peak_memory() -> float | None:
    """Most memory this process has held, in MiB; None where the system does not say (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def _milliseconds(subject: Subject, size: int) -> float:
    """Wall time of a candidate in a batch of ``size``, the better of two rounds: the first may be cold."""
    pairs = [subject.pairs[number % len(subject.pairs)] for number in range(size)]
    requests = [request(pair.prompt, pair.safe) for pair in pairs]
    times = []
    for _ in range(2):
        begun = time.perf_counter()
        subject.rewards(requests)
        times.append(time.perf_counter() - begun)
    return max(min(times), 1e-9) * 1000 / size
