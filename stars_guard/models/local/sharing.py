"""What the candidates of a model may share, and for how long."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig

from stars_guard.models.local.call import Call


@dataclass(frozen=True)
class Sharing:
    """What was proven of a model, and what follows from its configuration.

    Attributes:
        call: how its passes are called.
        shared: whether a cache may be forked; if not, every token is drawn from a pass over the whole text.
        in_pieces: whether several tokens may be read after a cache.
        padded: whether rows of unlike length may be read together.
        reason: why not all of it holds; empty if it does.
        turning_points: lengths past which a whole text is read otherwise, its beginning included.
    """

    call: Call
    shared: bool
    in_pieces: bool
    padded: bool
    reason: str = ""
    turning_points: tuple[int, ...] = ()

    def past(self, length: int) -> int:
        """How many turning points a text of so many tokens is past."""
        return sum(length > point for point in self.turning_points)

    def side(self, length: int, room: int = 0) -> int | None:
        """How many turning points a text is past, while it grows; None if nothing may be kept of it.

        What is read on one side is of no use on the other, and a candidate that crosses over is read anew
        for every token.

        Args:
            length: tokens of the text.
            room: most tokens that it may grow by.
        """
        stays = self.past(length) == self.past(length + room)
        return self.past(length) if self.shared and stays else None

    def piece(self, length: int, wanted: int) -> int:
        """Most tokens of a text that are read in one pass.

        Args:
            length: tokens of the whole text.
            wanted: most tokens that anybody wants to wait for.
        """
        return wanted if self.in_pieces and self.side(length) == 0 else length


def turning_points(config: PreTrainedConfig) -> tuple[int, ...]:
    """Lengths past which the rotary embeddings of a model turn the whole text otherwise.

    LongRoPE takes the factors for long texts for every token of a text that is longer than the model was
    first trained on, and for every row of a batch that holds such a text. (Dynamic NTK changes only past the
    context window, and no answer goes there.)
    """
    parameters = getattr(config.get_text_config(), "rope_parameters", None) or {}
    points = (rope.get("original_max_position_embeddings") for rope in _long_ropes(parameters))
    return tuple(sorted({point for point in points if point}))


def _long_ropes(parameters: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The parameters of LongRoPE, which may differ by kind of layer."""
    if parameters.get("rope_type") == "longrope":
        yield parameters
    for by_layer in parameters.values():
        if isinstance(by_layer, Mapping):
            yield from _long_ropes(by_layer)
