"""What a channel says: its stretches of an answer, without the blanks that only set them apart."""

from __future__ import annotations

from collections.abc import Sequence

from stars_guard.text.dialects import ChannelPart
from stars_guard.types import Channel


def stretches_of(parts: Sequence[ChannelPart], channel: Channel) -> list[tuple[int, str]]:
    """Where each stretch of a channel begins, and its text.

    Blanks go that only separate it from the channel before.
    """
    kept = channel is Channel.ANSWER  # blanks that begin a whole answer are its own
    stretches = []
    for number, part in enumerate(parts):
        text = part.text if kept and not number else part.text.lstrip()
        if part.channel is channel and text:
            stretches.append((part.start + len(part.text) - len(text), text))
    return stretches
