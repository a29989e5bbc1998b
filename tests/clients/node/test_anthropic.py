"""Anthropic's SDK for JavaScript."""

from __future__ import annotations

from contract import guarded_unthreaded
from driven import InNode, error
from running import Server


class TestAnthropic(InNode):
    client = "anthropic"
    wrong_key = error("AuthenticationError")
    too_long = error("BadRequestError")
    refused_as = "refusal"

    def turns_answered(self, server: Server) -> None:
        guarded_unthreaded(server, self.turns)
