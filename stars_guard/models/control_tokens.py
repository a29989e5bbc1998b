"""Control tokens that users spell out, kept mere text in every string that a chat template prints.

That is where the template is rendered here. What engines render is in :mod:`stars_guard.text.control_tokens`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

_BUILT = ("<|", "<\N{FULLWIDTH VERTICAL LINE}")
"""How tokens begin that a template may build from pieces, such as a role between bars."""


class ControlTokens:
    """What the chat template of one tokenizer may take for control tokens.

    transformers marks them in values, but not in the keys of objects, not where two strings join to one,
    and not those that neither are special nor stand in the template.

    Args:
        tokenizer: with a chat template.
        template: source of the template.
        marks: further tokens that mean something to the model, such as those of a dialect.
    """

    def __init__(self, tokenizer: Any, template: str, marks: Collection[str]) -> None:
        from transformers.utils.chat_template_utils import encode_marked_chat, mark_control_tokens

        added = {str(token): token.special for token in tokenizer.added_tokens_decoder.values()}
        # Ordinary words that somebody added to the vocabulary stay as they are.
        tokens = [
            token
            for token, special in added.items()
            if special
            or (not token.isspace() and (token in template or token in marks or token.startswith(_BUILT)))
        ]
        self._pattern = re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or "(?!)")
        # Plain words and the two last characters are left out: roles and quotes must stay what they are.
        self._starts = {token[:end] for token in tokens for end in range(1, len(token))}
        self._starts = {start for start in self._starts if not start.isalnum()}
        self._ends = {token[start:] for token in tokens for start in range(1, len(token) - 2)}
        self._ends = {end for end in self._ends if not end.isalnum()}
        self._longest = max(map(len, tokens), default=0)
        self._mark, self._encode = mark_control_tokens, encode_marked_chat
        self._tokenizer = tokenizer
        # The marks around a token; each alone still separates the texts on its sides.
        self._before, self._after = mark_control_tokens("x", re.compile("x")).split("x")

    def marked(self, value: Any) -> Any:
        """A copy with every spelled-out control token marked, in texts and in keys at every depth."""
        if isinstance(value, str):
            return self._marked_text(value)
        if isinstance(value, Mapping):
            return {self.marked(key): self.marked(inner) for key, inner in value.items()}
        return [self.marked(inner) for inner in value] if isinstance(value, list | tuple) else value

    def ids(self, text: str) -> list[int]:
        """Token ids of what a template made of marked input."""
        for mark in (self._before, self._after):
            # A template that prints an object as Python does, or as ASCII JSON, escapes the marks.
            for escaped in (repr(mark)[1:-1], json.dumps(mark)[1:-1]):
                text = text.replace(escaped, mark)
        return list(self._encode(self._tokenizer, text))

    def _marked_text(self, text: str) -> str:
        marked: str = self._mark(text, self._pattern)
        bare = text.replace(self._before, "").replace(self._after, "").strip()
        lengths = range(1, min(self._longest, len(bare)) + 1)
        # Half a token, which the text beside it could complete.
        before = self._before if any(bare[:length] in self._ends for length in lengths) else ""
        after = self._after if any(bare[-length:] in self._starts for length in lengths) else ""
        return before + marked + after
