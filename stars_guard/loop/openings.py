"""Where an opening may be put after accepted text, and what a candidate is that was drawn after one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from stars_guard.models.base import Proposal
from stars_guard.prompts import Tools
from stars_guard.text.dialects import Dialect, split
from stars_guard.types import Candidate, Channel

PARAGRAPH = "\n\n"
"""Stands before an opening, unless the text before it is empty or ends with a line."""


def put_after(text: str, opening: str) -> str:
    """What goes on the text: the opening, as a paragraph of its own."""
    return opening if not text or text.endswith("\n") else PARAGRAPH + opening


def is_open_answer(text: str, dialect: Dialect, tools: Tools | None) -> bool:
    """Whether what is written next after this text is told the user, whatever it says.

    Args:
        text: the whole answer so far, marks included.
        dialect: how the model marks channels.
        tools: what the answer may call, if anything.
    """
    if tools is not None and tools.forced:
        return False
    last = split(text, dialect, tools=tools is not None)[-1]
    # Without a header, what follows would be in no channel.
    return last.channel is Channel.ANSWER and not (dialect.headers and not last.text.strip())


def meets_stop(text: str, openings: Iterable[str], stops: Sequence[str]) -> bool:
    """Whether a stop string would be in one of the openings, or begin in the text before it.

    Args:
        text: the whole answer so far.
        openings: each may be put after it.
        stops: stop strings.
    """
    if not stops:
        return False
    before = text[-max(map(len, stops)) :]
    return any(stop in before + put_after(text, opening) for opening in openings for stop in stops)


def begun_with(opening: Candidate | None, proposal: Proposal) -> Proposal:
    """The proposal whose candidates begin with the opening they were drawn after, if there was one.

    What an opening says was not drawn, and so is not counted among the tokens of the proposal.
    """
    if opening is None:
        return proposal
    ids = opening.token_ids
    begun = (
        replace(each, token_ids=ids + each.token_ids, opening_tokens=len(ids)) for each in proposal.candidates
    )
    return replace(proposal, candidates=tuple(begun))
