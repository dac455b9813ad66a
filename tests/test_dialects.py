"""Bodies as the users of other engines send them: what each field there means here."""

import time
from math import inf, nan
from types import SimpleNamespace

import numpy as np
import pytest

import logitchain as lc
from logitchain.dialects import DIALECTS, ENGINE, NOT_SAMPLING, Beside, Lacking, Spelling
from logitchain.engines.vllm import Processor

ALL = 2**31 - 1  # a window of all tokens

# dialect, spelling, value -> our field, value
SPELLINGS = [
    ("openai", "max_completion_tokens", 9, "max_tokens", 9),
    ("vllm", "max_completion_tokens", 9, "max_tokens", 9),
    ("vllm", "include_stop_str_in_output", True, "include_stop", True),
    ("vllm", "include_stop_str_in_output", False, "include_stop", False),
    ("vllm", "seed", -1, "seed", None),
    ("vllm", "seed", 5, "seed", 5),
    ("vllm", "top_k", -1, "top_k", 0),
    ("vllm", "top_k", 5, "top_k", 5),
    ("vllm", "stop_token_ids", [1, 2], "eos_token", (1, 2)),
    ("vllm", "allowed_token_ids", [1, 2], "allowed_tokens", (1, 2)),
    ("vllm", "thinking_token_budget", -1, "reasoning_budget", None),
    ("vllm", "trace_decode_token_ids", [1, 2], "forced_output_tokens", (1, 2)),
    ("llama_cpp", "reasoning_budget_tokens", -1, "reasoning_budget", None),
    ("llama_cpp", "thinking_budget_tokens", -1, "reasoning_budget", None),
    ("koboldcpp", "reasoning_budget", -1, "reasoning_budget", None),
    ("koboldcpp", "thinking_budget_tokens", -1, "reasoning_budget", None),
    *[
        (dialect, field, -1, "reasoning_budget", None)
        for dialect in ("exllamav2", "exllamav3")
        for field in ("reasoning_budget", "reasoning_budget_tokens", "thinking_budget")
    ],
    ("exllamav2", "thinking_token_budget", -1, "reasoning_budget", None),
    ("exllamav3", "thinking_token_budget", -1, "reasoning_budget", None),
    ("sglang", "max_new_tokens", 9, "max_tokens", 9),
    ("sglang", "no_stop_trim", True, "include_stop", True),
    ("sglang", "max_completion_tokens", 9, "max_tokens", 9),
    ("sglang", "min_new_tokens", 9, "min_tokens", 9),
    ("sglang", "top_k", -1, "top_k", 0),
    ("sglang", "top_k", 2**30, "top_k", 0),
    ("sglang", "sampling_seed", 9, "seed", 9),
    ("sglang", "sampling_seed", -1, "seed", -1),
    ("sglang", "return_logprob", True, "logprobs", True),
    ("sglang", "top_logprobs_num", 3, "top_logprobs", 3),
    ("sglang", "token_ids_logprob", [3, 5], "logprob_token_ids", (3, 5)),
    ("sglang", "stop_token_ids", [1, 2], "eos_token", (1, 2)),
    ("sglang", "watermark", {"key": "0x2A"}, "watermark", {"scheme": "sglang", "key": 42}),
    ("llama_cpp", "max_completion_tokens", 9, "max_tokens", 9),
    ("llama_cpp", "n_predict", 9, "max_tokens", 9),
    ("llama_cpp", "n_predict", -1, "max_tokens", None),
    ("llama_cpp", "repeat_penalty", 1.5, "repetition_penalty", 1.5),
    ("llama_cpp", "n_probs", 5, "top_logprobs", 5),
    ("llama_cpp", "post_sampling_probs", True, "logprobs_of", "processed"),
    ("llama_cpp", "post_sampling_probs", False, "logprobs_of", "raw"),
    ("llama_cpp", "n_cmpl", 2, "n", 2),
    ("llama_cpp", "seed", -1, "seed", None),
    ("llama_cpp", "max_tokens", -1, "max_tokens", None),
    ("llama_cpp", "max_completion_tokens", -1, "max_tokens", None),
    ("llama_cpp", "top_k", -1, "top_k", 0),
    ("llama_cpp", "top_k", 40, "top_k", 40),
    ("llama_cpp", "seed", 2**32 - 1, "seed", None),
    ("llama_cpp", "seed", 5, "seed", 5),
    ("llama_cpp", "logit_bias", [[5, 1.5], [7, False]], "logit_bias", {5: 1.5, 7: -inf}),
    ("llama_cpp", "logit_bias", {"5": 1.5, "7": False}, "logit_bias", {5: 1.5, 7: -inf}),
    ("koboldcpp", "max_length", 9, "max_tokens", 9),
    ("koboldcpp", "rep_pen", 1.5, "repetition_penalty", 1.5),
    ("koboldcpp", "sampler_seed", -1, "seed", None),
    ("koboldcpp", "sampler_seed", 5, "seed", 5),
    ("koboldcpp", "sampler_seed", 0, "seed", None),
    ("koboldcpp", "sampler_seed", 2**32 - 1, "seed", None),
    ("koboldcpp", "seed", -7, "seed", None),
    ("koboldcpp", "seed", 5, "seed", 5),
    ("koboldcpp", "top_k", 0, "top_k", 0),
    ("koboldcpp", "top_k", -1, "top_k", 0),
    ("koboldcpp", "repeat_penalty", 1.5, "repetition_penalty", 1.5),
    ("koboldcpp", "max_completion_tokens", 9, "max_tokens", 9),
    ("koboldcpp", "banned_tokens", [5], "banned_tokens", (5,)),
    ("koboldcpp", "custom_token_bans", "5, 7", "banned_tokens", (5, 7)),
    ("koboldcpp", "custom_token_bans", "", "banned_tokens", ()),
    ("koboldcpp", "stop_sequence", ["a"], "stop", ("a",)),
    ("text_generation_webui", "max_new_tokens", 9, "max_tokens", 9),
    ("text_generation_webui", "max_completion_tokens", 9, "max_tokens", 9),
    ("text_generation_webui", "custom_token_bans", "5,7", "banned_tokens", (5, 7)),
    ("text_generation_webui", "no_repeat_ngram_size", 3, "no_repeat_ngram", 3),
    ("text_generation_webui", "custom_stopping_strings", ["a"], "stop", ("a",)),
    ("text_generation_webui", "stopping_strings", ["a"], "stop", ("a",)),
    ("text_generation_webui", "seed", -1, "seed", None),
    *(
        (dialect, spelling, *case)
        for dialect, spelling in (
            *(("llama_cpp", "top_n_sigma"), ("koboldcpp", "nsigma")),
            ("text_generation_webui", "top_n_sigma"),
        )
        for case in ((-1, "top_n_sigma", 0.0), (-1.0, "top_n_sigma", 0.0), (1, "top_n_sigma", 1.0))
    ),
    *(
        (dialect, spelling, *case)
        for dialect, spelling in (("llama_cpp", "typical_p"), ("koboldcpp", "typical"))
        for case in ((0.9, "typical_p", 0.9), (1, "typical_p", 1.0), (1.5, "typical_p", 1.0))
    ),
    ("llama_cpp", "repeat_last_n", 64, "penalty_window", 64),
    ("llama_cpp", "repeat_last_n", 0, "penalty_window", 0),
    ("llama_cpp", "repeat_last_n", -1, "penalty_window", 2**31 - 1),
    ("text_generation_webui", "epsilon_cutoff", 3, "epsilon_cutoff", 3 * 1e-4),
    ("text_generation_webui", "eta_cutoff", 2.5, "eta_cutoff", 2.5 * 1e-4),
    *(
        (dialect, field, *case)
        for dialect, field, cases in (
            ("llama_cpp", "temperature", ((0.7, 0.7), (0, 0.0), (-1, 0.0))),
            ("llama_cpp", "top_p", ((0.9, 0.9), (0, 2**-30), (1, 1.0))),
            ("llama_cpp", "dynatemp_range", ((0.5, 0.5), (0, 0.0), (-0.5, 0.0))),
            ("llama_cpp", "dry_multiplier", ((0.8, 0.8), (0, 0.0), (-1, 0.0))),
            ("llama_cpp", "dry_base", ((2, 2.0), (1, 1.0), (0.5, 1.75), (-1, 1.75))),
            ("llama_cpp", "dry_allowed_length", ((0, 0), (3, 3))),
            ("llama_cpp", "adaptive_target", ((0.5, 0.5), (0, 0.0), (1, 1.0), (-1, None))),
            ("koboldcpp", "temperature", ((0.7, 0.7), (0, 0.0), (-1, 0.0))),
            ("koboldcpp", "top_p", ((0.9, 0.9), (0, 2**-30))),
            ("koboldcpp", "min_p", ((0.1, 0.1), (0, 0.0), (-1, 0.0))),
            ("koboldcpp", "top_a", ((0.1, 0.1), (0, 0.0), (-1, 0.0))),
            ("koboldcpp", "tfs", ((0.9, 0.9), (1, 1.0), (1.5, 1.0))),
            ("koboldcpp", "smoothing_factor", ((0.3, 0.3), (0, 0.0), (-1, 0.0))),
            ("koboldcpp", "dynatemp_range", ((0.5, 0.5), (0, 0.0), (-0.5, 0.0))),
            ("koboldcpp", "dynatemp_exponent", ((2, 2.0), (-1, 0.0))),
            ("koboldcpp", "dry_multiplier", ((0.8, 0.8), (0, 0.0), (-1, 0.0))),
            ("koboldcpp", "dry_base", ((2, 2.0), (1, 1.0))),
            ("koboldcpp", "dry_allowed_length", ((0, 0), (3, 3))),
            ("koboldcpp", "adaptive_target", ((0.5, 0.5), (1, 1.0), (0, None), (-1, None))),
            ("koboldcpp", "adaptive_decay", ((0.5, 0.5), (0, 0.01), (1, 0.99))),
            ("text_generation_webui", "top_p", ((0.9, 0.9), (0, 2**-30))),
            ("text_generation_webui", "typical_p", ((0.9, 0.9), (1, 1.0), (2, 1.0))),
            ("text_generation_webui", "tfs", ((0.9, 0.9), (1, 1.0), (2, 1.0))),
            ("text_generation_webui", "top_a", ((0.1, 0.1), (0, 0.0), (-1, 0.0))),
            ("text_generation_webui", "smoothing_factor", ((0.3, 0.3), (-1, 0.0))),
            ("text_generation_webui", "dry_multiplier", ((0.8, 0.8), (0, 0.0), (-1, 0.0))),
            ("text_generation_webui", "dry_base", ((2, 2.0), (1, 1.0))),
            ("text_generation_webui", "dry_allowed_length", ((0, 0), (3, 3))),
            ("text_generation_webui", "adaptive_target", ((0.5, 0.5), (0, None), (-1, None))),
            ("text_generation_webui", "adaptive_decay", ((0.5, 0.5), (0, 0.0), (1, 0.99))),
            ("exllamav2", "top_p", ((0.9, 0.9), (0, 1.0), (1, 1.0))),
            ("exllamav3", "top_p", ((0.9, 0.9), (0, 2**-30), (1, 1.0))),
            ("text_generation_webui", "dynatemp_exponent", ((2, 2.0),)),
            ("transformers", "top_p", ((0.9, 0.9), (0, 2**-30))),
            ("transformers", "typical_p", ((0.9, 0.9), (1, 1.0), (2.0, 1.0))),
            ("transformers", "epsilon_cutoff", ((3e-4, 3e-4), (0, 0.0), (-1, 0.0), (1, 0.0))),
            ("transformers", "eta_cutoff", ((3e-4, 3e-4), (0, 0.0), (-1, 0.0), (1, 0.0))),
            ("mlx_lm", "repetition_penalty", ((1.5, 1.5), (0, 1.0), (0.0, 1.0))),
            ("mlx_lm", "top_p", ((0.9, 0.9), (0, 1.0), (1, 1.0))),
            ("mlx_lm", "top_logprobs", ((3, 3), (-1, 0))),
            ("openvino_genai", "top_k", ((5, 5), (0, 0), (2**64 - 1, 0))),
        )
        for theirs, ours in cases
        for case in ((theirs, field, ours),)
    ),
    *(
        (dialect, *case)
        for dialect in (
            *("llama_cpp", "koboldcpp", "text_generation_webui", "exllamav2", "exllamav3"),
        )
        for case in ()
    ),
    ("llama_cpp", "dry_penalty_last_n", 64, "dry_window", 64),
    ("llama_cpp", "dry_penalty_last_n", 0, "dry_window", 0),
    ("llama_cpp", "dry_penalty_last_n", -1, "dry_window", ALL),
    ("koboldcpp", "dry_penalty_last_n", 320, "dry_window", 320),
    ("koboldcpp", "dry_penalty_last_n", 0, "dry_window", ALL),
    ("koboldcpp", "dry_penalty_last_n", -1, "dry_window", ALL),
    ("koboldcpp", "rep_pen_range", 320, "penalty_window", 320),
    ("koboldcpp", "rep_pen_range", 0, "penalty_window", 0),
    ("koboldcpp", "frequency_penalty", 0.5, "presence_penalty", 0.5),
    ("text_generation_webui", "repetition_penalty_range", 9, "penalty_window", 9),
    ("text_generation_webui", "repetition_penalty_range", 0, "penalty_window", ALL),
    ("transformers", "bad_words_ids", [[1, 2]], "bad_words", ((1, 2),)),
    ("transformers", "eos_token_id", [1, 2], "eos_token", (1, 2)),
    ("transformers", "eos_token_id", 2, "eos_token", (2,)),
    ("transformers", "max_new_tokens", 9, "max_tokens", 9),
    ("transformers", "min_new_tokens", 9, "min_tokens", 9),
    ("transformers", "min_length", 9, "min_total_tokens", 9),
    ("transformers", "min_length", -1, "min_total_tokens", 0),
    ("transformers", "no_repeat_ngram_size", 3, "no_repeat_ngram", 3),
    ("transformers", "num_return_sequences", 2, "n", 2),
    ("transformers", "sequence_bias", [[[5], 1.5], [[7], -inf]], "logit_bias", {5: 1.5, 7: -inf}),
    ("transformers", "sequence_bias", {(5,): 1.5}, "logit_bias", {5: 1.5}),
    ("transformers", "stop_strings", ["a"], "stop", ("a",)),
    ("transformers", "suppress_tokens", [1, 2], "banned_tokens", (1, 2)),
    ("mlx_lm", "max_completion_tokens", 9, "max_tokens", 9),
    ("openvino_genai", "include_stop_str_in_output", True, "include_stop", True),
    ("openvino_genai", "max_length", 9, "max_total_tokens", 9),
    ("openvino_genai", "max_length", 2**64 - 1, "max_total_tokens", None),
    ("openvino_genai", "max_new_tokens", 9, "max_tokens", 9),
    ("openvino_genai", "max_new_tokens", 2**64 - 1, "max_tokens", None),
    ("openvino_genai", "min_new_tokens", 9, "min_tokens", 9),
    ("openvino_genai", "num_return_sequences", 2, "n", 2),
    ("openvino_genai", "rng_seed", 5, "seed", 5),
    ("openvino_genai", "stop_strings", ["a"], "stop", ("a",)),
    ("friendli", "stop_tokens", [{"tokens": [5, 7]}, [3]], "stop_tokens", ((5, 7), (3,))),
    ("friendli", "stop_tokens", [], "stop_tokens", ()),
    ("friendli", "top_p", 0, "top_p", 2**-30),
    ("friendli", "top_p", 0.9, "top_p", 0.9),
    *(
        (dialect, *case)
        for dialect in ("exllamav2", "exllamav3")
        for case in (
            ("max_completion_tokens", 9, "max_tokens", 9),
            ("max_length", 9, "max_tokens", 9),
            ("min_length", 9, "min_tokens", 9),
            ("adaptive_target", 0.5, "adaptive_target", 0.5),
            ("adaptive_target", -1, "adaptive_target", 0.0),
            ("adaptive_target", 1, "adaptive_target", None),
            ("adaptive_target", 1.5, "adaptive_target", None),
            ("adaptive_decay", 0.5, "adaptive_decay", 0.5),
            ("adaptive_decay", -1, "adaptive_decay", 0.0),
            ("adaptive_decay", 1, "adaptive_decay", 0.99),
            ("dynatemp_exponent", 2, "dynatemp_exponent", 2.0),
            ("smoothing_factor", 0.3, "smoothing_factor", 0.3),
            ("smoothing_factor", -1, "smoothing_factor", 0.0),
            ("banned_tokens", [5], "banned_tokens", (5,)),
            ("banned_tokens", "5, 7", "banned_tokens", (5, 7)),
            ("custom_token_bans", "5, 7", "banned_tokens", (5, 7)),
            ("allowed_tokens", "5,7", "allowed_tokens", (5, 7)),
            ("allowed_token_ids", [5], "allowed_tokens", (5,)),
            ("temperature", 0.7, "temperature", 0.7),
            ("temperature", 0.009, "temperature", 0.0),
            ("top_k", -1, "top_k", 0),
            ("top_a", 0.1, "top_a", 0.1),
            ("top_a", -1, "top_a", 0.0),
            *(
                (name, value, field, ours)
                for name, field in (
                    ("typical", "typical_p"),
                    ("typical_p", "typical_p"),
                    ("tfs",) * 2,
                )
                for value, ours in ((0.9, 0.9), (0, 1.0), (1, 1.0), (2, 1.0))
            ),
            ("min_p", 0.1, "min_p", 0.1),
            ("min_p", 1, "min_p", 0.0),
            ("rep_pen", 1.5, "repetition_penalty", 1.5),
            *(
                (name, value, "penalty_window", ours)
                for name in (
                    "penalty_range",
                    "repetition_range",
                    "repetition_penalty_range",
                    "rep_pen_range",
                )
                for value, ours in ((64, 64), (0, 0), (-1, ALL))
            ),
            ("dry_multiplier", 0.8, "dry_multiplier", 0.8),
            ("dry_multiplier", -1, "dry_multiplier", 0.0),
            ("dry_base", 2, "dry_base", 2.0),
            ("dry_allowed_length", 3, "dry_allowed_length", 3),
            ("dry_range", 64, "dry_window", 64),
            ("dry_range", 0, "dry_window", ALL),
            ("dry_penalty_last_n", 0, "dry_window", ALL),
        )
    ),
]


def test_every_spelling_is_in_the_list_above():
    listed = {(dialect, spelling, field) for dialect, spelling, _, field, _ in SPELLINGS}
    known = {
        (dialect, spelling, rule.field)
        for dialect, table in DIALECTS.items()
        for spelling, rule in table.items()
        if isinstance(rule, Spelling)
    }
    assert listed == known


@pytest.mark.parametrize(("dialect", "spelling", "value", "field", "ours"), SPELLINGS)
def test_a_spelling_of_another_engine(dialect, spelling, value, field, ours):
    rule = DIALECTS[dialect][spelling]
    on = {"dry_multiplier": 1.0} if isinstance(rule, Beside) and rule.of else {}
    expected = lc.Params(**dict.fromkeys((field, *rule.also), ours), **on)
    body = {spelling: value, "model": "m"}
    assert lc.Params.from_request(body | on, dialect=dialect) == expected
    assert lc.Params.from_request(on | body, dialect=dialect) == expected
    if on:
        assert lc.Params.from_request(body, dialect=dialect) == lc.Params()
        body["dry_multiplier"] = 0
        assert lc.Params.from_request(body, dialect=dialect) == lc.Params()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_only_an_engine_reads_is_left_to_it(dialect):
    theirs = [name for name, rule in DIALECTS[dialect].items() if rule is ENGINE]
    body = {name: object() for name in [*theirs, *NOT_SAMPLING]}
    assert lc.Params.from_request(body, dialect=dialect) == lc.Params()


def test_a_control_of_ours_is_not_listed_as_lacking():
    for table in DIALECTS.values():
        lacking = {name for name, rule in table.items() if isinstance(rule, Lacking)}
        assert not lacking & lc.FIELDS.keys()


# ---- whole bodies: every documented field at the value that it has by default

DRY = {"dry_multiplier": 0.0, "dry_base": 1.75, "dry_allowed_length": 2}
MIROSTAT = {"mirostat_tau": 5.0, "mirostat_eta": 0.1}
COMPLETION = {"model": "m", "prompt": "Once", "stream": False, "stream_options": None, "user": None}

BODIES = {
    "openai": (
        COMPLETION
        | {"suffix": None, "echo": False, "best_of": 1, "n": 1, "stop": None, "seed": None}
        | {"temperature": 1, "top_p": 1, "frequency_penalty": 0, "presence_penalty": 0},
        {},
    ),
    "vllm": (
        COMPLETION
        | {"best_of": None, "echo": False, "suffix": None, "n": 1, "seed": None, "stop": []}
        | {"temperature": None, "top_p": None, "top_k": None, "min_p": None, "logprobs": None}
        | {"repetition_penalty": None, "frequency_penalty": None, "presence_penalty": None}
        | {"logit_bias": None, "max_tokens": 16, "use_beam_search": False, "length_penalty": 1.0}
        | {"watermarking": None, "stop_token_ids": [], "include_stop_str_in_output": False}
        | {"ignore_eos": False, "min_tokens": 0, "skip_special_tokens": True}
        | {"spaces_between_special_tokens": True, "truncate_prompt_tokens": None}
        | {"truncation_side": None, "allowed_token_ids": None, "prompt_logprobs": None}
        | {"logprob_token_ids": None, "bad_words": [], "prompt_embeds": None}
        | {"add_special_tokens": True, "response_format": None, "structured_outputs": None}
        | {"guided_json": None, "guided_regex": None, "guided_choice": None, "priority": 0}
        | {"request_id": "r", "session_id": None, "return_tokens_as_token_ids": None}
        | {"return_token_ids": None, "cache_salt": None, "kv_transfer_params": None}
        | {"vllm_xargs": None, "repetition_detection": None, "thinking_token_budget": None}
        | {"stream_interval": None},
        {"max_tokens": 16},
    ),
    "sglang": (
        {"text": "Once", "input_ids": None, "rid": "r", "return_logprob": None, "stream": False}
        | {"logprob_start_len": None, "top_logprobs_num": None, "lora_path": None}
        | {"custom_logit_processor": None, "return_hidden_states": False, "image_data": None}
        | {
            "sampling_params": {
                **{"max_new_tokens": 128, "stop": None, "stop_token_ids": None, "stop_regex": None},
                **{"temperature": 1.0, "top_p": 1.0, "top_k": 2**30, "min_p": 0.0},
                **{"frequency_penalty": 0.0, "presence_penalty": 0.0, "repetition_penalty": 1.0},
                **{"min_new_tokens": 0, "n": 1, "json_schema": None, "regex": None, "ebnf": None},
                **{"structural_tag": None, "ignore_eos": False, "skip_special_tokens": True},
                **{"spaces_between_special_tokens": True, "no_stop_trim": False},
                **{"custom_params": None, "stream_interval": None, "logit_bias": None},
                **{"sampling_seed": None},
            }
        },
        {"max_tokens": 128},
    ),
    "llama_cpp": (
        {"prompt": "Once", "temperature": 0.8, "dynatemp_range": 0.0, "dynatemp_exponent": 1.0}
        | {"top_k": 40, "top_p": 0.95, "min_p": 0.05, "n_predict": -1, "n_indent": 0, "n_keep": 0}
        | {"n_cmpl": 1, "n_cache_reuse": 0, "stream": False, "stop": [], "typical_p": 1.0}
        | {"repeat_penalty": 1.1, "repeat_last_n": 64, "presence_penalty": 0.0}
        | {"frequency_penalty": 0.0, **DRY, "dry_penalty_last_n": 64, "xtc_probability": 0.0}
        | {"dry_sequence_breakers": ["\n", ":"], "xtc_threshold": 0.1, "mirostat": 0, **MIROSTAT}
        | {"top_n_sigma": -1.0, "adaptive_target": -1.0, "adaptive_decay": 0.9, "grammar": ""}
        | {"json_schema": None, "seed": -1, "ignore_eos": False, "logit_bias": [], "n_probs": 0}
        | {"min_keep": 0, "t_max_predict_ms": 0, "id_slot": -1, "cache_prompt": True}
        | {"return_tokens": False, "samplers": ["penalties", "dry", "top_k"]}
        | {"timings_per_token": False, "return_progress": False, "sse_ping_interval": 30}
        | {"post_sampling_probs": False, "response_fields": [], "lora": []},
        {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}
        | {"repetition_penalty": 1.1, "penalty_window": 64, "xtc_threshold": 0.1},
    ),
    "koboldcpp": (
        {"prompt": "Once", "memory": "", "images": [], "max_context_length": 4096}
        | {"max_length": 180, "temperature": 0.75, "top_k": 100, "top_a": 0.0, "top_p": 0.92}
        | {"min_p": 0.0, "typical": 1.0, "tfs": 1.0, "nsigma": 0.0, "rep_pen": 1.0}
        | {"rep_pen_range": 320, "rep_pen_slope": 1.0, "presence_penalty": 0.0, "mirostat": 0}
        | {**MIROSTAT, **DRY, "dry_penalty_last_n": 320, "dry_sequence_breakers": []}
        | {"xtc_threshold": 0.2, "xtc_probability": 0, "sampler_order": [6, 0, 1, 3, 4, 2, 5]}
        | {"sampler_seed": -1, "stop_sequence": [], "ban_eos_token": False, "grammar": ""}
        | {"grammar_retain_state": False, "genkey": "", "trim_stop": True, "dynatemp_range": 0.0}
        | {"dynatemp_exponent": 1.0, "smoothing_factor": 0.0, "smoothing_curve": 1.0}
        | {"adaptive_target": -1.0, "adaptive_decay": 0.9, "logit_bias": {}}
        | {"render_special": False, "banned_strings": [], "banned_tokens": [], "bypass_eos": False}
        | {"custom_token_bans": "", "guidance_scale": 1.0, "negative_prompt": ""}
        | {"use_default_badwordsids": False},
        {"max_tokens": 180, "temperature": 0.75, "top_k": 100, "top_p": 0.92}
        | {"xtc_threshold": 0.2, "penalty_window": 320},
    ),
    "text_generation_webui": (
        COMPLETION
        | {"best_of": 1, "echo": False, "suffix": None, "n": 1, "logprobs": None, "stop": None}
        | {"max_tokens": 512, "temperature": 1, "dynatemp_low": 1, "dynatemp_high": 1}
        | {"dynatemp_exponent": 1, "smoothing_factor": 0, "smoothing_curve": 1, "top_p": 1}
        | {"top_k": 0, "min_p": 0, "top_n_sigma": 0, "typical_p": 1, "xtc_threshold": 0.1}
        | {"xtc_probability": 0, "epsilon_cutoff": 0, "eta_cutoff": 0, "tfs": 1, "top_a": 0}
        | {"adaptive_target": 0, "adaptive_decay": 0.9, **DRY, "repetition_penalty": 1}
        | {"frequency_penalty": 0, "presence_penalty": 0, "encoder_repetition_penalty": 1}
        | {"no_repeat_ngram_size": 0, "repetition_penalty_range": 1024, "penalty_alpha": 0}
        | {"guidance_scale": 1, "mirostat_mode": 0, **MIROSTAT, "do_sample": True}
        | {"dynamic_temperature": False, "temperature_last": False, "sampler_priority": "top_k"}
        | {"dry_sequence_breakers": '"\\n", ":"', "preset": None, "prompt_lookup_num_tokens": 0}
        | {"max_tokens_second": 0, "auto_max_new_tokens": False, "ban_eos_token": False}
        | {"add_bos_token": True, "enable_thinking": True, "reasoning_effort": "medium"}
        | {"skip_special_tokens": True, "static_cache": False, "truncation_length": 0, "seed": -1}
        | {"custom_token_bans": "", "negative_prompt": "", "grammar_string": ""},
        {"max_tokens": 512, "xtc_threshold": 0.1, "penalty_window": 1024, "dry_window": 1024},
    ),
    **{
        dialect: (
            COMPLETION
            | {"max_tokens": 150, "min_tokens": 0, "stop": [], "banned_strings": [], "n": 1}
            | {"banned_tokens": [], "allowed_tokens": [], "token_healing": False}
            | {"temperature": 1.0, "temperature_last": False, "smoothing_factor": 0.0, "top_k": 0}
            | {"top_p": 1.0, "top_a": 0.0, "min_p": 0.0, "tfs": 1.0, "typical": 1.0, "skew": 0.0}
            | {"xtc_probability": 0.0, "xtc_threshold": 0.1, "frequency_penalty": 0.0}
            | {"presence_penalty": 0.0, "repetition_penalty": 1.0, "penalty_range": -1}
            | {"repetition_decay": 0, "dry_multiplier": 0.0, "dry_base": 0.0, "dry_range": 0}
            | {"dry_allowed_length": 0, "dry_sequence_breakers": [], "mirostat_mode": 0}
            | {"mirostat_tau": 1.5, "mirostat_eta": 0.3, "add_bos_token": True, "cfg_scale": 1.0}
            | {"ban_eos_token": False, "logit_bias": None, "json_schema": None, "max_temp": 1.0}
            | {"min_temp": 1.0, "temp_exponent": 1.0, "logprobs": 0, "top_logprobs": 0}
            | {"adaptive_target": 1.0, "adaptive_decay": 0.9, "loop_detect_window": 800}
            | {"regex_pattern": None, "grammar_string": None, "negative_prompt": None},
            {"max_tokens": 150, "xtc_threshold": 0.1, "penalty_window": ALL},
        )
        for dialect in ("exllamav2", "exllamav3")
    },
    "transformers": (
        {"max_length": 20, "max_new_tokens": None, "min_length": 0, "min_new_tokens": None}
        | {"early_stopping": False, "max_time": None, "stop_strings": None, "do_sample": True}
        | {"num_beams": 1, "use_cache": True, "temperature": 1.0, "top_k": 50, "top_p": 1.0}
        | {"min_p": None, "top_h": None, "typical_p": 1.0, "epsilon_cutoff": 0.0}
        | {"eta_cutoff": 0.0, "repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0}
        | {"length_penalty": 1.0, "no_repeat_ngram_size": 0, "bad_words_ids": None}
        | {"renormalize_logits": False, "forced_bos_token_id": None, "forced_eos_token_id": None}
        | {"remove_invalid_values": False, "exponential_decay_length_penalty": None}
        | {"suppress_tokens": None, "begin_suppress_tokens": None, "sequence_bias": None}
        | {"token_healing": False, "guidance_scale": None, "watermarking_config": None}
        | {"num_return_sequences": 1, "output_scores": False, "return_dict_in_generate": False}
        | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
        | {"encoder_no_repeat_ngram_size": 0, "num_assistant_tokens": 20, "penalty_alpha": None}
        | {"dola_layers": None, "diversity_penalty": 0.0, "num_beam_groups": 1}
        | {"constraints": None, "force_words_ids": None, "transformers_version": "5.24.0"},
        {"top_k": 50, "eos_token": 2},
    ),
    "mlx_lm": (
        COMPLETION
        | {"draft_model": "default_model", "num_draft_tokens": 3, "adapters": None}
        | {"max_tokens": 512, "temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
        | {"repetition_penalty": 0.0, "repetition_context_size": 20, "presence_penalty": 0.0}
        | {"presence_context_size": 20, "frequency_penalty": 0.0, "frequency_context_size": 20}
        | {"xtc_probability": 0.0, "xtc_threshold": 0.1, "logit_bias": None, "logprobs": False}
        | {"top_logprobs": -1, "seed": None, "stop": None, "role_mapping": None},
        {"max_tokens": 512, "temperature": 0.0, "xtc_threshold": 0.1},
    ),
    "openvino_genai": (
        {"max_new_tokens": 2**64 - 1, "max_length": 2**64 - 1, "ignore_eos": False}
        | {"min_new_tokens": 0, "echo": False, "logprobs": 0, "eos_token_id": -1}
        | {"stop_strings": [], "include_stop_str_in_output": False, "stop_token_ids": []}
        | {"repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
        | {"num_beam_groups": 1, "num_beams": 1, "diversity_penalty": 0.0, "length_penalty": 1.0}
        | {"num_return_sequences": 1, "no_repeat_ngram_size": 2**64 - 1, "stop_criteria": 1}
        | {"temperature": 1.0, "top_p": 1.0, "top_k": 2**64 - 1, "min_p": 0.0, "do_sample": False}
        | {"rng_seed": 0, "pruning_ratio": 0, "relevance_weight": 0.5, "max_ngram_size": 0}
        | {"assistant_confidence_threshold": 0.0, "num_assistant_tokens": 0, "adapters": None}
        | {"branching_factor": 1, "tree_depth": 0, "structured_output_config": None}
        | {"apply_chat_template": True, "return_omni_outputs": False, "parsers": []},
        {"temperature": 0.0, "seed": 0},
    ),
    "friendli": (
        {"model": None, "prompt": "Once", "bad_word_tokens": [], "bad_words": []}
        | {"embedding_to_replace": None, "encoder_no_repeat_ngram": 1, "eos_token": None}
        | {"encoder_repetition_penalty": 1.0, "frequency_penalty": 0.0, "logprobs": None}
        | {"max_tokens": 16, "max_total_tokens": None, "min_p": 0.0, "min_tokens": 0}
        | {"min_total_tokens": None, "n": 1, "no_repeat_ngram": 1, "presence_penalty": 0.0}
        | {"repetition_penalty": 1.0, "response_format": None, "seed": None, "stop": []}
        | {"stop_tokens": None, "stream": False, "stream_options": None, "temperature": 1.0}
        | {"token_index_to_replace": None, "top_k": 0, "top_p": 1.0, "xtc_threshold": 0.0}
        | {"xtc_probability": 0.0},
        {"max_tokens": 16, "no_repeat_ngram": 1},
    ),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_body_of_all_defaults_means_the_defaults(dialect):
    body, means = BODIES[dialect]
    assert lc.Params.from_request(body, dialect=dialect) == lc.Params(**means)


def test_chat_bodies_of_all_defaults():
    vllm = {"messages": [], "model": None, "logprobs": False, "top_logprobs": 0, "tools": None}
    vllm |= {"tool_choice": "none", "max_completion_tokens": None, "include_reasoning": True}
    vllm |= {"echo": False, "add_generation_prompt": True, "documents": None, "seed": None}
    vllm |= {"chat_template": None, "mm_processor_kwargs": None, "vllm_xargs": {"x": 1}}
    assert lc.Params.from_request(vllm, dialect="vllm") == lc.Params()
    sglang = {"messages": [], "logprobs": False, "top_logprobs": None, "separate_reasoning": True}
    sglang |= {"stop_regex": None, "no_stop_trim": False, "top_k": -1, "extra_key": None}
    assert lc.Params.from_request(sglang, dialect="sglang") == lc.Params()
    webui = {"messages": [], "mode": "instruct", "character": None, "continue_": False}
    assert lc.Params.from_request(webui, dialect="text_generation_webui") == lc.Params()


def test_a_chat_body_of_friendli():
    body = {"messages": [], "chat_template_kwargs": {}, "parse_reasoning": True, "seed": [5, 6]}
    body |= {"include_reasoning": None, "reasoning_effort": "low", "parallel_tool_calls": True}
    body |= {"logprobs": True, "top_logprobs": 2, "eos_token": [7], "logit_bias": {"5": 1}, "n": 2}
    assert lc.Params.from_request(body, dialect="friendli") == lc.Params(
        logprobs=True, top_logprobs=2, eos_token=7, logit_bias={5: 1.0}, seed=(5, 6), n=2
    )


def test_bad_words_of_friendli_are_all_sequences_that_are_named():
    def read(**body):
        return lc.Params.from_request(body, dialect="friendli").bad_words

    theirs, ours = [{"tokens": [5, 6]}, {"tokens": [7]}], [[8, 9]]
    assert read(bad_word_tokens=theirs) == ((5, 6), (7,))
    assert read(bad_words=ours, bad_word_tokens=theirs) == ((8, 9), (5, 6), (7,))
    assert read(bad_word_tokens=theirs, bad_words=ours) == ((8, 9), (5, 6), (7,))
    for bad in ({}, {"tokens": None}, {"tokens": []}, {"tokens": ["x"]}, 5):
        with pytest.raises((TypeError, ValueError), match="field 'bad_word_tokens': bad_words"):
            read(bad_word_tokens=[bad])


@pytest.mark.parametrize("dialect", ["vllm", "friendli"])
def test_bad_words_as_text_need_a_vocabulary(dialect):
    with pytest.raises(ValueError, match="bad_words must be lists of token ids") as error:
        lc.Params.from_request({"bad_words": [[5], "damn"]}, dialect=dialect)
    assert str(error.value).endswith("; logitchain.BannedTexts makes banned_texts of strings")
    assert error.value.field == "bad_words"


@pytest.mark.parametrize("which", ["min", "max"])
def test_friendli_takes_a_total_alone(which):
    total, plain = f"{which}_total_tokens", f"{which}_tokens"
    assert getattr(lc.Params.from_request({total: 9}, dialect="friendli"), total) == 9
    with pytest.raises(ValueError, match=f"{total} must be null beside {plain}, not 9"):
        lc.Params.from_request({total: 9, plain: 5}, dialect="friendli")
    assert lc.Params.from_request({total: 9, plain: 5}) == lc.Params(**{total: 9, plain: 5})


def test_controls_of_encoders_say_so():
    body = {"encoder_no_repeat_ngram": 0, "encoder_repetition_penalty": 1}
    assert lc.Params.from_request(body, dialect="friendli") == lc.Params()
    for field, value, off in (
        ("encoder_no_repeat_ngram", 2, "in (-inf, 1]"),
        ("encoder_repetition_penalty", 1.5, "1"),
    ):
        with pytest.raises(ValueError, match="encoder") as error:
            lc.Params.from_request({field: value}, dialect="friendli")
        assert str(error.value).endswith(
            f"{field} is not supported for models without an encoder: "
            f"it must be {off}, which is off, not {value}"
        )


def test_min_tokens_of_vllm_hold_back_stop_phrases():
    def read(**body):
        return lc.Params.from_request(body, dialect="vllm")

    assert read(min_tokens=5) == lc.Params(min_tokens=5, stop_after_min_tokens=True)
    assert read(min_tokens=0) == lc.Params()
    assert read(min_tokens=5, stop_after_min_tokens=False) == lc.Params(min_tokens=5)
    assert lc.Params.from_request({"min_new_tokens": 5}, dialect="sglang") == lc.Params(
        min_tokens=5
    )


def test_a_length_of_prompt_and_output_counts_where_the_other_is_not_there():
    read = lc.Params.from_request
    body = {"min_length": 9, "min_new_tokens": 5}
    assert read(body, dialect="transformers") == lc.Params(min_tokens=5)
    body = {"max_length": 9, "max_new_tokens": 5}
    assert read(body, dialect="openvino_genai") == lc.Params(max_tokens=5)


# ---- controls that are not here

#: dialect, field, values with which it is off, values with which it is not
LACKING = [
    *[("llama_cpp", "tfs_z", (1, 1.0), (0.9, 0, True, "1")), ("llama_cpp", "min_keep", (0,), (1,))],
    *[("koboldcpp", "banned_strings", ([],), (["a"], "a"))],
    *[("koboldcpp", "guidance_scale", (1,), (1.5, nan))],
    *[(dialect, "skew", (0, 0.0), (0.5,)) for dialect in ("exllamav2", "exllamav3")],
    *[(dialect, "cfg_scale", (1,), (1.5,)) for dialect in ("exllamav2", "exllamav3")],
    *[(dialect, "banned_strings", ([], ""), (["a"],)) for dialect in ("exllamav2", "exllamav3")],
    *[("transformers", "num_beams", (1,), (4,))],
    *[("transformers", "encoder_repetition_penalty", (1.0,), (1.5,))],
    *[("transformers", "forced_eos_token_id", (), (2,))],
    *[("transformers", "watermarking_config", (), ({},))],
    *[("transformers", "remove_invalid_values", (False,), (True,))],
    *[("openvino_genai", "num_beams", (1,), (4,))],
    *[("text_generation_webui", "penalty_alpha", (0,), (0.6,))],
    *[("text_generation_webui", "preset", (), ("min_p",))],
    *[("vllm", "use_beam_search", (False,), (True, 0)), ("vllm", "best_of", (1,), (2,))],
    *[("sglang", "stop_regex", ([], ""), ("a+", ["a"]))],
]


@pytest.mark.parametrize(("dialect", "field", "off", "on"), LACKING)
def test_a_control_that_is_not_here_must_be_off(dialect, field, off, on):
    for value in (*off, None):
        assert lc.Params.from_request({field: value}, dialect=dialect) == lc.Params()
    for value in on:
        with pytest.raises(
            ValueError, match=f"field '{field}': {field} is not supported: "
        ) as error:
            lc.Params.from_request({field: value}, dialect=dialect)
        assert str(error.value).endswith(f", which is off, not {value!r}")


@pytest.mark.parametrize(
    ("dialect", "field", "per_block"),
    [
        ("vllm", "thinking_token_budget", True),
        ("llama_cpp", "reasoning_budget_tokens", True),
        ("llama_cpp", "thinking_budget_tokens", True),
        ("koboldcpp", "reasoning_budget", False),
        ("koboldcpp", "thinking_budget_tokens", False),
        *[
            (dialect, field, False)
            for dialect in ("exllamav2", "exllamav3")
            for field in ("reasoning_budget", "reasoning_budget_tokens", "thinking_budget")
        ],
    ],
)
def test_a_budget_of_reasoning(dialect, field, per_block):
    end = {"reasoning_end": [2]}
    params = lc.Params.from_request({field: 5, **end}, dialect=dialect)
    assert params == lc.Params(reasoning_budget=5, reasoning_per_block=per_block, **end)
    own = lc.Params.from_request({field: 5, "reasoning_per_block": False, **end}, dialect=dialect)
    assert own == lc.Params(reasoning_budget=5, **end)
    with pytest.raises(ValueError, match="reasoning_budget needs reasoning_end") as caught:
        lc.Params.from_request({field: 5}, dialect=dialect)
    assert caught.value.field == field
    with pytest.raises(ValueError, match=r"reasoning_budget must be in \[0, inf\), not -2"):
        lc.Params.from_request({field: -2, **end}, dialect=dialect)


def test_of_llama_cpps_two_names_of_the_budget_one_prevails():
    body = {"reasoning_budget_tokens": 5, "thinking_budget_tokens": 7, "reasoning_end": [2]}
    assert lc.Params.from_request(body, dialect="llama_cpp").reasoning_budget == 5


def test_repetition_detection_of_vllm():
    sizes = {"max_pattern_size": 20, "min_pattern_size": 3, "min_count": 4}
    params = lc.Params.from_request({"repetition_detection": sizes}, dialect="vllm")
    assert params.repetition_detection == lc.RepetitionDetection(**sizes)
    off = {"repetition_detection": {"max_pattern_size": 0}}
    assert lc.Params.from_request(off, dialect="vllm") == lc.Params()


def test_the_error_says_which_value_is_off():
    with pytest.raises(ValueError, match="request body") as error:
        lc.Params.from_request({"tfs_z": 0.9}, dialect="llama_cpp")
    assert str(error.value) == (
        "request body, field 'tfs_z': tfs_z is not supported: it must be 1, which is off, not 0.9"
    )
    with pytest.raises(ValueError, match=r"it must be in \(-inf, 0\], which is off, not 1"):
        lc.Params.from_request({"min_keep": 1}, dialect="llama_cpp")
    with pytest.raises(ValueError, match="it must be null, which is off, not 'x'"):
        lc.Params.from_request({"preset": "x"}, dialect="text_generation_webui")


def test_a_control_that_adjusts_others_may_have_any_value_while_they_are_off():
    read = lc.Params.from_request
    for dialect, field, off in (
        *(("koboldcpp", "rep_pen_slope", 1), ("exllamav2", "repetition_decay", 0)),
    ):
        assert read({field: 64}, dialect=dialect) == lc.Params()
        on = {"repetition_penalty": 1.1}
        assert read(on | {field: off}, dialect=dialect) == lc.Params(**on)
        for body in (on | {field: 64}, {field: 64} | on):
            with pytest.raises(ValueError, match=f"{field} is not supported: it must be {off}, or"):
                read(body, dialect=dialect)


def test_passthrough_leaves_such_a_control_to_the_caller():
    body = {"tfs_z": 0.9, "min_p": 0.1}
    params = lc.Params.from_request(body, dialect="llama_cpp", passthrough=["tfs_z"])
    assert params == lc.Params(min_p=0.1)


# ---- fields that are acted on


def parsed(dialect, body, eos_token=()):
    params = lc.Params.from_request(body, dialect=dialect, eos_token=eos_token)
    return params.eos_token, params.banned_tokens


def test_the_models_own_end_tokens_are_added():
    assert parsed("openai", {}, 2) == ((2,), ())
    assert parsed("openai", {"eos_token": [5, 2]}, [2, 3]) == ((5, 2, 3), ())
    assert parsed("vllm", {"stop_token_ids": [5]}, {2}) == ((5, 2), ())
    assert parsed("openai", {"eos_token": []}) == ((), ())
    with pytest.raises(TypeError, match=r"^eos_token must be "):
        lc.Params.from_request({}, eos_token="</s>")


def test_ignore_eos_does_what_the_engine_does():
    ignore = {"ignore_eos": True}
    assert parsed("vllm", ignore, 2) == ((), ())
    assert parsed("vllm", ignore | {"eos_token": 5}, 2) == ((), ())
    assert parsed("vllm", ignore | {"stop_token_ids": [5]}, 2) == ((5,), ())
    assert parsed("vllm", {"stop_token_ids": [5]} | ignore, 2) == ((5,), ())
    assert parsed("sglang", ignore | {"stop_token_ids": [5]}, 2) == ((), ())
    assert parsed("llama_cpp", ignore, (2, 3)) == ((), (2, 3))
    assert parsed("llama_cpp", ignore | {"eos_token": 5, "banned_tokens": [7]}, 2) == (
        (),
        (7, 5, 2),
    )
    for field in ("ban_eos_token", "use_default_badwordsids"):
        assert parsed("koboldcpp", {field: True}, 2) == ((), (2,))
    assert parsed("koboldcpp", {"bypass_eos": True}, 2) == ((), ())
    body = {"ban_eos_token": True, "custom_token_bans": "4"}
    assert parsed("text_generation_webui", body, 2) == ((), (4, 2))


@pytest.mark.parametrize("dialect", ["vllm", "sglang", "llama_cpp"])
def test_ignore_eos_is_a_flag(dialect):
    assert parsed(dialect, {"ignore_eos": False}, 2) == ((2,), ())
    assert parsed(dialect, {"ignore_eos": None}, 2) == ((2,), ())
    with pytest.raises(TypeError, match="field 'ignore_eos': ignore_eos must be true or false"):
        lc.Params.from_request({"ignore_eos": 1}, dialect=dialect)


def test_settings_of_text_generation_webui():
    read = lc.Params.from_request
    greedy = read({"do_sample": False, "temperature": 0.7}, dialect="text_generation_webui")
    assert greedy == lc.Params(temperature=0)
    body = {"auto_max_new_tokens": True, "max_tokens": 5}
    assert read(body, dialect="text_generation_webui").max_tokens is None
    with pytest.raises(ValueError, match="no_repeat_ngram_size must be 0 or more than 1, not 1"):
        read({"no_repeat_ngram_size": 1}, dialect="text_generation_webui")


# ---- dynamic temperature


def test_dynamic_temperature_of_text_generation_webui():
    def read(**body):
        return lc.Params.from_request(body, dialect="text_generation_webui")

    ends = {"dynatemp_low": 0.5, "dynatemp_high": 1.5, "dynatemp_exponent": 2, "temperature": 0.7}
    expected = lc.Params(temperature=1.0, dynatemp_range=0.5, dynatemp_exponent=2.0)
    assert read(dynamic_temperature=True, **ends) == expected
    assert read(**ends, dynamic_temperature=True) == expected
    assert read(dynamic_temperature=False, **ends) == lc.Params(temperature=0.7)
    assert read(**ends) == lc.Params(temperature=0.7, dynatemp_exponent=2.0)
    for body in ({"dynamic_temperature": True} | ends, ends | {"dynamic_temperature": True}):
        for both in (body | {"do_sample": False}, {"do_sample": False} | body):
            assert read(**both) == lc.Params(temperature=0.0)
    low = {"dynamic_temperature": True, "dynatemp_low": 0.5}
    assert read(**low) == lc.Params(temperature=0.75, dynatemp_range=0.25)
    assert read(**low, dynatemp_high=0.5) == lc.Params(temperature=0.5)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"dynamic_temperature": 1}, "dynamic_temperature must be true or false, not 1"),
        ({"dynatemp_low": 2}, "dynatemp_low must be at most dynatemp_high, 1.0, not 2"),
        ({"dynatemp_low": -1}, "dynatemp_low must be in [0, inf), not -1"),
        ({"dynatemp_high": inf}, "dynatemp_high must be in [0, inf), not inf"),
        ({"dynatemp_high": nan}, "dynatemp_high must be in [0, inf), not nan"),
        ({"dynatemp_exponent": "1"}, "dynatemp_exponent must be a number in [0, inf), not '1'"),
        ({"dynatemp_low": True}, "dynatemp_low must be a number in [0, inf), not True"),
    ],
)
def test_an_error_of_a_range_of_temperatures(body, text):
    with pytest.raises((TypeError, ValueError)) as error:
        lc.Params.from_request(
            {"dynamic_temperature": True} | body, dialect="text_generation_webui"
        )
    assert str(error.value) == f"request body, field 'dynamic_temperature': {text}"


@pytest.mark.parametrize("low", ["min_temp", "dynatemp_low"])
@pytest.mark.parametrize("high", ["max_temp", "dynatemp_high"])
def test_dynamic_temperature_of_exllamav2(low, high):
    def read(dialect="exllamav2", **body):
        return lc.Params.from_request(body, dialect=dialect)

    ends = {low: 0.5, high: 1.5, "temp_exponent": 2}
    expected = lc.Params(temperature=1.0, dynatemp_range=0.5, dynatemp_exponent=2.0)
    assert read(**ends) == read(**ends, temperature=1) == expected
    assert read(temperature=0.7, **ends, temperature_last=True) == expected
    assert read(**ends, temperature=0) == lc.Params(temperature=0.0)
    assert read(**{low: 1.5, high: 1.5}, temperature=0.7) == lc.Params(temperature=0.7)
    assert read("exllamav3", **ends, temperature=0.7) == lc.Params(temperature=0.7)
    for body in ({"temperature": 0.7} | ends, ends | {"temperature": 0.7}):
        with pytest.raises(
            ValueError, match=r"temperature must be 1, or temperature_last true.*0\.7"
        ):
            read(**body)
    with pytest.raises(ValueError, match=f"{low} must be at most {high}, 0.5, not 1.5"):
        read(**{low: 1.5, high: 0.5})


def test_smoothing_of_exllamav2_divides_the_temperature():
    """Its logits are -d ** 2 / (temperature / smoothing_factor)."""
    body, logits = {"temperature": 0.5, "smoothing_factor": 3}, np.float32([1.0, 0.5, -2.0])
    batch = lc.Batch(vocab_size=3)
    batch.add(lc.Params.from_request(body, dialect="exllamav2"))
    ours = lc.Chain.preset("exllamav2")(logits, batch)
    np.testing.assert_allclose(ours - ours.max(), -((logits - 1) ** 2) / (0.5 / 3), rtol=1e-6)


# ---- DRY

WITH_DRY = ["llama_cpp", "koboldcpp", "text_generation_webui", "exllamav2", "exllamav3"]


@pytest.mark.parametrize("dialect", WITH_DRY)
def test_sequence_breakers_are_lists_of_token_ids(dialect):
    def read(breakers, multiplier=0.8):
        body = {"dry_sequence_breakers": breakers, "dry_multiplier": multiplier}
        return lc.Params.from_request(body, dialect=dialect)

    assert read([[5], [1, 2]]) == lc.Params(
        dry_multiplier=0.8, dry_sequence_breakers=((5,), (1, 2))
    )
    assert read([]) == read("") == read("[]") == read(None) == lc.Params(dry_multiplier=0.8)
    for strings in (["\n", ":"], [[5], ":"], '["\\n"]', '"\\n", ":"'):
        assert read(strings, 0) == read(strings, -1) == read(strings, None) == lc.Params()
        with pytest.raises(ValueError, match="dry_sequence_breakers") as error:
            read(strings)
        assert str(error.value) == (
            "request body, field 'dry_sequence_breakers': dry_sequence_breakers must be lists of "
            "token ids; logitchain.sequence_breakers makes them from strings"
        )
    for wrong in ([5], 5, [[-1]], [[]], {"a": 1}):
        with pytest.raises((TypeError, ValueError), match="field 'dry_sequence_breakers': dry_seq"):
            read(wrong)


def test_a_base_up_to_0_switches_dry_off_in_koboldcpp():
    for base in (0, -1.0):
        for body in (
            {"dry_multiplier": 1, "dry_base": base},
            {"dry_base": base, "dry_multiplier": 1},
        ):
            assert lc.Params.from_request(body, dialect="koboldcpp") == lc.Params()
    with pytest.raises(ValueError, match=r"field 'dry_base': dry_base must be in \[1, inf\)"):
        lc.Params.from_request({"dry_multiplier": 1, "dry_base": 0.5}, dialect="koboldcpp")


def test_the_range_of_text_generation_webui_is_that_of_dry_too():
    read = lc.Params.from_request({"repetition_penalty_range": 9}, dialect="text_generation_webui")
    assert read == lc.Params(penalty_window=9, dry_window=9)


# ---- mirostat and adaptive-p

MIROSTATS = [("llama_cpp", "mirostat"), ("koboldcpp", "mirostat"), ("koboldcpp", "mirostat_mode")]
MIROSTATS += [("text_generation_webui", "mirostat_mode"), ("exllamav2", "mirostat")]
MIROSTATS += [("exllamav2", "mirostat_mode")]


@pytest.mark.parametrize(("dialect", "field"), MIROSTATS)
def test_version_2_of_mirostat_has_a_tau_and_an_eta(dialect, field):
    def read(**body):
        return lc.Params.from_request(body, dialect=dialect)

    usual = (1.5, 0.3) if dialect == "exllamav2" else (5.0, 0.1)
    values = {"mirostat_tau": 3, "mirostat_eta": 0.2}
    both = read(**{field: 2}, **values)
    assert both == read(**values, **{field: 2}) == lc.Params(mirostat_tau=3.0, mirostat_eta=0.2)
    assert read(**{field: 2}) == lc.Params(mirostat_tau=usual[0], mirostat_eta=usual[1])
    for off in (0, -1):
        assert read(**{field: off}, **values) == lc.Params()
    for no_version in ({}, {field: None}):
        assert read(**no_version, **values) == lc.Params()
    for wrong in ("2", 2.0, True):
        with pytest.raises(TypeError, match=f"field '{field}': {field} must be 0 or 2, not"):
            read(**{field: wrong})
    for other in (1, 3):
        if dialect == "exllamav2":
            assert read(**{field: other}) == lc.Params()
            continue
        with pytest.raises(
            ValueError, match=f"{field} must be 0 or 2, only version 2 is supported, n"
        ):
            read(**{field: other})
    with pytest.raises(ValueError, match=r"mirostat_tau must be in \(0, inf\), not 0"):
        read(**{field: 2}, mirostat_tau=0)


#: Each with a value that is on, under our own name.
CONTROLS = {
    **{"dynatemp_range": 0.5, "top_n_sigma": 1.0, "top_k": 5, "top_p": 0.5, "min_p": 0.1},
    **{"typical_p": 0.5, "top_a": 0.1, "epsilon_cutoff": 0.1, "eta_cutoff": 0.1, "tfs": 0.5},
    **{"p_less": True, "top_h": 0.5, "xtc_probability": 0.5, "adaptive_target": 0.5},
    **{"smoothing_factor": 0.5, "dry_multiplier": 0.5, "repetition_penalty": 1.5},
    **{"presence_penalty": 0.5, "temperature": 0.5},
}


@pytest.mark.parametrize(
    ("dialect", "stay"),
    [
        ("llama_cpp", ["temperature"]),
        (
            "koboldcpp",
            [
                *("temperature", "smoothing_factor", "dry_multiplier"),
                *("repetition_penalty", "presence_penalty"),
            ],
        ),
        ("text_generation_webui", [*CONTROLS]),
    ],
)
def test_what_an_engine_leaves_out_beside_mirostat_is_off(dialect, stay):
    fields = (
        CONTROLS if dialect != "text_generation_webui" else CONTROLS | {"epsilon_cutoff": 1000.0}
    )
    fields |= {"eta_cutoff": 1000.0} if dialect == "text_generation_webui" else {}
    mode = "mirostat_mode" if dialect == "text_generation_webui" else "mirostat"
    masks = {"logit_bias": {"5": 1.0}, "banned_tokens": [7]}
    on = {"mirostat_tau": 5.0, "mirostat_eta": 0.1}
    expected = lc.Params(**on, **masks, **{name: CONTROLS[name] for name in stay})
    for body in ({mode: 2, **fields, **masks}, {**fields, **masks, mode: 2}):
        assert lc.Params.from_request(body, dialect=dialect) == expected


def test_every_control_that_mirostat_switches_off_is_in_the_table_above():
    names = {name for name, field in lc.FIELDS.items() if name in CONTROLS}
    switches = {x.name for control in lc.presets.NAMED.values() for x in control.switched_by}
    others = {"mirostat_tau", "frequency_penalty", "xtc_threshold", "logit_bias", "watermark"}
    masks = {x.name for name in lc.presets.MASKS for x in lc.presets.NAMED[name].switched_by}
    assert names == switches - others - masks


# ---- windows, ends and biases of single engines


def test_the_context_sizes_of_mlx_lm_are_one_window():
    def read(**body):
        return lc.Params.from_request(body, dialect="mlx_lm")

    on = {"repetition_penalty": 1.5}
    for size, window in ((50, 50), (0, ALL)):
        expected = lc.Params(**on, penalty_window=window)
        assert read(**on, repetition_context_size=size) == expected
        assert read(repetition_context_size=size, **on, presence_context_size=7) == expected
        assert read(repetition_context_size=size) == lc.Params()
    both = on | {"presence_penalty": 0.5}
    assert read(**both) == lc.Params(**both)
    sizes = {"repetition_context_size": 50, "presence_context_size": 50}
    assert read(**both, **sizes) == lc.Params(**both, penalty_window=50)
    with pytest.raises(ValueError, match="context_size must be 20, the context size of presence_p"):
        read(**both, repetition_context_size=50)
    with pytest.raises(
        ValueError, match="repetition_context_size must be 9, the context size of pr"
    ):
        read(**both, **sizes | {"presence_context_size": 9})
    for wrong in (-1, 1.0, True, "x"):
        with pytest.raises((TypeError, ValueError), match="frequency_context_size must be"):
            read(frequency_context_size=wrong)


def test_frequency_penalty_of_koboldcpp_is_that_of_presence_unless_both_are_there():
    def read(**body):
        return lc.Params.from_request(body, dialect="koboldcpp")

    assert read(frequency_penalty=0.5) == lc.Params(presence_penalty=0.5)
    assert read(frequency_penalty=0.5, presence_penalty=0) == lc.Params(frequency_penalty=0.5)
    assert "frequency_penalty" not in [step.name for step in lc.Chain.preset("koboldcpp").steps]


def test_stops_of_tabbyapi_are_phrases_or_token_ids():
    for dialect in ("exllamav2", "exllamav3"):
        for field in ("stop", "stop_sequence"):
            read = lc.Params.from_request({field: ["a", 5, 7]}, dialect=dialect)
            assert read == lc.Params(stop=["a"], eos_token=[5, 7])
            assert lc.Params.from_request({field: "a"}, dialect=dialect) == lc.Params(stop=["a"])
            assert lc.Params.from_request({field: [5]}, dialect=dialect) == lc.Params(eos_token=5)
            with pytest.raises(TypeError, match=f"field '{field}': "):
                lc.Params.from_request({field: [True]}, dialect=dialect)


def test_the_end_tokens_of_openvino_genai_are_all_that_are_named():
    def read(**body):
        return lc.Params.from_request(body, dialect="openvino_genai", eos_token=9)

    assert read(eos_token_id=2, stop_token_ids=[3, 2]).eos_token == (3, 2, 9)
    assert read(stop_token_ids=[3]).eos_token == (3, 9)
    assert read(eos_token_id=2).eos_token == (2, 9)
    assert read(eos_token_id=-1).eos_token == (9,)
    assert read(ignore_eos=True, eos_token_id=2).eos_token == ()
    assert read(eos_token_id=2, ignore_eos=True).eos_token == ()
    with pytest.raises(TypeError, match="field 'eos_token_id': eos_token must be"):
        read(eos_token_id="2")


@pytest.mark.parametrize(
    ("bias", "text"),
    [
        (5, "sequence_bias must be a list of [[token id], number], not 5"),
        ([5], "sequence_bias must hold pairs [[token id], number], not 5"),
        ([[[1, 2], 1.0]], "sequence_bias must be of single tokens, not [1, 2]"),
        ([[5, 1.0]], "sequence_bias must be of single tokens, not 5"),
        ([[["a"], 1.0]], "a token id in sequence_bias must be an integer, not 'a'"),
        ([[[5], 1.0], [[5], 2.0]], "sequence_bias names token 5 twice"),
        ([[[5], inf]], "logit_bias[5] must be in [-inf, inf), not inf"),
    ],
)
def test_an_error_of_a_sequence_bias_says_what_is_wrong(bias, text):
    with pytest.raises((TypeError, ValueError)) as error:
        lc.Params.from_request({"sequence_bias": bias}, dialect="transformers")
    assert str(error.value) == f"request body, field 'sequence_bias': {text}"


def test_do_sample_of_other_engines():
    for dialect in ("transformers", "openvino_genai"):
        body = {"do_sample": False, "temperature": 0.7}
        assert lc.Params.from_request(body, dialect=dialect) == lc.Params(temperature=0)
        body["do_sample"] = True
        assert lc.Params.from_request(body, dialect=dialect) == lc.Params(temperature=0.7)


@pytest.mark.parametrize("field", ["ban_eos_token", "ignore_eos", "use_default_badwordsids"])
def test_tabbyapi_bans_the_end(field):
    for dialect in ("exllamav2", "exllamav3"):
        assert parsed(dialect, {field: True}, 2) == ((), (2,))
        assert parsed(dialect, {field: False}, 2) == ((2,), ())


def test_logprobs_of_the_completions_api_are_a_number():
    for dialect in ("vllm", "sglang", "text_generation_webui"):
        read = lc.Params.from_request({"logprobs": 5}, dialect=dialect)
        assert read == lc.Params(logprobs=True, top_logprobs=5)
        assert lc.Params.from_request({"logprobs": 0}, dialect=dialect) == lc.Params(logprobs=True)
        read = lc.Params.from_request({"logprobs": True, "top_logprobs": 2}, dialect=dialect)
        assert read == lc.Params(logprobs=True, top_logprobs=2)
    for dialect in ("llama_cpp", "exllamav2", "exllamav3", "openvino_genai"):
        assert lc.Params.from_request({"logprobs": 0}, dialect=dialect) == lc.Params()


def test_what_is_nested_is_read_as_if_it_were_not():
    body = {"text": "Once", "sampling_params": {"max_new_tokens": 5, "top_k": -1}}
    assert lc.Params.from_request(body, dialect="sglang") == lc.Params(max_tokens=5)
    with pytest.raises(ValueError, match=r"unknown field 'top-k'.* did you mean 'top_k'"):
        lc.Params.from_request({"sampling_params": {"top-k": 5}}, dialect="sglang")
    with pytest.raises(ValueError, match="has top_k twice"):
        lc.Params.from_request(body | {"top_k": 5}, dialect="sglang")
    with pytest.raises(TypeError, match="field 'sampling_params': must be a JSON object, not"):
        lc.Params.from_request({"sampling_params": [{}]}, dialect="sglang")


@pytest.mark.parametrize("value", [["a phrase"], ["5"], "x", [1.0], {"5": 1}])
def test_koboldcpps_banned_phrases_are_refused(value):
    with pytest.raises((TypeError, ValueError), match="field 'banned_tokens': banned_tokens must"):
        lc.Params.from_request({"banned_tokens": value}, dialect="koboldcpp")


@pytest.mark.parametrize("value", ["a", "5;7", "-1", "9" * 5000, ["5"], 5])
def test_bans_in_a_string_are_token_ids(value):
    with pytest.raises(
        (TypeError, ValueError), match="custom_token_bans must be token ids"
    ) as error:
        lc.Params.from_request({"custom_token_bans": value}, dialect="koboldcpp")
    assert len(str(error.value)) < 700


# ---- llama.cpp's biases


@pytest.mark.parametrize(
    ("bias", "text"),
    [
        (5, "logit_bias must be a mapping of token ids to numbers or a list of [token id, number]"),
        ([5], "logit_bias must hold pairs [token id, number], not 5"),
        ([[5]], "logit_bias must hold pairs [token id, number], not [5]"),
        ([[5, 1, 2]], "logit_bias must hold pairs [token id, number], not [5, 1, 2]"),
        ([[[5], 1.0]], "a token id in logit_bias must be an integer, not [5]"),
        ([["Hello", 1.0]], "a token id in logit_bias must be an integer in"),
        ([[5, True]], "logit_bias[5] must be a number in [-inf, inf), not True"),
        ([[1, 2.0], [1, 3.0]], "logit_bias names token 1 twice"),
        ([[1, 2.0], ["1", 3.0]], "logit_bias names token 1 twice"),
    ],
)
def test_an_error_of_a_bias_says_what_is_wrong(bias, text):
    with pytest.raises((TypeError, ValueError), match="field 'logit_bias'") as error:
        lc.Params.from_request({"logit_bias": bias}, dialect="llama_cpp")
    assert str(error.value).startswith(f"request body, field 'logit_bias': {text}")


def test_many_pairs_are_read_in_a_time_proportional_to_them():
    def read(count):
        body = {"logit_bias": [[token, 1.0] for token in range(count)]}
        start = time.process_time()
        assert len(lc.Params.from_request(body, dialect="llama_cpp").logit_bias) == count
        return time.process_time() - start

    assert read(100_000) < 2.0  # a quadratic reader takes minutes


# ---- the adapter


@pytest.mark.parametrize("given", [None, -1])
def test_an_adapter_of_vllm_draws_a_seed_for_a_request_without_one(given):
    def request(fields, seed=given):
        asked = SimpleNamespace(extra_args={"logitchain": fields}, seed=seed, n=1)
        return Processor._request(asked, 11)

    for fields in ({"min_p": 0.5}, {"min_p": 0.5, "seed": -1}, {"seed": None}):
        assert request(fields).params.seed == 11
        assert not request(fields).has_seed
        assert request(fields, seed=5).params.seed == 5
    assert request({"seed": 0}).params.seed == 0
    assert request({"seed": 0}).has_seed
