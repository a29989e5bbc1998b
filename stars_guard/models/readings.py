"""How the tokens of a tokenizer are read, which is seen by what it makes of some of them."""

from __future__ import annotations

from functools import cache
from typing import Any

from stars_guard.text.decoding import PRINTED, ByteFallback, ByteLevel, Decode, Opaque, Reading

_BYTES = range(256)


def reading_of(tokenizer: Any, decode: Decode) -> Reading:
    """How its tokens are read.

    Args:
        tokenizer: loaded by transformers, or one that does as much as it is asked for.
        decode: its ids to text, special tokens left out.
    """
    if values := _fallback_bytes(tokenizer, decode):
        return ByteFallback(decode, values)
    if _is_byte_level(tokenizer):
        return ByteLevel(decode, lambda token: _bytes_of(str(tokenizer.convert_ids_to_tokens(token))))
    return Opaque(decode)


def _fallback_bytes(tokenizer: Any, decode: Decode) -> dict[int, int]:
    """The byte of each token ``<0x..>`` that stands for one."""
    known = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else {}
    values = {known[name]: byte for byte in _BYTES if (name := f"<0x{byte:02X}>") in known}
    printed = [token for token, byte in values.items() if byte in PRINTED]
    return values if printed and decode(printed[:1]) == chr(values[printed[0]]) else {}


def _is_byte_level(tokenizer: Any) -> bool:
    decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
    return decoder is not None and decoder.decode(["\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}a"]) == " a"


def _bytes_of(token: str) -> bytes:
    """The bytes that a token of a byte-level vocabulary spells; an added token may stand for itself."""
    alphabet = _alphabet()
    if all(letter in alphabet for letter in token):
        return bytes(alphabet[letter] for letter in token)
    return token.encode("utf-8", "replace")


@cache
def _alphabet() -> dict[str, int]:
    """The byte for which each letter stands in byte-level vocabularies."""
    # Bytes that print stand for themselves, the others for letters from U+0100 on, in order.
    printed = [*PRINTED, *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in _BYTES if byte not in printed]
    return {
        **{chr(byte): byte for byte in printed},
        **{chr(0x100 + place): byte for place, byte in enumerate(others)},
    }
