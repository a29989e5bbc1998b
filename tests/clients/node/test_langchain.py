"""LangChain.js: ChatOpenAI, and createAgent upon it."""

from __future__ import annotations

from driven import InNode, error


class TestLangChain(InNode):
    client = "langchain"
    wrong_key = error("AuthenticationError")
    too_long = error("BadRequestError")
