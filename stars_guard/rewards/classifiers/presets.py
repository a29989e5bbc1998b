"""Popular public classifiers, by name: which labels are good, and how each is read. Data only.

The facts were written down from what ``checked`` says; the tests give tiny models these labels and never run
the real weights. Measure a reward on text of your own before you rely on it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from stars_guard.errors import ConfigurationError
from stars_guard.rewards.classifiers.preset import SCALAR, ClassifierPreset
from stars_guard.settings_file import parsed_json

_CONFIG = "labels as in the model's config"

_JIGSAW = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
_CIVIL = ("toxicity", "severe_toxicity", "obscene", "identity_attack", "insult", "threat", "sexual_explicit")
_FAITHS = ("christian", "jewish", "muslim")
_GROUPS = ("male", "female", "homosexual_gay_or_lesbian", *_FAITHS, "black", "white")
_IDENTITIES = (*_GROUPS, "psychiatric_or_mental_illness")

_PREFERENCE = partial(
    ClassifierPreset, kind="reward", scale="logit", meaning="people would prefer this answer"
)
# Weights of safe-rlhf: a Llama with a bias-free linear head of another name, and a config without labels.
_BEAVER = partial(
    ClassifierPreset,
    format="beaver",
    scale="logit",
    loading={"num_labels": 1, "key_mapping": {r"^score_head\.": "score."}},
    licence="non-commercial (from memory)",
)
_ANSWER_ALONE = partial(ClassifierPreset, format="response_only")
_HARMLESS = partial(_ANSWER_ALONE, kind="safety")
_NO_INJECTION = partial(_ANSWER_ALONE, kind="injection")
_PRAISE = partial(_ANSWER_ALONE, kind="sentiment")

CLASSIFIERS: Mapping[str, ClassifierPreset] = MappingProxyType(
    {
        "openassistant_deberta": _PREFERENCE(
            models=("OpenAssistant/reward-model-deberta-v3-large-v2",),
            format="pair",
            checked="question and answer as a pair: model card, from memory",
            licence="MIT (from memory)",
        ),
        "skywork_reward": _PREFERENCE(
            models=("Skywork/Skywork-Reward-Llama-3.1-8B-v0.2", "Skywork/Skywork-Reward-Llama-3.1-8B"),
            format="chat",
            checked="LlamaForSequenceClassification: hub listing; chat template: model card, from memory",
            licence="Skywork Community License",
        ),
        "skywork_reward_v2": _PREFERENCE(
            models=(
                "Skywork/Skywork-Reward-V2-Llama-3.1-8B",
                "Skywork/Skywork-Reward-V2-Llama-3.1-8B-40M",
                "Skywork/Skywork-Reward-V2-Llama-3.2-1B",
                "Skywork/Skywork-Reward-V2-Llama-3.2-3B",
                "Skywork/Skywork-Reward-V2-Qwen3-0.6B",
                "Skywork/Skywork-Reward-V2-Qwen3-1.7B",
                "Skywork/Skywork-Reward-V2-Qwen3-4B",
                "Skywork/Skywork-Reward-V2-Qwen3-8B",
            ),
            format="chat",
            checked="ids and Bradley-Terry training: model card; chat template: model card, from memory",
            licence="Apache 2.0 (Qwen3); Llama 3.1 or 3.2 (Llama, from memory)",
        ),
        "rm_mistral": _PREFERENCE(
            models=("weqweasdas/RM-Mistral-7B",),
            format="chat",
            checked=f"{_CONFIG}; chat template: model card, from memory",
        ),
        "beaver_reward": _BEAVER(
            kind="reward",
            models=("PKU-Alignment/beaver-7b-v1.0-reward",),
            meaning="people would find this answer more helpful; says little about harm",
            checked="one score without bias: config; prompt format and weight names: from memory",
        ),
        "beaver_cost": _BEAVER(
            kind="safety",
            models=("PKU-Alignment/beaver-7b-v1.0-cost",),
            bad=SCALAR,
            meaning="minus the cost: over 0 is harmless, under 0 harmful",
            checked="as for beaver_reward, whose config was read; this one's is from memory",
        ),
        "toxic_bert": _HARMLESS(
            models=("unitary/toxic-bert",),
            labels=_JIGSAW,
            bad=_JIGSAW,
            problem_type="multi_label_classification",
            meaning="the answer, read alone, is neither toxic, obscene, threatening nor insulting",
            checked=f"{_CONFIG} (copies that name it), multi-label",
            licence="Apache 2.0",
        ),
        "unbiased_toxic_roberta": _HARMLESS(
            models=("unitary/unbiased-toxic-roberta",),
            labels=(*_CIVIL, *_IDENTITIES),
            bad=_CIVIL,
            problem_type="multi_label_classification",
            meaning="the answer, read alone, is not toxic; which groups it names plays no part",
            checked=f"{_CONFIG} (copies that name it), multi-label",
            licence="Apache 2.0",
        ),
        "roberta_toxicity": _HARMLESS(
            models=("s-nlp/roberta_toxicity_classifier", "SkolkovoInstitute/roberta_toxicity_classifier"),
            labels=("neutral", "toxic"),
            bad=("toxic",),
            meaning="the answer, read alone, is not toxic",
            checked=_CONFIG,
        ),
        "dynabench_hate": _HARMLESS(
            models=("facebook/roberta-hate-speech-dynabench-r4-target",),
            labels=("nothate", "hate"),
            bad=("hate",),
            meaning="the answer, read alone, is no hate speech",
            checked=f"{_CONFIG} (a copy that names it)",
        ),
        "twitter_offensive": _HARMLESS(
            models=("cardiffnlp/twitter-roberta-base-offensive",),
            labels=("non-offensive", "offensive"),
            bad=("offensive",),
            meaning="the answer, read alone, is not offensive; trained on tweets",
            checked=_CONFIG,
        ),
        "twitter_hate": _HARMLESS(
            models=("cardiffnlp/twitter-roberta-base-hate",),
            labels=("non-hate", "hate"),
            bad=("hate",),
            meaning="the answer, read alone, is no hate speech; trained on tweets",
            checked="labels from memory",
        ),
        "text_moderation": _HARMLESS(
            models=("KoalaAI/Text-Moderation",),
            labels=("H", "H2", "HR", "OK", "S", "S3", "SH", "V", "V2"),
            good=("OK",),
            meaning="the answer, read alone, is in none of eight harmful categories",
            checked="labels and softmax: model card",
            licence="CodeML OpenRAIL-M 0.1",
        ),
        "prompt_guard": _NO_INJECTION(
            models=("meta-llama/Prompt-Guard-86M",),
            labels=("BENIGN", "INJECTION", "JAILBREAK"),
            bad=("JAILBREAK",),
            meaning="the text does not try to override a model; INJECTION, as most commands are, is no fault",
            checked=f"{_CONFIG} (a copy that names it); use of the labels: the model's discussion page",
            licence="Llama 3.1",
        ),
        "prompt_guard_2": _NO_INJECTION(
            models=("meta-llama/Llama-Prompt-Guard-2-86M", "meta-llama/Llama-Prompt-Guard-2-22M"),
            labels=("LABEL_0", "LABEL_1"),
            bad=("LABEL_1",),
            meaning="the text does not try to override a model",
            checked="two labels, the second malicious: model card; names from memory",
            licence="Llama 4",
        ),
        "protectai_injection": _NO_INJECTION(
            models=("protectai/deberta-v3-base-prompt-injection-v2",),
            labels=("SAFE", "INJECTION"),
            bad=("INJECTION",),
            meaning="the text has no instructions that were slipped in",
            checked=f"{_CONFIG} (a copy that names it)",
            licence="Apache 2.0",
        ),
        "imdb_sentiment": _PRAISE(
            models=("lvwerra/distilbert-imdb",),
            labels=("NEGATIVE", "POSITIVE"),
            good=("POSITIVE",),
            meaning="the answer, read alone, sounds like praise; trained on film reviews",
            checked=f"{_CONFIG} (a copy that names it)",
            licence="Apache 2.0",
        ),
        "sst2_sentiment": _PRAISE(
            models=(
                "distilbert/distilbert-base-uncased-finetuned-sst-2-english",
                "distilbert-base-uncased-finetuned-sst-2-english",
            ),
            labels=("NEGATIVE", "POSITIVE"),
            good=("POSITIVE",),
            meaning="the answer, read alone, sounds positive; trained on film reviews",
            checked=f"{_CONFIG} (copies that name it)",
            licence="Apache 2.0 (from memory)",
        ),
        "twitter_sentiment": _PRAISE(
            models=("cardiffnlp/twitter-roberta-base-sentiment-latest",),
            labels=("negative", "neutral", "positive"),
            good=("positive",),
            meaning="the answer, read alone, sounds positive, and not just neutral; trained on tweets",
            checked=f"{_CONFIG} (copies that name it)",
            licence="CC BY 4.0 (from memory)",
        ),
    }
)

UNSUPPORTED: Mapping[str, str] = MappingProxyType(
    {
        "RLHFlow/ArmoRM-Llama3-8B-v0.1": (
            "its reward is a gated mixture that its own code puts in the output 'score', not a label's logit"
        )
    }
)
"""Popular models that no preset can make a reward of, and why."""

_UNNAMED = {"0": "LABEL_0", "1": "LABEL_1"}  # what transformers makes of a config without labels

UNLISTED = ClassifierPreset(kind="reward", models=("",), format="auto", meaning="", checked="")
"""For a model that is not in the table."""


def find_preset(where: str, name: str | None = None) -> ClassifierPreset:
    """The preset of that name, or of the model at ``where``, or ``UNLISTED``.

    Args:
        where: a hub id, or a folder; of a folder, the id in its config counts if the labels are the same,
            too, since a model that was trained further keeps that id.
        name: a name in ``CLASSIFIERS``.

    Raises:
        ConfigurationError: unknown name, or a model that is known not to work.
    """
    if name is not None:
        return _named(name)
    if where in UNSUPPORTED:
        raise ConfigurationError(
            f"{where} cannot be used as a classifier: {UNSUPPORTED[where]}; wrap it in a RewardModel"
        )
    by_id = {model.lower(): preset for preset in CLASSIFIERS.values() for model in preset.models}
    if where.lower() in by_id:
        return by_id[where.lower()]
    config = _saved_config(where)
    preset = by_id.get(str(config.get("_name_or_path")).lower(), UNLISTED)
    labels = config.get("id2label") or _UNNAMED
    return preset if set(preset.labels) == set(labels.values()) else UNLISTED


def _named(name: str) -> ClassifierPreset:
    if name in CLASSIFIERS:
        return CLASSIFIERS[name]
    close = difflib.get_close_matches(name, CLASSIFIERS, n=3, cutoff=0.4) or list(CLASSIFIERS)
    raise ConfigurationError(f"unknown preset {name!r}; close to it: {', '.join(close)}")


def _saved_config(where: str) -> dict[str, Any]:
    """The config in a folder; empty if there is none. What is wrong with it is said when it is loaded."""
    try:
        config = parsed_json((Path(where).expanduser() / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}
