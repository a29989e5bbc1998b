"""Where attempts at a segment would repeat one another, and how they are then drawn instead.

The criterion is stated here alone. The first attempt is drawn as the request asks, all others at
``GuardConfig.retry_temperature``. With ``g`` for what the first draws from, ``pi`` for the model's law at
that temperature and ``a`` for the acceptance probability, one of ``n`` attempts accepts a segment ``s`` with
probability ``g(s) a(s) + (1 - E_g[a]) pi(s) a(s) sum_j (1 - E_pi[a])^j``, for ``j`` from 0 to ``n - 2``. At
temperature 0, ``g`` is the greedy candidate; without a limit on attempts, the rest is the tilted law of
``pi``.
"""

from __future__ import annotations

from stars_guard.algorithm.config import NEAR_GREEDY, GuardConfig, SamplingParams


def retry_temperature(config: GuardConfig, sampling: SamplingParams) -> float | None:
    """Temperature of all attempts but the first; None where they are drawn like it."""
    return config.retry_temperature if near_greedy(sampling) else None


def near_greedy(sampling: SamplingParams) -> bool:
    """Whether candidates drawn by these parameters would mostly repeat one another.

    That is so at a temperature under 0.1, which 0 is, and where a truncation leaves hardly more than the
    likeliest token: ``top_k`` 1, ``top_p`` under 0.1, or ``min_p`` over 0.9.
    """
    return sampling.temperature < NEAR_GREEDY or bool(_narrow(sampling))


def redrawn_at(sampling: SamplingParams, temperature: float) -> SamplingParams:
    """The parameters at another temperature, without truncations that leave hardly more than one token."""
    return sampling.changed(temperature=temperature, **_narrow(sampling))


def _narrow(sampling: SamplingParams) -> dict[str, object]:
    """The truncations that leave hardly more than the likeliest token, each at its default."""
    narrow = {
        "top_k": sampling.top_k == 1,
        "top_p": sampling.top_p < NEAR_GREEDY,
        "min_p": sampling.min_p > 1 - NEAR_GREEDY,
    }
    defaults = SamplingParams.model_fields
    return {name: defaults[name].default for name, is_narrow in narrow.items() if is_narrow}
