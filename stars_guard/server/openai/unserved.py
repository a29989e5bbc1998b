"""Fields that other servers know, that would change the answer, and that are not served: refused by name.

Everything else that a request holds is ignored, as other servers do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from stars_guard.server.openai.faults import bad_request

Neutral: TypeAlias = Mapping[str, tuple[Any, ...]]
"""Fields by name, and the values with which each asks for nothing."""

_TOLD: Neutral = {
    "logprobs": (None, False, 0),
    "top_logprobs": (None, 0),
    "prompt_logprobs": (None, 0),
    "n_probs": (None, 0),
    "echo": (None, False),
    "return_full_text": (None, False),
    "return_token_ids": (None, False),
    "return_tokens": (None, False),
    "return_hidden_states": (None, False),
    "details": (None, False),
    "decoder_input_details": (None, False),
    "include_reasoning": (None, True),
    "separate_reasoning": (None, True),
    "reasoning_format": (None, "auto", "deepseek"),
    "modalities": (None, ["text"]),
    "audio": (None,),
}
"""What a response is to hold beside the answer, or of it."""
_CONSTRAINED: Neutral = {
    "guided_json": (None,),
    "guided_regex": (None,),
    "guided_choice": (None,),
    "guided_grammar": (None,),
    "guided_json_object": (None, False),
    "guided_decoding_backend": (None,),
    "guided_whitespace_pattern": (None,),
    "structured_outputs": (None, {}),
    "structural_tag": (None,),
    "guided_decoding": (None, {}),
    "grammar_string": (None, ""),
    "regex_pattern": (None, ""),
    "output_format": (None,),
    "output_config": (None, {}),
    "banned_strings": (None, "", []),
    "banned_tokens": (None, "", []),
    "custom_token_bans": (None, "", []),
    "ban_eos_token": (None, False),
    "json_schema": (None,),
    "json_mode": (None, False),
    "format": (None, "", "text"),
    "grammar": (None, ""),
    "grammar_lazy": (None, False),
    "grammar_triggers": (None, []),
    "regex": (None, ""),
    "ebnf": (None, ""),
    "response_schema": (None,),
    "response_mime_type": (None, "text/plain"),
    "bad_words": (None, []),
    "bad_words_ids": (None, []),
    "force_words_ids": (None, []),
    "suppress_tokens": (None, []),
    "allowed_token_ids": (None, []),
    "logit_bias": (None, {}, []),
    "logits_processors": (None, []),
    "custom_logit_processor": (None,),
    "no_repeat_ngram_size": (None, 0),
}
"""What the answer must be, or must not hold."""
_LENGTH: Neutral = {
    "max_new_tokens": (None,),
    "max_length": (None,),
    "max_output_tokens": (None,),
    "maxOutputTokens": (None,),
    "max_tokens_to_sample": (None,),
    "num_predict": (None, -1),
    "n_predict": (None, -1),
    "min_tokens": (None, 0),
    "min_new_tokens": (None, 0),
    "min_length": (None, 0),
    "ignore_eos": (None, False),
    "length_penalty": (None, 1, 0),
    "thinking_budget": (None,),
    "thinking_token_budget": (None,),
    "t_max_predict_ms": (None, 0, -1),
    "n_indent": (None, 0),
    "stop_sequences": (None, []),
    "stop_strings": (None, []),
    "stop_sequence": (None, "", []),
    "stopping_strings": (None, []),
    "custom_stopping_strings": (None, "", []),
    "stop_regex": (None, "", []),
    "include_stop_str_in_output": (None, False),
    "no_stop_trim": (None, False),
}
"""How long it is, and where it ends."""
_DRAWN: Neutral = {
    "best_of": (None, 1),
    "num_return_sequences": (None, 1),
    "n_cmpl": (None, 1),
    "num_beams": (None, 1),
    "use_beam_search": (None, False),
    "early_stopping": (None, False),
    "do_sample": (None, True),
    "random_seed": (None,),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "repeat_penalty": (None, 1),
    "dry_multiplier": (None, 0),
    "xtc_probability": (None, 0),
    "mirostat": (None, 0),
    "mirostat_mode": (None, 0),
    "typical_p": (None, 1),
    "typ_p": (None, 1),
    "tfs_z": (None, 1),
    "tfs": (None, 1),
    "top_a": (None, 0),
    "top_n_sigma": (None, -1, 0),
    "epsilon_cutoff": (None, 0),
    "eta_cutoff": (None, 0),
    "penalty_alpha": (None, 0),
    "dynatemp_range": (None, 0),
    "smoothing_factor": (None, 0),
    "guidance_scale": (None, 1),
    "cfg_scale": (None, 1),
    "rep_pen": (None, 1),
    "encoder_repetition_penalty": (None, 1),
    "sampler_order": (None, []),
    "sampler_priority": (None, []),
    "dynamic_temperature": (None, False),
    "temperature_last": (None, False),
    "generation_config": (None, {}),
    "sampling_params": (None, {}),
    "parameters": (None, {}),
    "negative_prompt": (None, ""),
    "samplers": (None, []),
    "watermark": (None, False),
    "vllm_xargs": (None, {}),
    "extra_args": (None, {}),
    "custom_params": (None, {}),
    "options": (None, {}),
    "extra_body": (None, {}),
    "lora": (None, []),
    "lora_path": (None,),
    "lora_request": (None,),
    "adapter_id": (None,),
    "models": (None, []),
}
"""What it is drawn from, and how."""
_READ: Neutral = {
    "suffix": (None, ""),
    "system": (None, ""),
    "system_prompt": (None, ""),
    "input_prefix": (None, ""),
    "input_suffix": (None, ""),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "tool_prompt": (None,),
    "documents": (None, []),
    "images": (None, []),
    "prompt_embeds": (None,),
    "input_ids": (None,),
    "web_search_options": (None,),
    "search_parameters": (None,),
    "enable_search": (None, False),
    "plugins": (None, []),
    "transforms": (None, []),
    "safe_prompt": (None, False),
    "safety_model": (None,),
    "mm_processor_kwargs": (None, {}),
    "truncate": (None, False),
    "truncate_prompt_tokens": (None,),
    "prompt_truncate_len": (None,),
    "context_length_exceeded_behavior": (None, "error"),
    "skip_special_tokens": (None, True),
    "spaces_between_special_tokens": (None, True),
    "add_special_tokens": (None, False),
    "add_generation_prompt": (None, True),
    "continue_final_message": (None, False),
    "raw": (None, False),
    "template": (None, ""),
    "chat_template": (None,),
    "chat_template_kwargs": (None, {}),
    "chat_template_args": (None, {}),
    "instruction_template": (None, ""),
    "response_prefix": (None, ""),
    "prefill": (None, ""),
    "memory": (None, ""),
    "mcp_servers": (None, []),
    "container": (None,),
    "reasoning": (None, {}),
    "reasoning_effort": (None,),
    "think": (None,),
    "thinking": (None,),
    "enable_thinking": (None,),
    "verbosity": (None, "medium"),
}
"""What the model reads, and what it is told of the answer."""
NEUTRAL: Neutral = {**_TOLD, **_CONSTRAINED, **_LENGTH, **_DRAWN, **_READ}
"""Fields of all these kinds."""


def refuse_unserved(fields: Mapping[str, Any], neutral: Neutral) -> None:
    """Refuse fields that would change the answer and are not served.

    Args:
        fields: of a request, by name.
        neutral: those that are not served, and the values with which they ask for nothing.

    Raises:
        Fault: naming the first of them.
    """
    for name, value in fields.items():
        if name in neutral and value not in neutral[name]:
            raise bad_request(f"{name} is not served; leave it out", name, "unsupported_parameter")
