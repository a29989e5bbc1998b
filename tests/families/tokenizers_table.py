"""Real tokenizers, and what is proven of each: ``python -m tests.families.tokenizers_table`` writes it down.

That is the second table of docs/families.md, of those tokenizers that were fetched.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from stars_guard.models.chat import decoder
from stars_guard.text.answer_text import AnswerText
from stars_guard.text.decoding import AnswerDecoder
from stars_guard.text.dialects import PLAIN
from stars_guard.text.transcript import Transcript
from stars_guard.types import Finish
from tests.families.document import PATH, replaced, table

NAMES = (
    *("qwen3", "gemma3", "llama3_1", "llama2", "deepseek_v3", "gptoss"),
    *("gpt4o", "gpt35turbo", "llama3", "claude", "gemini"),
)
FOLDER = Path(os.environ.get("STARS_GUARD_TOKENIZERS", Path(__file__).parents[2] / ".cache" / "tokenizers"))
"""Where the files are, a folder for each."""
HEADINGS = ("tokenizer", "vocabulary", "decoder", "proven")
LENGTHS = (1, 2, 3, 8, 32)
"""Segments, in tokens."""
TEXTS = (
    "안녕하세요저는한국어를말합니다오늘날씨가매우좋아서산책을하고싶어요친구와함께공원에갈거예요",
    "😀👩‍👩‍👧‍👦🏳️‍🌈👍🏽🇺🇳 e\u0301 \ufe0f\u200d ☃",
    "今日はいい天気ですね。散歩に行きませんか。我们去公园吧!",
    "السلام عليكم ورحمة الله  नमस्ते, आप कैसे हैं?  שלום עולם",
    "def main():\n\treturn [x for x in range(10)]  # don't , do not .\r\n\n",
    " Hello , world ! It 's  a \u00a0 test\u2028 ﷽ ꧁ 𒀀𒀁 𓀀 ⸻ \U00010ffff",
    "▁▁ <0xE2> ### Ġ ##ing </w> \ufffd\ufffd a\ufffd",
)


@cache
def loaded(name: str) -> Any:
    """A tokenizer, by name."""
    return AutoTokenizer.from_pretrained(FOLDER / name)


def kind(tokenizer: Any) -> str:
    """The decoder, in words."""
    steps = str(tokenizer.backend_tokenizer.decoder)
    if "ByteFallback" in steps:
        return "byte fallback, first blank left out" if "Strip" in steps else "byte fallback"
    return "byte-level" if "ByteLevel" in steps else steps.partition("(")[0]


def rows() -> list[tuple[str, ...]]:
    """The rows of the table, those of tokenizers that were fetched."""
    return [_row(name) for name in NAMES if (FOLDER / name / "tokenizer.json").is_file()]


def _row(name: str) -> tuple[str, ...]:
    tokenizer = loaded(name)
    tried = [proof.__name__ for proof in PROOFS if proof(tokenizer) is None]
    return (f"`{name}`", f"{len(tokenizer):,}", kind(tokenizer), "; ".join(map(_words, tried)))


def _words(proof: str) -> str:
    return proof.replace("_", " ")


def decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    """What the library makes of ids."""
    return str(tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def by_segments(
    decode: AnswerDecoder, ids: Sequence[int], length: int, finish: Finish
) -> tuple[list[str], str]:
    """The text after each segment, and all that was shown.

    Args:
        decode: ids to text.
        ids: of an answer.
        length: of a segment.
        finish: why the answer ends.
    """
    answer, transcript = AnswerText(decode), Transcript(PLAIN, None, (), "a234567")
    texts, shown = [], []
    starts = range(0, len(ids), length)
    for start in starts:
        segment = ids[start : start + length]
        text, _ = answer.drawn(segment, finish if start == starts[-1] else None)
        answer.accept(segment, text)
        texts.append(text)
        shown += transcript.accept(text)
    shown += transcript.flush(None)
    return texts, "".join(piece.text for piece in shown)  # type: ignore[union-attr]


def every_complete_character(tokenizer: Any) -> None:
    """Of real texts, what is judged after each segment, and shown in the end."""
    decode = decoder(tokenizer, PLAIN)
    for ids in _written(tokenizer):
        whole = decoded(tokenizer, ids)
        for length in LENGTHS:
            texts, shown = by_segments(decode, ids, length, Finish.EOS)
            assert texts[-1] == shown == whole
            ends = range(length, len(ids), length)
            for end, text in zip(ends, texts, strict=False):
                assert whole.startswith(text)
                assert len(text) >= _complete(tokenizer, ids, end, whole)


def _complete(tokenizer: Any, ids: Sequence[int], end: int, whole: str) -> int:
    """Characters of the whole text that some of its first ids make, by the library's own words."""
    shorter = (decoded(tokenizer, ids[: end - missing]) for missing in range(min(4, end)))
    return max(len(text) for text in (text.rstrip("\ufffd") for text in shorter) if whole.startswith(text))


def any_ids_in_any_segments(tokenizer: Any) -> None:
    """Of ids at random, invalid bytes included: the same text for all segments, taken back nowhere."""
    decode = decoder(tokenizer, PLAIN)
    for ids in _at_random(tokenizer, 60):
        whole = decode.ended(ids)
        library = decoded(tokenizer, ids)
        assert whole == library or ("\ufffd" in library and "byte fallback" in kind(tokenizer))
        for length in LENGTHS:
            for finish, expected in ((Finish.EOS, whole), (Finish.LENGTH, decode(ids))):
                texts, shown = by_segments(decode, ids, length, finish)
                assert texts[-1] == shown == expected


def a_raw_prompt_that_ends_anywhere(tokenizer: Any) -> None:
    """After a prompt that is gone on with: the same text but for a first blank."""
    decode = decoder(tokenizer, PLAIN)
    for before, ids in zip(_at_random(tokenizer, 40, 1), _at_random(tokenizer, 40, 2), strict=True):
        after = decode.after(before)
        assert after(ids).removeprefix(" ") == decode(ids).removeprefix(" ")
        assert after.ended(ids).removeprefix(" ") == decode.ended(ids).removeprefix(" ")


def special_tokens_as_stop_strings(tokenizer: Any) -> None:
    """Of special tokens, each ends an answer where a stop string names it."""
    decode = decoder(tokenizer, PLAIN)
    before, after = (tokenizer.encode(text, add_special_tokens=False) for text in ("Hello", "world"))
    told = decode(before)
    for token, name in list(decode.hidden.items())[:20]:
        for stop in (name, name + decode([*before, *after]).removeprefix(told), told[-2:] + name):
            stopped = AnswerText(decode, (stop,)).drawn([*before, token, *after], Finish.EOS)
            assert stopped == (told.removesuffix(stop.partition(name)[0]), Finish.STOP)


PROOFS: Sequence[Callable[[Any], None]] = (
    every_complete_character,
    any_ids_in_any_segments,
    a_raw_prompt_that_ends_anywhere,
    special_tokens_as_stop_strings,
)
"""What is tried of each tokenizer; one that does not hold raises."""


def _written(tokenizer: Any) -> Iterator[list[int]]:
    """The ids of texts: as they are encoded, and with what has bytes of its own spelled in these."""
    for text in TEXTS:
        yield list(tokenizer.encode(text, add_special_tokens=False))
        yield _in_bytes(tokenizer, text.encode())


@cache
def _byte_tokens(tokenizer: Any) -> dict[int, int]:
    """The tokens of single bytes."""
    if "byte fallback" in kind(tokenizer):
        names = {byte: f"<0x{byte:02X}>" for byte in range(256)}
    else:
        printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
        others = [byte for byte in range(256) if byte not in printed]
        names = {byte: chr(byte) for byte in printed} | {
            byte: chr(0x100 + place) for place, byte in enumerate(others)
        }
    known = tokenizer.get_vocab()
    return {byte: known[name] for byte, name in names.items() if name in known}


def _in_bytes(tokenizer: Any, text: bytes) -> list[int]:
    """A text in the tokens of single bytes, as far as there are some."""
    known = _byte_tokens(tokenizer)
    return [known[byte] for byte in text if byte in known]


def _at_random(tokenizer: Any, number: int, seed: int = 0) -> Iterator[list[int]]:
    """Ids, of which some are bytes one by one."""
    chance = random.Random(seed)
    for _ in range(number):
        ids: list[int] = []
        while len(ids) < 24:
            data = bytes(chance.randrange(256) for _ in range(chance.randrange(4)))
            emoji = chr(0x1F600 + chance.randrange(64)).encode()[: chance.randrange(5)]
            ids += _in_bytes(tokenizer, chance.choice([data, emoji, data + emoji]))
            ids += [chance.randrange(len(tokenizer)) for _ in range(chance.randrange(4))]
        yield ids


if __name__ == "__main__":
    said = replaced(PATH.read_text(encoding="utf-8"), "tokenizers", table(HEADINGS, rows()))
    PATH.write_text(said, encoding="utf-8")
