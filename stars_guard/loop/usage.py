"""Accounting: what one request costs, in tokens, calls and seconds. ``Usage`` is written here only."""

from __future__ import annotations

import time

from stars_guard.models.base import Proposal
from stars_guard.result import Usage


class UsageRecorder:
    """Writes down what a request costs, from its submission on.

    Where a phase served several requests at once, each of them is charged its whole time. Methods that take
    ``since``, a value of ``time.monotonic()``, charge the time from then to now.

    Attributes:
        usage: the costs so far.
        submitted: ``time.monotonic()`` of the submission, which is when this was made.
        lost_tokens: most tokens that calls which failed may have drawn, and which no one will ever count.
    """

    def __init__(self) -> None:
        self.usage = Usage()
        self.submitted = time.monotonic()
        self.lost_tokens = 0

    @property
    def elapsed(self) -> float:
        """Seconds since submission."""
        return time.monotonic() - self.submitted

    def work_began(self) -> None:
        """The request has waited for its turn."""
        self.usage.seconds.queued = self.elapsed

    def prompt_read(self, since: float) -> None:
        """A model read the prompt, or a piece of it."""
        self.usage.seconds.prefill += time.monotonic() - since

    def prompt_measured(self, tokens: int) -> None:
        """The prompt's length is known, template included."""
        self.usage.prompt_tokens = tokens

    def proposed(self, proposal: Proposal, since: float) -> None:
        """Candidates were drawn, or had been drawn ahead and were waited for."""
        seconds = self.usage.seconds
        seconds.propose += time.monotonic() - since
        if seconds.first_candidates is None and proposal.candidates:
            seconds.first_candidates = self.elapsed
        self.usage.proposed_tokens += proposal.tokens

    def drawing_failed(self, tokens: int) -> None:
        """A call failed that was to draw at most so many tokens."""
        self.lost_tokens += tokens

    def used_ahead(self, tokens: int) -> None:
        """A proposal of so many tokens, counted with it, had been drawn ahead."""
        self.usage.ahead_tokens += tokens

    def wasted_ahead(self, tokens: int) -> None:
        """So many tokens were drawn ahead of a candidate that was then not accepted."""
        self.usage.proposed_tokens += tokens
        self.usage.ahead_tokens += tokens
        self.usage.ahead_wasted_tokens += tokens

    def reward_asked(self, texts: int) -> None:
        """Texts go to the reward model."""
        self.usage.reward_calls += texts

    def scored(self, since: float) -> None:
        """The reward model answered."""
        self.usage.seconds.score += time.monotonic() - since

    def segment_accepted(self) -> None:
        """A segment became part of the answer."""
        if self.usage.seconds.first_segment is None:
            self.usage.seconds.first_segment = self.elapsed

    def answer_ended(self, kept_tokens: int) -> None:
        """The answer is over and has so many tokens."""
        self.usage.kept_tokens = kept_tokens
        self.usage.seconds.total = self.elapsed

    def sessions_closed(self, forward_passes: int) -> None:
        """The models have made all their passes for this answer."""
        self.usage.forward_passes = forward_passes
