"""Answers that are made to go on with an opening: a few words of declining that the model goes on from.

Most of what turns an answer around are its first words. An opening is put after what was accepted; the model
draws what follows it, and both together are one candidate, judged and counted like any other. So nothing is
shown that the rule did not accept, and the model says in its own words why it declines, or what it can do.

After accepted text the opening begins a new paragraph. At the end of a segment's room it is cut, so that at
least one token is drawn. An opening stands only in the text of the answer: within reasoning, in a tool call,
where a call is forced, under a ``response_schema``, and where a stop string would be in it or just before it,
the model draws as usual, and the trace says of such a segment that no opening fits.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from stars_guard.settings import Settings

LONGEST_OPENING = 200
"""Most characters of an opening: longer ones would leave no room in a segment."""


class Openings(Settings):
    """A list of openings, which attempts take in turn."""

    openings: tuple[str, ...] = Field(
        default=(
            "I'm sorry, but I can't help with that, because",
            "I can't help with that. What I can do instead is",
            "This could hurt someone, so I won't",
            "I'd rather not go into that, since",
        ),
        min_length=1,
    )
    """Beginnings that the model goes on from: without a full stop at the end, where it is to go on."""

    @field_validator("openings")
    @classmethod
    def _short(cls, openings: tuple[str, ...]) -> tuple[str, ...]:
        for opening in openings:
            # Models draw badly after a blank, which belongs to the word that follows it.
            if opening != opening.strip() or not 1 <= len(opening) <= LONGEST_OPENING:
                raise ValueError(
                    f"an opening has {len(opening)} characters; it takes 1 to {LONGEST_OPENING}, without "
                    "blanks around them"
                )
        return openings

    def opening(self, number: int) -> str:
        """The opening of an attempt; ``number`` counts from 0 the attempts that take one."""
        return self.openings[number % len(self.openings)]


class RefusalOpening(Openings):
    """Later attempts are drawn by the model after a few words of declining, which belong to the candidate.

    Law: attempt ``j`` draws from ``delta(o) pi(. | prompt, prefix, o)``, with ``o`` for the opening
    ``openings[(j - after) % len(openings)]``; the rest as for the ladder.
    """

    kind: Literal["refusal_opening"] = "refusal_opening"
    after: int = Field(default=4, ge=1)
    """Attempts at a segment that are drawn as usual."""
    optional: bool = False
    """Let a language model that cannot be made to go on with a text draw as usual, instead of refusing it."""


class WriteRefusal(Openings):
    """Have the model write the refusal; where that fails, too, end the answer with the refusal text.

    Law: with ``f`` for the chance that all attempts at a segment fail, the refusal begins with a segment
    ``s`` with probability ``f sum_j F_j pi_j(s) a(s)``. Attempt ``j`` draws from ``pi_j``, which is
    ``delta(o) pi(. | prompt, prefix, o)`` with ``o = openings[j % len(openings)]``; ``a`` is the acceptance
    probability of the rule, and ``F_j`` the chance that attempts before ``j`` fail. The answer is then
    written to its end by the law of any other, but its stop reason is ``refused``. That is tried once in an
    answer, after going back where ``escalation`` has that, and nothing of it is forced or withdrawn.
    """

    kind: Literal["write_refusal"] = "write_refusal"
    attempts: int = Field(default=4, ge=1)
    """Candidates judged for the beginning of the refusal."""
