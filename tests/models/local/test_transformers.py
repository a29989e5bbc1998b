"""The local language model: what it costs, how it is loaded, and where an answer may be cut."""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import BitsAndBytesConfig, T5Config, T5ForConditionalGeneration

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import Budget, GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Best, Constant, Hard, Last
from stars_guard.algorithm.segments import Boundary, EntropyCut, FixedLength
from stars_guard.errors import ConfigurationError, GenerationError, PromptError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.models.base import Order
from stars_guard.models.local.int8 import Int8Linear, int8_linears, is_available
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.prompts import Prompt
from stars_guard.rewards.function import FunctionReward
from stars_guard.types import Finish, StopReason
from tests.support.tiny import EOS, tiny_llama, tiny_mistral_sliding, tiny_qwen_hybrid, tiny_tokenizer

pytestmark = pytest.mark.slow

needs_int8 = pytest.mark.skipif(not is_available(), reason="this torch has no int8 kernels for this machine")

ALWAYS = GuardConfig(
    threshold=Constant(target=0.0), segments=FixedLength(max_tokens=8), drawing=Fixed(candidates=2)
)
NEVER = ALWAYS.model_copy(
    update={
        "threshold": Constant(target=2.0),
        "acceptance": Hard(),
        "exhaustion": Last(),
        "floor": 0,
        "max_attempts": 20,
    }
)


def model(**overrides: object) -> TransformersModel:
    return TransformersModel(tiny_llama(**overrides), tiny_tokenizer())


def endless() -> TransformersModel:
    """A model whose answers only end at the limit."""
    local = model()
    local.eos_ids = frozenset()
    return local


def guard(model: TransformersModel, config: GuardConfig = ALWAYS) -> StarsGuardedLLM:
    return StarsGuardedLLM(model, FunctionReward(lambda prompt, text: 1.0), config)


def order(session, segment=0, first=0, candidates=1, cut=None, ends=False, alive=lambda: True) -> Order:
    return Order(session, segment, first, candidates, cut or FixedLength(max_tokens=8), ends, alive)


# --- what it costs -------------------------------------------------------------------------------------


def test_an_answer_without_rejections_takes_one_pass_per_token_prefill_included() -> None:
    local = model()
    result = guard(local).generate("Hi", sampling=SamplingParams(max_tokens=32, temperature=0))
    assert len(result.token_ids) == 32
    assert local.prefills == 1
    assert local.forward_passes == result.usage.forward_passes == 32


def test_a_rejected_round_costs_only_its_own_steps() -> None:
    local = endless()
    config = NEVER.model_copy(update={"drawing": Fixed(candidates=5)})
    result = guard(local, config).generate("Hi", sampling=SamplingParams(max_tokens=16, seed=1))
    rounds = 20 // 5
    # Per round 7 steps after the first token, whose logits are known; between segments one to catch up.
    assert local.forward_passes == 1 + rounds * 7 + 1 + rounds * 7
    assert local.prefills == 1
    assert result.usage.proposed_tokens == 2 * 20 * 8


def test_a_batch_shares_its_passes() -> None:
    local = model()
    sampling = [SamplingParams(max_tokens=24, temperature=0)] * 4
    session_passes = [r.usage.forward_passes for r in guard(local).batch(["Hi"] * 4, sampling=sampling)]
    assert session_passes == [24] * 4
    # Requests may join one segment late, so a little more than one request alone, far less than four.
    assert local.forward_passes < 2 * 24 + 4


@pytest.mark.slow
@pytest.mark.parametrize("build", [tiny_llama, tiny_mistral_sliding, tiny_qwen_hybrid])
def test_sixty_rejections_leave_nothing_behind(build) -> None:
    local = TransformersModel(build(), tiny_tokenizer())
    session = local.start(Prompt.of("Hi there"), SamplingParams(max_tokens=64, seed=1))
    before, tensors = cache_bytes(session), settled(local, session)
    for attempt in range(10, 70):
        local.propose([order(session, first=attempt)])
    assert cache_bytes(session) == before
    assert live_tensors() - tensors < 10


def settled(local: TransformersModel, session) -> int:
    """Tensors that are alive once what a first round builds is there."""
    for attempt in range(10):
        local.propose([order(session, first=attempt)])
    return live_tensors()


def live_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects())


def cache_bytes(session) -> int:
    states = [getattr(layer, "keys", None) for layer in session.cache.layers]
    return sum(one.numel() for one in states if one is not None)


def test_memory_comes_back_when_an_answer_is_over() -> None:
    local = model()
    session = local.start(Prompt.of("Hi"), SamplingParams(max_tokens=8, seed=1))
    keys = weakref.ref(session.cache.layers[0].keys)
    session.close()
    session.close()
    gc.collect()
    assert keys() is None


def test_cancelling_stops_within_one_token_step() -> None:
    local = model()
    session = local.start(Prompt.of("Hi"), SamplingParams(max_tokens=64, seed=1))
    passes = local.forward_passes
    alive = iter([True, True, True, False])
    proposal = local.propose([order(session, cut=FixedLength(max_tokens=64), alive=lambda: next(alive))])[0]
    assert proposal.candidates == ()
    assert proposal.tokens == 3
    assert local.forward_passes == passes + 3


def test_a_cancelled_order_leaves_the_others_alone() -> None:
    local = model()
    sampling = SamplingParams(max_tokens=64, seed=1)
    one, two = (local.start(Prompt.of(text), sampling) for text in ("Hi", "Hello there"))
    alive = iter([True, False, False, False, False, False, False, False])
    gone, kept = local.propose(
        [order(one, candidates=2, alive=lambda: next(alive)), order(two, candidates=2)]
    )
    assert gone.candidates == ()
    alone = local.propose([order(two, candidates=2)])[0]
    assert [c.token_ids for c in kept.candidates] == [c.token_ids for c in alone.candidates]


def test_closing_a_stream_stops_the_model() -> None:
    local = model(max_position_embeddings=8192)
    stream = guard(local).stream("Hi", sampling=SamplingParams(max_tokens=8000, seed=3))
    next(stream)
    stream.close()
    for _ in stream:
        pass
    assert stream.result.stop_reason is StopReason.CANCELLED
    assert local.forward_passes < 4000


def test_time_runs_out_inside_a_segment() -> None:
    local = model()
    config = ALWAYS.model_copy(update={"segments": FixedLength(max_tokens=400)})
    result = guard(local, config).generate(
        "Hi", sampling=SamplingParams(max_tokens=400, seed=1), budget=Budget(max_seconds=0.05)
    )
    assert result.stop_reason is StopReason.DEADLINE
    assert result.text == ""


# --- where an answer ends -------------------------------------------------------------------------------


def test_an_end_of_sequence_token_ends_the_answer_as_finished() -> None:
    local = model()
    local.eos_ids = frozenset(range(0, 384, 3))
    result = guard(local).generate("Hi", sampling=SamplingParams(max_tokens=200, seed=1))
    assert result.stop_reason is StopReason.EOS
    assert result.token_ids[-1] % 3 == 0
    assert all(one % 3 for one in result.token_ids[:-1])


def test_stop_token_ids_end_the_answer() -> None:
    sampling = SamplingParams(max_tokens=200, seed=1, stop_token_ids=tuple(range(0, 384, 5)))
    result = guard(model()).generate("Hi", sampling=sampling)
    assert result.token_ids[-1] % 5 == 0


def test_the_last_segment_fits_the_room_and_is_open_ended() -> None:
    result = guard(model()).generate("Hi", sampling=SamplingParams(max_tokens=19, temperature=0))
    assert [a.tokens for s in result.trace.segments for a in s.attempts if a.accepted] == [8, 8, 3]
    assert result.stop_reason is StopReason.LENGTH


@pytest.mark.parametrize("segment_tokens", [1, 2, 3, 7, 32])
def test_stop_strings_work_across_segment_borders(segment_tokens: int) -> None:
    local = model()
    plain = guard(local).generate("Hi", sampling=SamplingParams(max_tokens=60, seed=2))
    stop = plain.text[20:23]
    config = ALWAYS.model_copy(update={"segments": FixedLength(max_tokens=segment_tokens)})
    pieces = []
    stream = guard(local, config).stream("Hi", sampling=SamplingParams(max_tokens=60, temperature=0))
    free = "".join(stream)
    stop = free[20:23]
    stream = guard(local, config).stream(
        "Hi", sampling=SamplingParams(max_tokens=60, temperature=0, stop=stop)
    )
    pieces = list(stream)
    assert "".join(pieces) == stream.result.text == free[: free.index(stop)]
    assert stream.result.stop_reason is StopReason.STOP


@pytest.mark.parametrize("segment_tokens", [1, 2, 3, 5])
def test_multi_byte_characters_are_never_shown_in_half(segment_tokens: int) -> None:
    config = ALWAYS.model_copy(update={"segments": FixedLength(max_tokens=segment_tokens)})
    local = model()
    ids = local.tokenizer("日本語 🐕🦺 naïve café ☕ done", add_special_tokens=False)["input_ids"]
    follow_script(local, ids)
    stream = guard(local, config).stream("Hi", sampling=SamplingParams(max_tokens=len(ids), temperature=0))
    pieces = list(stream)
    assert "".join(pieces) == stream.result.text == "日本語 🐕🦺 naïve café ☕ done"
    assert not any("\ufffd" in piece for piece in pieces)


def follow_script(local: TransformersModel, ids: list[int], prompt: Prompt | None = None) -> None:
    """Make the model continue the prompt with exactly ``ids``, whatever its weights say."""
    begin = len(local.encode(prompt or Prompt.of("Hi")))
    forward = local.passes.forward

    def scripted(tokens, cache, **arguments):
        logits, states = forward(tokens, cache, **arguments)
        logits = torch.zeros_like(logits)
        logits[:, ids[min(cache.get_seq_length() - begin, len(ids) - 1)]] = 10
        return logits, states

    local.passes.forward = scripted


def test_an_unfinished_character_at_the_end_is_left_out() -> None:
    local = model()
    ids = local.tokenizer("ok 🐕", add_special_tokens=False)["input_ids"]
    follow_script(local, ids)
    result = guard(local).generate("Hi", sampling=SamplingParams(max_tokens=len(ids) - 1, temperature=0))
    assert result.text == "ok "


def test_entropy_cuts_before_an_uncertain_token() -> None:
    local = model()
    session = local.start(Prompt.of("Hi"), SamplingParams(max_tokens=64, seed=1))
    cut = EntropyCut(threshold=0.0, min_tokens=3, max_tokens=9)
    candidate = local.propose([order(session, cut=cut)])[0].candidates[0]
    assert len(candidate.token_ids) == 3
    session.accept(candidate)
    passes = local.forward_passes
    local.propose([order(session, segment=1, cut=cut)])
    # Its last token was fed to know the entropy, so there is nothing to catch up on.
    assert local.forward_passes == passes + 3


def test_boundaries_cut_after_a_complete_unit() -> None:
    local = model()
    ids = local.tokenizer("Safe answers are kind. The fox.", add_special_tokens=False)["input_ids"]
    follow_script(local, ids)
    config = ALWAYS.model_copy(update={"segments": Boundary(min_tokens=2, max_tokens=64)})
    pieces = list(
        guard(local, config).stream("Hi", sampling=SamplingParams(max_tokens=len(ids), temperature=0))
    )
    assert pieces == ["Safe answers are kind.", " The fox."]


def test_the_best_of_an_earlier_round_can_still_be_forced() -> None:
    local = endless()
    config = NEVER.model_copy(update={"exhaustion": Best(floor=-9), "drawing": Fixed(candidates=3)})
    rewards = iter([0.1, 0.9, 0.2, *[0.0] * 100])
    llm = StarsGuardedLLM(local, FunctionReward(lambda prompt, text: next(rewards)), config)
    result = llm.generate("Hi", sampling=SamplingParams(max_tokens=16, seed=4))
    assert result.trace.segments[0].chosen == 1
    assert result.forced == 2
    session = local.start(Prompt.of("Hi"), SamplingParams(max_tokens=16, seed=4))
    drawn = local.propose([order(session, candidates=3)])[0].candidates
    assert tuple(result.token_ids[:8]) == drawn[1].token_ids


# --- prompts and loading --------------------------------------------------------------------------------


def test_a_chat_prompt_has_one_beginning_of_sequence() -> None:
    local = model()
    ids = local.encode(
        Prompt.of([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}])
    )
    assert ids.count(local.tokenizer.bos_token_id) == 1
    assert local.tokenizer.decode(ids).endswith("<|im_start|>assistant\n")


def test_raw_prompts_skip_the_template() -> None:
    local = model()
    assert local.tokenizer.decode(local.encode(Prompt.raw("Once")), skip_special_tokens=True) == "Once"
    raw = TransformersModel(local.model, local.tokenizer, prompt_format="raw")
    assert raw.encode(Prompt.of("Once")) == local.encode(Prompt.raw("Once"))


def test_a_raw_answer_keeps_its_leading_space() -> None:
    local = model()
    ids = local.tokenizer(" upon a time", add_special_tokens=False)["input_ids"]
    follow_script(local, ids, Prompt.raw("Once"))
    result = guard(local).generate(
        Prompt.raw("Once"), sampling=SamplingParams(max_tokens=len(ids), temperature=0)
    )
    assert result.text == " upon a time"


def test_prompts_that_do_not_fit_are_refused_at_once() -> None:
    local = model(max_position_embeddings=64)
    with pytest.raises(PromptError, match="exceed the 64 positions"):
        guard(local).generate("word " * 60, sampling=SamplingParams(max_tokens=8))


def test_a_prompt_without_tokens_is_refused() -> None:
    local = model()
    local.tokenizer = lambda *args, **kwargs: {"input_ids": []}
    with pytest.raises(PromptError, match="no tokens"):
        local.start(Prompt.raw("x"), SamplingParams(seed=1))


def test_a_template_that_refuses_is_a_prompt_error() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('only one turn') }}"
    local = TransformersModel(tiny_llama(), tokenizer)
    with pytest.raises(PromptError, match="only one turn"):
        guard(local).generate("Hi")


def test_loading_from_a_folder(tmp_path: Path) -> None:
    save(tmp_path)
    local = TransformersModel.load(str(tmp_path), dtype=torch.float32, device="cpu")
    assert local.name == tmp_path.name
    expected = guard(model()).generate("Hi", sampling=SamplingParams(max_tokens=12, seed=1))
    assert guard(local).generate("Hi", sampling=SamplingParams(max_tokens=12, seed=1)).text == expected.text


def test_a_quantisation_config_is_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path)
    given: dict = {}
    loaded = tiny_llama()
    monkeypatch.setattr(
        "stars_guard.models.local.transformers.AutoModelForCausalLM.from_pretrained",
        lambda path, **options: given.update(options) or loaded,
    )
    settings = BitsAndBytesConfig(load_in_8bit=True)
    assert TransformersModel.load(str(tmp_path), quantization_config=settings).model is loaded
    assert given["quantization_config"] is settings


def test_a_missing_quantisation_package_is_a_configuration_error(tmp_path: Path) -> None:
    save(tmp_path)
    with pytest.raises(ConfigurationError, match="bitsandbytes"):
        TransformersModel.load(str(tmp_path), quantization_config=BitsAndBytesConfig(load_in_8bit=True))


def save(folder: Path) -> None:
    tiny_llama().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)


def test_a_missing_folder_is_one_clear_line() -> None:
    with pytest.raises(ConfigurationError, match="cannot load a language model from '/nowhere/at/all'"):
        TransformersModel.load("/nowhere/at/all")


def test_a_device_map_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path)
    monkeypatch.setattr(torch.nn.Module, "to", lambda *args, **kwargs: pytest.fail("moved a placed model"))
    assert TransformersModel.load(str(tmp_path), device_map={"": "cpu"}).model.device.type == "cpu"


def test_an_accelerator_is_used_when_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    from stars_guard.models.local import transformers as backend

    monkeypatch.setattr(
        torch.accelerator, "current_accelerator", lambda check_available: torch.device("cuda")
    )
    assert backend._best_device() == "cuda"


def test_models_that_cannot_keep_only_the_last_logits_work_too() -> None:
    local = model()
    call = local.passes.sharing.call
    fewer = replace(call, accepted=call.accepted - {"logits_to_keep"})
    local.passes.sharing = replace(local.passes.sharing, call=fewer)
    sampling = SamplingParams(max_tokens=12, seed=1)
    expected = guard(model()).generate("Hi", sampling=sampling)
    assert guard(local).generate("Hi", sampling=sampling).token_ids == expected.token_ids


def test_a_repetition_penalty_reaches_prompt_and_answer() -> None:
    plain = guard(endless()).generate("Hi", sampling=SamplingParams(max_tokens=40, temperature=0))
    varied = SamplingParams(max_tokens=40, temperature=0, repetition_penalty=50.0)
    local = endless()
    result = guard(local).generate("Hi", sampling=varied)
    assert result.token_ids != plain.token_ids
    assert len(set(result.token_ids)) == 40
    assert not set(result.token_ids) & set(local.encode(Prompt.of("Hi")))


def test_encoder_decoders_are_refused() -> None:
    config = T5Config(
        vocab_size=384, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    with pytest.raises(ConfigurationError, match="encoder-decoder"):
        TransformersModel(T5ForConditionalGeneration(config), tiny_tokenizer())


def test_chat_without_a_template_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="chat template"):
        TransformersModel(tiny_llama(), tiny_tokenizer(chat_template=False), prompt_format="chat")


def test_a_base_model_without_a_template_is_fed_raw_text() -> None:
    local = TransformersModel(tiny_llama(), tiny_tokenizer(chat_template=False, eos=EOS))
    assert local.encode(Prompt.of("Hi")) == local.encode(Prompt.raw("Hi"))


def test_sessions_of_other_models_are_refused() -> None:
    with pytest.raises(TypeError, match="another model"):
        model().propose([order(object())])


def test_logits_are_asked_for_only_when_known() -> None:
    session = model().start(Prompt.of("Hi"), SamplingParams(seed=1))
    session.logits = None
    with pytest.raises(RuntimeError, match="not fed"):
        _ = session.known_logits


def test_a_failing_model_is_a_generation_error() -> None:
    local = model()
    local.passes.forward = lambda *args, **kwargs: 1 / 0
    with pytest.raises(GenerationError, match="ZeroDivisionError"):
        guard(local).generate("Hi")


def test_many_threads_share_one_model() -> None:
    llm = guard(model())
    sampling = [SamplingParams(max_tokens=16, seed=seed) for seed in range(8)]
    expected = [llm.generate("Hi", sampling=one).text for one in sampling]
    found: dict[int, str] = {}

    def work(index: int) -> None:
        found[index] = llm.generate("Hi", sampling=sampling[index]).text

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[index] for index in range(8)] == expected


# --- lower precision ------------------------------------------------------------------------------------


def test_bfloat16_answers_replay_even_where_a_batch_would_draw_other_tokens() -> None:
    local = TransformersModel(tiny_llama().to(torch.bfloat16), tiny_tokenizer())
    llm = StarsGuardedLLM(
        local,
        FunctionReward(lambda prompt, text: len(text) % 5 - 2),
        ALWAYS.model_copy(update={"threshold": Constant(target=1.0)}),
    )
    from stars_guard.algorithm.replay import replay

    sampling = [SamplingParams(max_tokens=32, seed=seed) for seed in range(4)]
    for result in llm.batch(["Hi", "Hello there", "A", "Good morning to you"], sampling=sampling):
        assert replay(result.trace) == []
        assert result.usage.kept_tokens == len(result.token_ids)


@needs_int8
def test_int8_linears_are_close_and_do_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    plain = torch.nn.Linear(64, 48)
    fast = Int8Linear(plain)
    inputs = torch.randn(5, 3, 64) * torch.tensor([0.01, 1, 100, 3, 0.5]).view(5, 1, 1)
    outputs = fast(inputs)
    error = (outputs - plain(inputs)).abs().amax(dim=(1, 2)) / plain(inputs).abs().amax(dim=(1, 2))
    assert error.max() < 0.03
    for row in range(5):
        assert torch.equal(fast(inputs[row : row + 1]), outputs[row : row + 1])


@needs_int8
def test_int8_models_give_the_same_answer_for_any_number_of_candidates() -> None:
    local = TransformersModel(int8_linears(tiny_llama()), tiny_tokenizer())
    assert any(isinstance(module, Int8Linear) for module in local.model.modules())
    session = local.start(Prompt.of("Hi"), SamplingParams(max_tokens=64, seed=1))
    drawn = [local.propose([order(session, candidates=n)])[0].candidates[0].token_ids for n in (1, 2, 8)]
    assert drawn[0] == drawn[1] == drawn[2]


def test_int8_is_for_cpus() -> None:
    with pytest.raises(ConfigurationError, match="meta"):
        int8_linears(torch.nn.Linear(2, 2, device="meta"))


def test_int8_without_kernels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stars_guard.models.local.int8.is_available", lambda: False)
    with pytest.raises(ConfigurationError, match="no int8 kernels"):
        int8_linears(torch.nn.Linear(2, 2))


@needs_int8
def test_an_int8_layer_without_bias() -> None:
    plain = torch.nn.Linear(8, 4, bias=False)
    assert torch.allclose(Int8Linear(plain)(torch.ones(1, 8)), plain(torch.ones(1, 8)), atol=0.02)


def test_a_candidate_that_ended_needs_no_cache() -> None:
    local = model()
    session = local.start(Prompt.of("Hi"), SamplingParams(max_tokens=8, seed=1))
    candidate = local.propose([order(session, ends=True)])[0].candidates[0]
    assert candidate.finish is Finish.LENGTH
    assert candidate.state is None
    session.hold(candidate)
    session.accept(candidate)
