"""Control tokens that users spell out in what is sent to a server: a blank makes each mere text.

A server tokenizes what it gets, and text is all that it can be sent. Which tokens its model knows is a matter
of knowing the family: a token that is neither here nor in a tokenizer that is given stays what it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

WELL_KNOWN: Mapping[str, tuple[str, ...]] = {
    "ends of texts": ("<s>", "</s>", "<bos>", "<eos>", "<pad>", "<unk>", "<mask>", "<cls>", "<sep>"),
    "BERT": ("[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]", "[BOS]", "[EOS]"),
    "Llama 2": ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"),
    "Mistral": (
        *("[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
        *("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[MODEL_SETTINGS]", "[/MODEL_SETTINGS]", "[TOOL_CONTENT]"),
        *("[ARGS]", "[CALL_ID]", "[THINK]", "[/THINK]", "[IMG]", "[IMG_BREAK]", "[IMG_END]"),
        *("[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[AUDIO]", "[BEGIN_AUDIO]"),
    ),
    "Gemma": (
        *("<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>"),
        *("<start_function_call>", "<end_function_call>", "<start_function_response>"),
        *(
            "<end_function_response>",
            "<start_function_declaration>",
            "<end_function_declaration>",
            "<escape>",
        ),
    ),
    "Hermes and Qwen": ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tools>", "</tools>"),
    "answers of tools": ("<tool_response>", "</tool_response>"),
    "GLM": ("[gMASK]", "[sMASK]", "<sop>", "<eop>"),
    "DeepSeek, MiniMax and others": ("]~b]", "[e~[", "]~!b[", "<role>", "</role>", "<end_of_utterance>"),
    "InternLM and Baichuan": ("<eoh>", "<eoa>", "<eosys>", "<reserved_102>", "<reserved_103>"),
}
"""Control tokens of model families, beside those in bars, which every family spells alike: ``<|...|>``."""
BEGINNINGS = (
    *("<s>", "<bos>", "[BOS]", "<|begin_of_text|>", "<|startoftext|>", "<|bos|>"),
    "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
)
"""How the beginning of a text is spelled by families that mark it."""
_BAR = "[|\N{FULLWIDTH VERTICAL LINE}]"
_IN_BARS = re.compile(f"<{_BAR}[^|<>\\n]{{0,64}}{_BAR}>")
_NUMBERED = re.compile(r"<(unused|extra_id_|reserved_|SPECIAL_|special_|image_|audio_)\d+>")
_HALVES = re.compile(rf"\A\s*/?\w*{_BAR}>|<({_BAR}[\w/]*)?(?=\s*\Z)")
"""Half a token at an end of a text, which what a template prints beside it could complete."""


def as_mere_text(value: Any, tokens: Collection[str] = ()) -> Any:
    """A copy with a blank in every spelled-out control token, in texts and in keys at every depth.

    Args:
        value: data of JSON.
        tokens: further tokens, such as those of the engine's tokenizer where it is known.
    """
    spelled = _spelled(frozenset(tokens))
    return _copied(value, lambda text: _broken(text, spelled))


@dataclass(frozen=True, slots=True)
class _Spelled:
    """Tokens, and how they may begin: long texts are searched only where that occurs."""

    firsts: frozenset[str]
    pattern: re.Pattern[str]


@lru_cache(maxsize=16)
def _spelled(tokens: frozenset[str]) -> _Spelled:
    known = {*(token for family in WELL_KNOWN.values() for token in family), *tokens} - {""}
    firsts = frozenset(token[0] for token in known)
    either = "|".join(re.escape(token) for token in sorted(known, key=len, reverse=True))
    return _Spelled(firsts, re.compile(f"(?=[{re.escape(''.join(sorted(firsts)))}])(?:{either})"))


def _copied(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(key): _copied(inner, change) for key, inner in value.items()}
    return [_copied(inner, change) for inner in value] if isinstance(value, list | tuple) else value


def _broken(text: str, spelled: _Spelled) -> str:
    if any(first in text for first in spelled.firsts):
        text = spelled.pattern.sub(_with_blank, text)
    if "<" in text or ">" in text:
        for pattern in (_IN_BARS, _NUMBERED, _HALVES):
            text = pattern.sub(_with_blank, text)
    return text


def _with_blank(found: re.Match[str]) -> str:
    return found[0][0] + " " + found[0][1:]
