"""Qwen3Guard-Stream as a module of ours: a Qwen3 decoder and a head that judges every token of an answer.

Sources: Qwen team 2025, Qwen3Guard Technical Report (https://arxiv.org/abs/2510.14276), and the published
configurations and names of weights. The head of the answer is, at each token's last hidden state,

    risk_level_head(risk_level_category_layernorm(risk_level_category_pre(state)))

two linear maps without bias around a root-mean-square norm of ``guard_inner_size`` numbers. The published
weights also judge the prompt (``query_...``) and name categories (``..._category_head``); those are left out,
since a reward has to tell answers to one prompt apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from transformers import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3Model, Qwen3PreTrainedModel, Qwen3RMSNorm

from stars_guard.errors import ConfigurationError

ARCHITECTURE = "Qwen3ForGuardModel"
"""What a published config.json has in ``architectures``."""
INNER_SIZE, LEVELS, LEVEL_MAP = "guard_inner_size", "num_risk_level", "response_risk_level_map"
"""Keys of config.json: numbers inside the head, its labels' number, and their names by index."""
SAFE, UNSAFE, CONTROVERSIAL = "safe", "unsafe", "controversial"


class StreamGuard(Qwen3PreTrainedModel):  # type: ignore[no-untyped-call]
    """The decoder, and the answer's head as ``score``; the weights keep their published names.

    Args:
        config: with the keys above, besides those of a Qwen3 decoder.

    Raises:
        ConfigurationError: one of these keys is missing or does not fit the others.
    """

    def __init__(self, config: Qwen3Config) -> None:
        super().__init__(config)
        inner, levels = _size(config, INNER_SIZE), len(level_names(config))
        self.model = Qwen3Model(config)
        self.risk_level_category_pre = torch.nn.Linear(config.hidden_size, inner, bias=False)
        self.risk_level_category_layernorm = Qwen3RMSNorm(inner, eps=config.rms_norm_eps)
        self.risk_level_head = torch.nn.Linear(inner, levels, bias=False)
        # The parts of the published weights that are left out, which no warning is about then.
        self._keys_to_ignore_on_load_unexpected = ["^query_", "^category_head", "^lm_head"]
        self.post_init()  # type: ignore[no-untyped-call]

    def score(self, states: torch.Tensor) -> torch.Tensor:
        """Logits of the risk levels, ``(..., levels)``, of last hidden states ``(..., hidden size)``."""
        inside = self.risk_level_category_layernorm(self.risk_level_category_pre(states))
        return cast(torch.Tensor, self.risk_level_head(inside))


def level_names(config: Qwen3Config) -> list[str]:
    """Names of the risk levels, by index of the logit, as the configuration spells them.

    Raises:
        ConfigurationError: there is no map of names, its indices are not those of the logits, it has no level
            for safe or none for unsafe, or it has one that is neither and not controversial.
    """
    levels = getattr(config, LEVEL_MAP, None)
    if not isinstance(levels, Mapping):
        raise _unfit(config, LEVEL_MAP, "must name the levels, such as {'0': 'Safe', '1': 'Unsafe'}")
    count = _size(config, LEVELS)
    names = {str(index): str(name) for index, name in levels.items()}
    if set(names) != {str(index) for index in range(count)}:
        raise _unfit(config, LEVEL_MAP, f"must name the levels 0 to {count - 1}, and names {sorted(names)}")
    known = sorted(name.lower() for name in names.values())
    if known not in (sorted((SAFE, UNSAFE)), sorted((SAFE, UNSAFE, CONTROVERSIAL))):
        raise _unfit(
            config,
            LEVEL_MAP,
            f"must name safe, unsafe and perhaps controversial, and names {list(names.values())}",
        )
    return [names[str(index)] for index in range(count)]


def _size(config: Qwen3Config, key: str) -> int:
    size = getattr(config, key, None)
    if not isinstance(size, int) or size < 1:
        raise _unfit(config, key, f"must be a number from 1 on, and is {size!r}")
    return size


def _unfit(config: Qwen3Config, key: str, must: str) -> ConfigurationError:
    place = config.name_or_path or "the model"
    return ConfigurationError(
        f"{key} in the config.json of {place} {must}; take the folder as it was published (Qwen3Guard-Stream)"
    )
