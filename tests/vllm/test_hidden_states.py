"""Hidden states from a real vLLM: a probe reads those of the very passes in which candidates are drawn."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any
from unittest.mock import patch

import pytest
import torch
from transformers import AutoModelForCausalLM

from stars_guard import embedded
from stars_guard.algorithm import replay
from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import GuardConfig
from stars_guard.algorithm.rules import Constant, Hard, Last
from stars_guard.algorithm.segments import FixedLength
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading.engine_servers import load_engine_server
from stars_guard.loading.parts import load_parts
from stars_guard.models.base import LanguageModel, Order
from stars_guard.models.engines.observable import ObservableServer, ObservableVLLM, extracting
from stars_guard.models.engines.written_states import WrittenStates
from stars_guard.models.observing import at_prompt, extended
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.rewards.classifiers.probe import ProbeReward
from stars_guard.types import Candidate, HiddenStates
from tests.vllm.conftest import FOLDER
from tests.vllm.guarding import CANDIDATES, LONG, QUESTION, SAMPLING, decisions, read_again, wait_for
from tests.vllm.server import ARGUMENTS, BLOCK, VLLMServer, engine_environment, running

pytestmark = pytest.mark.filterwarnings("ignore")  # vLLM's own

CONNECTOR = {
    "kv_connector": "CPUHiddenStatesConnector",
    "kv_connector_module_path": "tests.vllm.cpu_states",
    "kv_role": "kv_producer",
}
LAYERS = (15, 18, 22)
"""What the embedded model's probe reads."""
TOLERANCE = 1e-4
"""Of states in float32, relative to their lengths; about 3e-6 was seen."""


@pytest.fixture(scope="module")
def probe() -> ProbeReward:
    return ProbeReward.load(embedded.PROBE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("states")


@pytest.fixture(scope="module")
def writing(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VLLMServer]:
    assert FOLDER is not None
    place = {"kv_connector_extra_config": {"shared_storage_path": str(folder)}}
    flags = ["--speculative-config", json.dumps(extracting((0, *LAYERS))["speculative_config"])]
    flags += ["--kv-transfer-config", json.dumps({**CONNECTOR, **place})]
    with running(FOLDER, tmp_path_factory.mktemp("vllm") / "writing.log", *flags) as server:
        yield server


@pytest.fixture(scope="module")
def model(writing: VLLMServer, folder: Path) -> Iterator[ObservableServer]:
    states = WrittenStates(folder=folder, layers=(0, *LAYERS))
    with load_engine_server(f"vllm@{writing.url}", tokenizer=FOLDER, states=states) as model:
        assert isinstance(model, ObservableServer)
        yield model


@pytest.fixture(scope="module")
def expected(model: ObservableServer) -> Callable[[list[int], list[int]], HiddenStates]:
    """The states that transformers gives."""
    there = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()

    @torch.inference_mode()
    def states(prompt: list[int], response: list[int]) -> HiddenStates:
        output = there.base_model(torch.tensor([[*prompt, *response]]), output_hidden_states=True)
        read = torch.stack([output.hidden_states[layer][0] for layer in LAYERS])
        begin = at_prompt(model.identity, LAYERS, read[:, : len(prompt)])
        return extended(begin, read[:, len(prompt) :]) if response else begin

    return states


def guarded(model: LanguageModel, probe: ProbeReward, target: float, **changes: Any) -> StarsGuardedLLM:
    """Rewards of candidates differ, so a target in their middle rejects some."""
    parts: dict[str, Any] = {
        "threshold": Constant(target=target),
        "acceptance": Hard(),
        "segments": FixedLength(max_tokens=8),
        "drawing": Fixed(candidates=CANDIDATES),
        "max_attempts": 2 * CANDIDATES,
        "exhaustion": Last(),
        **changes,
    }
    return StarsGuardedLLM(model, probe, GuardConfig(**parts))


@pytest.fixture(scope="module")
def target(model: ObservableServer, probe: ProbeReward) -> float:
    """The middle of the rewards of eight beginnings."""
    result = guarded(model, probe, 99.0).generate(QUESTION, sampling=SAMPLING.changed(max_tokens=8))
    return median(attempt.reward for segment in result.trace.segments for attempt in segment.attempts)


@contextmanager
def waiting() -> Iterator[None]:
    """Nothing is drawn ahead."""
    with patch.object(ObservableServer, "has_room", False):
        yield


def far(one: HiddenStates, other: HiddenStates) -> float:
    """The largest relative distance of two states."""
    pairs = [(one.prompt, other.prompt), (one.mean, other.mean), (one.last, other.last)]
    return max(float(((a - b).norm(dim=-1) / b.norm(dim=-1)).max()) for a, b in pairs)


def test_the_model_is_known_by_its_embedding(model: ObservableServer, probe: ProbeReward) -> None:
    there = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32)
    weights = there.get_input_embeddings().weight
    assert model.identity.layers == 30
    assert model.identity.signature == pytest.approx(weights[:: len(weights) // 8, 0].tolist())
    assert probe.observes(model.identity)


def test_states_are_those_of_transformers(
    model: ObservableServer, expected: Callable[..., HiddenStates], probe: ProbeReward, target: float
) -> None:
    session = model.observe(Prompt.of(QUESTION), SAMPLING, LAYERS)
    assert session.hidden is not None
    assert far(session.hidden, expected(session.opening, [])) < TOLERANCE
    order = Order(session, 0, 0, 2, FixedLength(max_tokens=8), False, lambda: True)
    (proposal,) = model.propose([order])
    for candidate in proposal.candidates:
        states = expected(session.opening, list(candidate.token_ids))
        assert far(candidate.hidden, states) < TOLERANCE
        texts = (replace(candidate, hidden=candidate.hidden), replace(candidate, hidden=states))
        there, here = probe.score([asked(each) for each in texts])
        assert there.value == pytest.approx(here.value, abs=1e-3)
    result = guarded(model, probe, target).generate(QUESTION, sampling=SAMPLING)
    ((read,),) = model.read_states([(Prompt.of(QUESTION), result.text)], LAYERS)
    assert far(read, expected(session.opening, model.tokenizer(result.text)["input_ids"])) < TOLERANCE


def asked(candidate: Candidate) -> ScoreRequest:
    return ScoreRequest(Prompt.of(QUESTION), candidate.text, False, hidden=candidate.hidden)


def test_a_guarded_answer_replays_and_repeats(
    model: ObservableServer, probe: ProbeReward, target: float
) -> None:
    llm = guarded(model, probe, target)
    first = llm.generate(QUESTION, sampling=SAMPLING)
    replay.verify(first.trace)
    with waiting():
        again = llm.generate(QUESTION, sampling=SAMPLING)
    assert (again.token_ids, decisions(again)) == (first.token_ids, decisions(first))
    assert {accepted for segment in decisions(first) for _, accepted in segment} == {True, False}


def test_drafting_leaves_likely_tokens_likely(model: ObservableServer) -> None:
    """Handing out states is a kind of drafting, which draws by a way of its own."""
    there = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()
    session = model.observe(Prompt.of(QUESTION), SAMPLING, LAYERS)
    order = Order(session, 0, 0, 8, FixedLength(max_tokens=12), False, lambda: True)
    (proposal,) = model.propose([order])
    surprises, entropies = [], []
    for candidate in proposal.candidates:
        ids = torch.tensor([[*session.opening, *candidate.token_ids]])
        with torch.inference_mode():
            logs = torch.log_softmax(there(ids).logits[0, len(session.opening) - 1 : -1], -1)
        surprises += (-logs.gather(1, ids[0, len(session.opening) :, None]))[:, 0].tolist()
        entropies += (-(logs.exp() * logs).sum(-1)).tolist()
    # 1.8 and 3.1 nats at the usual temperature under 1; any tokens at all have over 10.
    assert mean(surprises) < mean(entropies)


def test_the_probe_costs_no_pass_of_its_own(
    writing: VLLMServer, model: ObservableServer, probe: ProbeReward, target: float, folder: Path
) -> None:
    def counted() -> list[float]:
        names = ("prefix_cache_queries", "prefix_cache_hits", "generation_tokens")
        return [writing.metric(f"vllm:{name}_total") for name in names]

    before = counted()
    with waiting():
        result = guarded(model, probe, target).generate(LONG, sampling=SAMPLING)
    lengths = [result.usage.prompt_tokens, *read_again(result)]
    drawn = 1 + sum(segment.drawn * (8 + 1) for segment in result.trace.segments)
    wait_for(lambda: counted()[2] == before[2] + drawn)
    asked, hits = (now - then for now, then in zip(counted()[:2], before[:2], strict=True))
    # The prompt is read once; each candidate reads again what fills no block, and what it draws.
    assert asked == sum(lengths)
    assert asked - hits <= lengths[0] + sum((length - 1) % BLOCK + 1 for length in lengths[1:])
    assert list(folder.iterdir()) == []


def test_in_this_process(model: ObservableServer, probe: ProbeReward, target: float) -> None:
    pytest.importorskip("vllm")
    options = {**ARGUMENTS, "kv_transfer_config": CONNECTOR}
    with patch.dict(os.environ, engine_environment()):
        here, _ = load_parts(f"vllm:{FOLDER}", probe, model_options=options)
    assert isinstance(here, ObservableVLLM)
    with here:
        assert here.handed_out == (0, *LAYERS)
        assert here.identity.signature == model.identity.signature
        results = [
            guarded(each, probe, target).generate(QUESTION, sampling=SAMPLING) for each in (here, model)
        ]
        replay.verify(results[0].trace)
        assert results[0].token_ids == results[1].token_ids
        assert decisions(results[0])[0] == pytest.approx(decisions(results[1])[0], abs=1e-3)
        folder = here._files._written.folder
    assert not folder.exists()
