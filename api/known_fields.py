"""Fields of requests that other servers know: which are honoured, harmless, or refused by name.

Sources of the names: OpenAI's API reference ("Create chat completion", "Create completion");
vLLM's entrypoints/openai protocol; tools/server/README.md of llama.cpp; the input of TGI's
/generate as huggingface_hub has it; Ollama's options; SGLang's and LM Studio's request fields.
"""

from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from api.request_body import BYTE_ORDER_MARK
from runtime.errors import InvalidRequest
from runtime.finite_json import finite_json

HARMLESS = frozenset(
    {
        # Metadata: it never changes an answer.
        *("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"),
        *("context_management", "inference_geo"),
        *("prompt_cache_retention", "request_id", "priority", "session_id"),
        # How a server computes, where every way gives the same answer.
        *("cache_prompt", "n_cache_reuse", "id_slot", "slot_id", "num_ctx", "n_ctx"),
        *("num_batch", "num_gpu", "main_gpu", "num_thread", "num_gqa", "numa", "low_vram"),
        *("f16_kv", "vocab_only", "use_mmap", "use_mlock", "num_keep", "n_keep", "n_discard"),
        # Effective only together with another field, which is refused.
        *("mirostat_tau", "mirostat_eta", "length_penalty", "early_stopping"),
        *("guided_decoding_backend", "grammar_lazy", "tool_prompt", "adaptive_decay"),
        # Additional figures in the answer.
        *("timings_per_token", "return_progress", "return_token_ids", "return_tokens"),
        *(
            "response_fields",
            "sse_ping_interval",
            "verbose",
        ),
        *("details", "return_hidden_states", "return_meta_info", "log_metrics"),
    }
)
"""Fields accepted with any value, since they do not change what is generated."""

NOTHING: tuple[Any, ...] = (None, False, "", [], {})
"""Values without effect, whatever the field."""

UNSERVED: Mapping[str, tuple[Any, ...]] = {
    # Supported on another route of ours
    "messages": (),
    "prompt": (),
    "chat_template_kwargs": (),
    "reasoning_effort": (),
    "enable_thinking": (),
    "documents": (),
    "add_generation_prompt": (True,),
    "continue_final_message": (),
    "parse_special": (True,),
    "stream_options": (),
    "max_completion_tokens": (-1,),
    "max_new_tokens": (-1,),
    "n_predict": (-1,),
    "num_predict": (-1,),
    # OpenAI and Anthropic
    "container": (),
    "mcp_servers": (),
    "audio": (),
    "background": (),
    "conversation": (),
    "max_tool_calls": (),
    "function_call": ("none", "auto"),
    "functions": (),
    "modalities": (["text"],),
    "moderation": (),
    "prediction": (),
    "response_format": ({"type": "text"},),
    "tool_choice": ("none", "auto"),
    "tools": (),
    "parallel_tool_calls": (True,),
    "verbosity": ("medium",),
    "web_search_options": (),
    "logprobs": (),
    "top_logprobs": (0,),
    "n": (1,),
    "best_of": (1,),
    "echo": (),
    "suffix": (),
    # vLLM and SGLang
    "add_special_tokens": (True,),
    "allowed_token_ids": (),
    "bad_words": (),
    "chat_template": (),
    "custom_logit_processor": (),
    "ebnf": (),
    "guided_choice": (),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "guided_whitespace_pattern": (),
    "include_reasoning": (True,),
    "include_stop_str_in_output": (),
    "input_ids": (),
    "kv_transfer_params": (),
    "logits_processors": (),
    "lora_path": (),
    "media_io_kwargs": (),
    "min_new_tokens": (0,),
    "mm_processor_kwargs": (),
    "no_stop_trim": (),
    "prompt_embeds": (),
    "prompt_logprobs": (),
    "regex": (),
    "repetition_detection": (),
    "return_tokens_as_token_ids": (),
    "separate_reasoning": (True,),
    "skip_special_tokens": (True,),
    "spaces_between_special_tokens": (True,),
    "stop_regex": (),
    "stream_reasoning": (True,),
    "structural_tag": (),
    "structured_outputs": (),
    "thinking_token_budget": (-1,),
    "truncate_prompt_tokens": (-1,),
    "truncation_side": (),
    "use_beam_search": (),
    "vllm_xargs": (),
    # llama.cpp
    "adaptive_target": (-1,),
    "backend_sampling": (),
    "grammar": (),
    "grammar_triggers": (),
    "input_extra": (),
    "input_prefix": (),
    "input_suffix": (),
    "json_schema": (),
    "lora": (),
    "min_keep": (0,),
    "mirostat": (0,),
    "multimodal_data": (),
    "n_cmpl": (1,),
    "n_indent": (0,),
    "n_probs": (0,),
    "post_sampling_probs": (),
    "preserved_tokens": (),
    "reasoning": (),
    "reasoning_budget": (-1,),
    "reasoning_budget_message": (),
    "reasoning_format": ("none", "auto"),
    "speculative.n_max": (),
    "speculative.n_min": (),
    "speculative.p_min": (),
    "t_max_predict_ms": (0, -1),
    "t_max_prompt_ms": (0, -1),
    # TGI
    "adapter_id": (),
    "decoder_input_details": (),
    "do_sample": (True,),
    "inputs": (),
    "parameters": (),
    "return_full_text": (),
    "stop_sequences": (),
    "top_n_tokens": (0,),
    "truncate": (),
    "watermark": (),
    # Ollama, LM Studio and proxies before them
    "context": (),
    "context_overflow_policy": (),
    "draft_model": (),
    "format": (),
    "images": (),
    "options": (),
    "penalize_newline": (True,),
    "raw": (True,),
    "structured": (),
    "system": (),
    "template": (),
    "tfs_z": (1,),
    "think": (),
    "thinking": (),
    "thinking_budget": (-1,),
    "thinking_budget_tokens": (-1,),
    "top_a": (0,),
    "ttl": (-1,),
}
"""Fields that would change an answer, and their values, besides NOTHING, that do not."""

FALSE_MATTERS = frozenset(
    {"add_special_tokens", "do_sample", "penalize_newline", "skip_special_tokens"}
)
"""Fields of which false asks for something, since they are true by default."""

MAX_NAMED = 20
"""Maximum number of ignored fields that are reported."""
MAX_CHARACTERS = 64
"""Of the name of one."""


def unknown_fields(body: bytes, served: Collection[str]) -> tuple[str, ...]:
    """Return the names of unknown fields of a body, which has been decoded before.

    `served`: the fields that its route honours. Raises InvalidRequest for a field that another
    server or another route honours, unless its value asks for nothing.
    """
    fields = msgspec.json.decode(body.removeprefix(BYTE_ORDER_MARK), type=dict[str, msgspec.Raw])
    unknown = []
    for name, raw in fields.items():
        if name in served or name in HARMLESS:
            continue
        if (neutral := UNSERVED.get(name)) is None:
            unknown.append(name[:MAX_CHARACTERS])
            continue
        value = msgspec.json.decode(raw)
        if not any(_equal(value, taken) for taken in neutral_values(name)):
            default = finite_json(neutral[0] if neutral else None).decode()
            raise InvalidRequest(
                f"{name} is not supported here: leave it out, or send {default}", field=name
            )
    return tuple(unknown[:MAX_NAMED])


def neutral_values(name: str) -> tuple[Any, ...]:
    """Return the values of a field of UNSERVED that ask for nothing."""
    nothing = NOTHING
    if name in FALSE_MATTERS:
        nothing = tuple(value for value in NOTHING if value is not False)
    return (*nothing, *UNSERVED[name])


def _equal(value: Any, taken: Any) -> bool:
    """Whether a value is one that is taken; True is not 1 and False is not 0."""
    return bool(value == taken) and isinstance(value, bool) == isinstance(taken, bool)


def header_of(names: Collection[str]) -> str:
    """Return field names for a header: printable ASCII, separated by commas."""
    return ", ".join(
        "".join(letter if " " < letter <= "~" and letter != "," else "?" for letter in name) or "?"
        for name in names
    )
