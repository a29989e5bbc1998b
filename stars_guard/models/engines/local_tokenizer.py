"""Prompts to token ids and back, for a model that runs elsewhere. Needs transformers, but no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stars_guard.errors import ConfigurationError, PromptError
from stars_guard.http.hub import pretrained
from stars_guard.http.load_faults import check_tokenizer, load_failures
from stars_guard.models.chat import ChatTemplate, PromptFormat, decoder, detect_dialect, raw_ids
from stars_guard.prompts import Prompt
from stars_guard.text.decoding import AnswerDecoder
from stars_guard.text.dialects import PLAIN, Dialect
from stars_guard.types import Finish


class LocalTokenizer:
    """The tokenizer of a remote model, in this process.

    Args:
        tokenizer: of the very model that the engine serves.
        name: of the model, for error messages.
        prompt_format: as for :class:`stars_guard.models.TransformersModel`.
        template_arguments: likewise.
        dialect: likewise.
        sanitize_control_tokens: likewise.
        eos_ids: ids that end an answer, beside the tokenizer's own.

    Attributes:
        eos_ids: ids that end an answer.
        unknown_ends: those that the chat template alone says, so that an engine need not know them, with
            their texts.

    Raises:
        ConfigurationError: a chat template is asked for, and there is none.
    """

    def __init__(
        self,
        tokenizer: Any,
        name: str,
        *,
        prompt_format: PromptFormat = "auto",
        template_arguments: Mapping[str, Any] | None = None,
        dialect: Dialect | None = None,
        sanitize_control_tokens: bool = True,
        eos_ids: Sequence[int] = (),
    ) -> None:
        if prompt_format == "chat" and not tokenizer.chat_template:
            raise ConfigurationError("prompt_format='chat' needs a tokenizer with a chat template; use 'raw'")
        self.tokenizer = tokenizer
        self._name = name
        self._chat = bool(tokenizer.chat_template) if prompt_format == "auto" else prompt_format == "chat"
        dialect = dialect or detect_dialect(tokenizer)
        self._template = ChatTemplate(
            tokenizer,
            name,
            dialect,
            template_arguments or {},
            sanitize_control_tokens=sanitize_control_tokens,
        )
        ends = frozenset(token for token in [*eos_ids, tokenizer.eos_token_id] if token is not None)
        turn_ends = self._template.turn_ends() if self._chat else frozenset()
        self._decode = decoder(tokenizer, dialect, turn_ends)
        self.eos_ids = ends | turn_ends
        self.unknown_ends = {token: str(tokenizer.added_tokens_decoder[token]) for token in turn_ends - ends}

    @property
    def control_tokens(self) -> list[str]:
        """Tokens that mean something to the model, as they are spelled."""
        return [str(token) for token in self.tokenizer.added_tokens_decoder.values() if token.special]

    @classmethod
    def load(cls, path: str, name: str, revision: str | None = None, **options: Any) -> LocalTokenizer:
        """Load a folder or a hub id.

        Args:
            path: folder or hub id.
            name: of the model, for error messages.
            revision: commit, tag or branch of a hub id.
            options: of :class:`LocalTokenizer`.

        Raises:
            ConfigurationError: nothing usable is there, and what was tried.
        """
        from transformers import AutoTokenizer

        if path.startswith((".", "/", "~")) and not Path(path).expanduser().is_dir():
            raise ConfigurationError(f"cannot load a tokenizer from {path!r}: there is no such folder")
        with (
            load_failures(f"cannot load a tokenizer from {path!r}", path, {}),
            pretrained(path, {"revision": revision}, setting="tokenizer_revision") as given,
        ):
            tokenizer = AutoTokenizer.from_pretrained(path, **given)
            check_tokenizer(tokenizer, path)
        return cls(tokenizer, name, eos_ids=_configured_eos(Path(path).expanduser()), **options)

    def encode(self, prompt: Prompt) -> tuple[list[int], Dialect]:
        """The prompt's ids, chat template included, and the dialect of an answer to it.

        Raises:
            PromptError: the template refuses the messages.
        """
        if prompt.text is None and self._chat:
            ids = self._template.encode(prompt)
            return ids, self._template.dialect_after(ids)
        if prompt.tools:
            raise PromptError(f"{self._name} has no chat template in use, and tools need one")
        return raw_ids(self.tokenizer, prompt.text or prompt.as_text()), PLAIN

    def ids(self, text: str) -> list[int]:
        """The ids of a text within an answer."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def render(self, prompt: Prompt, *, with_bos: bool) -> tuple[str, Dialect]:
        """The prompt as text, and the dialect of an answer to it.

        Args:
            prompt: what to answer.
            with_bos: whether to begin with the token that tokenizers put before a text; a raw text is left as
                it stands then.

        Raises:
            PromptError: the template refuses the messages, or they spell out control tokens, which would be
                real ones in a text.
        """
        before = self.tokenizer("")["input_ids"][:1]
        beginning: str = self.tokenizer.decode(before, skip_special_tokens=False)
        if prompt.text is not None:
            return prompt.text if with_bos else prompt.text.removeprefix(beginning), PLAIN
        ids, dialect = self.encode(prompt)
        text: str = self.tokenizer.decode(ids, skip_special_tokens=False)
        if self._special(self.tokenizer(text, add_special_tokens=False)["input_ids"]) != self._special(ids):
            raise PromptError(
                "a message spells out control tokens of the model, which would be real ones in a text; "
                "remove them, or use an engine that takes token ids"
            )
        if not with_bos and before and before == ids[:1]:
            text = text[len(beginning) :]
        return text, dialect

    def _special(self, ids: Sequence[int]) -> list[int]:
        return [token for token in ids if token in self.tokenizer.added_tokens_decoder]

    def ends(self, ids: Sequence[int], finish: Finish) -> frozenset[int]:
        """The ids that end an answer."""
        return self.eos_ids

    def decoder_after(self, prompt: Prompt, ids: Sequence[int]) -> AnswerDecoder:
        """What gives the text of an answer's ids, after a prompt with these ids."""
        return self._decode if prompt.text is None else self._decode.after(ids)


def _configured_eos(folder: Path) -> list[int]:
    """The ids in a folder's ``generation_config.json``, with which engines end answers as well."""
    place = folder / "generation_config.json"
    if not place.is_file():
        return []
    ids = json.loads(place.read_text(encoding="utf-8")).get("eos_token_id")
    return ids if isinstance(ids, list) else [ids]


def local_tokenizer(
    tokenizer: Any,
    name: str,
    prompt_format: PromptFormat,
    template_arguments: Mapping[str, Any] | None,
    dialect: Dialect | None,
    revision: str | None = None,
) -> LocalTokenizer:
    """The tokenizer of a remote model, which may have to be loaded.

    Args:
        tokenizer: loaded by transformers, or its folder or hub id.
        name: of the model, for error messages.
        prompt_format: whether prompts go through the chat template.
        template_arguments: passed to the chat template.
        dialect: how the model marks reasoning and tool calls; None: what template and vocabulary say.
        revision: commit, tag or branch of a hub id.
    """
    how: Any = {
        "prompt_format": prompt_format,
        "template_arguments": template_arguments,
        "dialect": dialect,
    }
    if isinstance(tokenizer, str | Path):
        return LocalTokenizer.load(str(tokenizer), name, revision, **how)
    return LocalTokenizer(tokenizer, name, **how)
