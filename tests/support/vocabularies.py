"""Tiny tokenizers with every kind of decoder, their text by definition, and a model that writes ids."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.support.tiny import cache_argument

HIDDEN = ("<|one|>", "<|two|>")
"""Special tokens that no text shows."""
PIECES = (
    "▁",
    "▁Hello",
    "▁world",
    "▁a",
    "H",
    "e",
    "l",
    "o",
    "w",
    "s",
    "▁.",
    ".",
    ",",
    "é",
    "☃",
    "\n",
    "\ufffd",
)
WORDS = ("Hello", "world", "##s", "##.", ".", ",", "don", "'", "t", "n't", "é", "☃")


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer, and the text of some of its ids by definition.

    Attributes:
        tokenizer: loaded.
        ids: those that a text may be made of.
        complete: every complete character of the text of some ids.
        ended: the text of ids after which nothing follows.
    """

    tokenizer: Any
    ids: tuple[int, ...]
    complete: Callable[[Sequence[int]], str]
    ended: Callable[[Sequence[int]], str]


def _loaded(model: Any, decoder: Any, added: Sequence[str] = (), **options: Any) -> Any:
    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoder
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<s>", "</s>", *HIDDEN])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in added])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", **options)


def _numbered(*tokens: str) -> dict[str, int]:
    return {token: number for number, token in enumerate(dict.fromkeys(("<unk>", *tokens)))}


def _of_bytes(
    tokenizer: Any, spelled: Callable[[str], bytes], errors: str, begin: Callable[[str], str]
) -> Vocabulary:
    """Text by definition: the bytes of all tokens, decoded with ``errors``."""
    texts = {number: spelled(token) for token, number in tokenizer.get_vocab().items()}
    texts |= dict.fromkeys(tokenizer.all_special_ids, b"")
    texts |= dict.fromkeys(tokenizer.convert_tokens_to_ids(list(HIDDEN)), b"")

    def ended(ids: Sequence[int]) -> str:
        return begin(b"".join(texts[token] for token in ids).decode("utf-8", errors))

    def complete(ids: Sequence[int]) -> str:
        data = b"".join(texts[token] for token in ids)
        begun = next((n for n in (3, 2, 1) if n <= len(data) and _may_go_on(data[-n:])), 0)
        return begin(data[: len(data) - begun].decode("utf-8", errors))

    return Vocabulary(tokenizer, tuple(sorted(texts)), complete, ended)


def _may_go_on(data: bytes) -> bool:
    """Whether some bytes after these make one character of them."""
    ends = [bytes([one, *(0x80,) * more]) for one in (0x80, 0x90, 0xA0, 0xBF) for more in (0, 1, 2)]
    return any(len(_decoded(data + end)) == 1 for end in ends)


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return ""


codecs.register_error("each byte", lambda error: ("\ufffd" * (error.end - error.start), error.end))


def _fallback(decoder: Any, begin: Callable[[str], str], **options: Any) -> Vocabulary:
    vocabulary = _numbered(*(f"<0x{byte:02X}>" for byte in range(256)), *PIECES)
    model = models.BPE(vocabulary, [], unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    tokenizer = _loaded(model, decoder, ["<added>"], **options)

    def spelled(token: str) -> bytes:
        if token.startswith("<0x"):
            return bytes([int(token[3:5], 16)])
        return token.replace("▁", " ").encode()

    return _of_bytes(tokenizer, spelled, "each byte", begin)


def llama2() -> Vocabulary:
    """Bytes for what has no token, and the first blank is left out: Llama 2, Mistral, TinyLlama, Phi-3."""
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    return _fallback(decoders.Sequence(steps), lambda text: text.removeprefix(" "))


def gemma() -> Vocabulary:
    """Bytes for what has no token, all blanks shown."""
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    return _fallback(decoders.Sequence(steps), lambda text: text, clean_up_tokenization_spaces=True)


def byte_level() -> Vocabulary:
    """Bytes throughout: GPT-2, Llama 3, Qwen, DeepSeek."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = dict(zip(alphabet, _byte_order(), strict=True))
    words = [" Hello", " world", "é", "☃", "☃☃", "\ufffd", " ☃"]
    halves = ["☃".encode()[:2], "☃".encode()[1:], "a☃".encode()[:2], b"\x83\xe2", "😀".encode()[:2]]
    back = {byte: letter for letter, byte in letters.items()}
    tokens = ["".join(back[byte] for byte in data) for data in (*(word.encode() for word in words), *halves)]
    model = models.BPE(_numbered(*alphabet, *tokens), [], unk_token="<unk>")
    tokenizer = _loaded(model, decoders.ByteLevel(), ["<added>", "<\N{FULLWIDTH VERTICAL LINE}added>"])

    def spelled(token: str) -> bytes:
        return bytes(map(letters.__getitem__, token)) if set(token) <= letters.keys() else token.encode()

    return _of_bytes(tokenizer, spelled, "replace", lambda text: text)


def _byte_order() -> list[int]:
    """The byte of each letter of the alphabet, in the order of the letters."""
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [*printed, *(byte for byte in range(256) if byte not in printed)]


def _of_pieces(tokenizer: Any) -> Vocabulary:
    """Text by definition: what the tokenizer decodes, since every token is whole characters."""

    def text(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    return Vocabulary(tokenizer, tuple(sorted(tokenizer.get_vocab().values())), text, text)


def word_piece() -> Vocabulary:
    """Words and what they go on with, blanks cleaned up by the decoder and, if let, by transformers."""
    model = models.WordPiece(_numbered(*WORDS), unk_token="<unk>")
    return _of_pieces(
        _loaded(model, decoders.WordPiece("##", cleanup=True), ["<added>"], clean_up_tokenization_spaces=True)
    )


def metaspace() -> Vocabulary:
    """Blanks as part of words, the first one left out."""
    pieces = [piece for piece in PIECES if piece != "\ufffd"]
    model = models.BPE(_numbered(*pieces), [], unk_token="<unk>")
    return _of_pieces(_loaded(model, decoders.Metaspace(), ["<added>"]))


def suffixes() -> Vocabulary:
    """Words that say where they end."""
    model = models.BPE(_numbered("Hel", "lo</w>", "world</w>", ".</w>", "é", "☃</w>"), [], unk_token="<unk>")
    return _of_pieces(_loaded(model, decoders.BPEDecoder("</w>"), ["<added>"]))


def without_decoder() -> Vocabulary:
    """Words that are joined by blanks."""
    return _of_pieces(_loaded(models.WordLevel(_numbered(*WORDS), unk_token="<unk>"), None, ["<added>"]))


KINDS: dict[str, Callable[[], Vocabulary]] = {
    make.__name__: cache(make)
    for make in (llama2, gemma, byte_level, word_piece, metaspace, suffixes, without_decoder)
}
"""Every kind of decoder by name."""


class _Writer(LlamaForCausalLM):  # type: ignore[misc]
    """Writes given ids after a prompt of a given length, whatever it reads."""

    script: list[int]
    prompt_tokens: int

    def forward(self, input_ids: Any = None, past_key_values: Any = None, **options: Any) -> Any:
        before = past_key_values.get_seq_length() if past_key_values is not None else 0
        cache = {cache_argument(super().forward): past_key_values}
        output = super().forward(input_ids=input_ids, **cache, **options)
        places = output.logits.shape[1]
        output.logits = torch.full_like(output.logits, -1e4)
        for place in range(places):
            step = before + input_ids.shape[1] - places + place + 1 - self.prompt_tokens
            output.logits[
                :, place, self.script[step] if 0 <= step < len(self.script) else self.script[-1]
            ] = 0
        return output


def writer(tokenizer: Any, ids: Sequence[int], prompt_tokens: int) -> LlamaForCausalLM:
    """A model that writes these ids, then the last of them again and again.

    Args:
        tokenizer: whose vocabulary it has.
        ids: what it writes.
        prompt_tokens: length of the prompt, template included.
    """
    torch.manual_seed(0)
    sizes = dict.fromkeys(("hidden_size", "intermediate_size"), 8)
    heads = dict.fromkeys(("num_hidden_layers", "num_attention_heads", "num_key_value_heads"), 1)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=0,
        **sizes,
        **heads,
    )
    model = _Writer(config).eval()
    model.script, model.prompt_tokens = list(ids), prompt_tokens
    return model
