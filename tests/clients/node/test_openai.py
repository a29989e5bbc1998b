"""OpenAI's SDK for JavaScript."""

from __future__ import annotations

from driven import InNode, error
from running import Server


class TestOpenAI(InNode):
    client = "openai"
    wrong_key = error("AuthenticationError")
    too_long = error("BadRequestError")

    def test_the_models_are_listed(self, server: Server) -> None:
        assert self.do(server, "models", "") == [Server.model]
        assert [request["outcome"] for request in server.served(1)] == ["answered"]


class TestResponses(InNode):
    client = "responses"
    wrong_key = error("AuthenticationError")
    too_long = error("BadRequestError")
    refused_as = "refusal"
