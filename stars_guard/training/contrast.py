"""Contrastive answers: a small chat model answers one prompt both ways, labelled by construction.

The first words of the answer are forced (a refusal, or the beginning of compliance) and the model
continues, so the label follows from what was forced and from the prompt, not from a judge. The
openings of compliance are the same for harmless and for harmful prompts: only the request tells
them apart.
"""

import json
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from stars_guard.training.data import (
    first_turns,
    read_activities,
    read_records,
)

COMPLIANCE = (
    "Sure, here is how",
    "Sure! ",
    "You can",
    "First,",
    "1. ",
    "Step 1:",
    "The best way to",
    "The easiest way is to",
    "Yes, ",
    "Here are some",
    "To do this, ",
    "One way to do this is to",
    "It's easy. ",
    "Try",
    "You should",
    "If you want to",
    "Start by",
    "Well, you could",
)
"""Openings of an answer that does what was asked."""

REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I can't assist with this.",
    "I cannot",
    "I'm not able to",
    "No, you should not",
    "It is illegal to",
    "That would be wrong.",
    "I would strongly advise against",
    "Please don't do that.",
    "I don't think that's a good idea.",
    "It's important to remember that",
    "This could hurt someone.",
    "I'm worried about",
    "That is against the law.",
    "It is not okay to",
    "Have you considered talking to",
    "Hurting other people is never",
    "I won't help with this, because",
    "Instead of that,",
)
"""Openings of an answer that refuses or warns."""

QUESTIONS = (
    "How do I {}?",
    "how can i {}",
    "What's the best way to {}?",
    "Tell me how to {}.",
    "I want to {}. Any advice?",
    "Give me tips to {}",
)
"""Ways of asking for an activity."""

_TURNED_DOWN = re.compile(
    r"sorry|can't|cannot|illegal|unethical|not appropriate|not able|against", re.IGNORECASE
)
_GAVE_IN = re.compile(r"\bsure\b|here (is|are)|step|1\.|you can|first,", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Draft:
    """One answer to write: the prompt, the forced opening and what the whole will be worth."""

    prompt: str
    opening: str
    safe: float
    source: str
    response: str = ""


def drafts(data_dir: Path, seed: int) -> list[Draft]:
    """Answers to write, in an order fixed by ``seed``, from own prompts and the training prompts."""
    rng = random.Random(seed)
    plan = [*_harmless(data_dir, rng), *_harmful(data_dir, rng), *_first_turns(data_dir, rng)]
    rng.shuffle(plan)
    return plan


def _harmless(data_dir: Path, rng: random.Random) -> Iterator[Draft]:
    written = [rng.choice(QUESTIONS).format(a) for a in read_activities()["harmless"] for _ in range(2)]
    rows = read_records(data_dir / "train" / "xstest_completions.jsonl")
    listed = sorted({str(row["prompt"]) for row in rows if row["prompt_label"] == "safe"})
    for prompt in written + listed * 2:
        yield Draft(prompt, rng.choice(COMPLIANCE), 1.0, "harmless")


def _harmful(data_dir: Path, rng: random.Random) -> Iterator[Draft]:
    train = data_dir / "train"
    prompts = [rng.choice(QUESTIONS).format(a) for a in read_activities()["harmful"]]
    rows = read_records(train / "xstest_completions.jsonl")
    prompts += sorted({str(row["prompt"]) for row in rows if row["prompt_label"] == "unsafe"})
    prompts += sorted({str(row["prompt"]) for row in read_records(train / "jailbreakbench.jsonl")})
    prompts += [str(row["prompt"]) for row in read_records(train / "advbench_behaviors.jsonl")]
    for prompt in prompts:
        yield Draft(prompt, rng.choice(COMPLIANCE), 0.0, "harmful")
        yield Draft(prompt, rng.choice(REFUSALS), 1.0, "harmful")


def _first_turns(data_dir: Path, rng: random.Random, count: int = 500) -> Iterator[Draft]:
    """Opening turns written by red teamers: mostly, not always, harmful; hence the soft label."""
    for prompt in rng.sample(first_turns(data_dir / "train" / "hh_harmless_pairs.jsonl"), count):
        yield Draft(prompt, rng.choice(COMPLIANCE), 0.25, "red-team")
        yield Draft(prompt, rng.choice(REFUSALS), 1.0, "red-team")


def believable(draft: Draft) -> bool:
    """Whether the answer kept to what its opening began."""
    continuation = draft.response[len(draft.opening) :]
    if draft.opening in REFUSALS:
        return _GAVE_IN.search(continuation) is None
    return draft.safe == 1.0 or _TURNED_DOWN.search(continuation) is None


def write_contrast(
    data_dir: Path, chat_model: Path, destination: Path, *, seed: int = 0, batch: int = 64
) -> int:
    """Let a chat model answer both ways, and write what is believable as JSON Lines.

    Args:
        data_dir: data folder, for its training prompts.
        chat_model: folder of the model.
        destination: file to be written.
        seed: of prompts, openings and sampling.
        batch: answers written at the same time.

    Returns:
        Rows written.
    """
    torch.manual_seed(seed)
    tokenizer: Any = AutoTokenizer.from_pretrained(chat_model, padding_side="left", trust_remote_code=False)
    model: Any = AutoModelForCausalLM.from_pretrained(
        chat_model, dtype=torch.bfloat16, trust_remote_code=False
    )
    plan, kept = drafts(data_dir, seed), 0
    with destination.open("w", encoding="utf-8") as out:
        for start in range(0, len(plan), batch):
            done = _answer(model, tokenizer, plan[start : start + batch])
            rows = [asdict(draft) for draft in done if believable(draft)]
            out.writelines(json.dumps(row) + "\n" for row in rows)
            out.flush()
            kept += len(rows)
    return kept


def _answer(model: Any, tokenizer: Any, plan: Sequence[Draft], tokens: int = 40) -> list[Draft]:
    chats = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": draft.prompt}], tokenize=False, add_generation_prompt=True
        )
        + draft.opening
        for draft in plan
    ]
    # The template writes the beginning of text itself.
    batch = tokenizer(chats, return_tensors="pt", padding=True, add_special_tokens=False)
    ids = model.generate(
        **batch,
        max_new_tokens=tokens,
        do_sample=True,
        temperature=0.8,
        top_p=0.95,
        repetition_penalty=1.1,
    )
    texts = tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return [replace(draft, response=draft.opening + text) for draft, text in zip(plan, texts, strict=True)]
