"""OpenAI's SDK in a page of Chromium, which asks from an origin that the server lets in."""

from __future__ import annotations

from typing import Any

import pytest
import scenario
from driven import InNode, Tool, error
from running import Server


class TestBrowser(InNode):
    client = "browser"
    wrong_key = error("AuthenticationError")
    too_long = error("BadRequestError")

    def do(self, server: Server, action: str, prompt: str, tool: Tool | None = None, **reached: str) -> Any:
        return super().do(server, action, prompt, tool, **{"origin": scenario.PAGE, **reached})

    def test_the_browser_is_a_real_one(self, server: Server) -> None:
        assert self.do(server, "version", "").startswith("HeadlessChrome/")

    def test_the_models_are_listed(self, server: Server) -> None:
        assert self.do(server, "models", "") == [Server.model]
        assert [request["outcome"] for request in server.served(1)] == ["answered"]

    def test_a_page_of_another_origin_gets_nothing(self, server: Server) -> None:
        with pytest.raises(error("APIConnectionError")):
            self.do(server, "models", "", origin=scenario.OTHER_PAGE)
        server.forget()
