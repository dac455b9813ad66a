"""Bodies as the users of other engines send them: what each field there means here."""

import time
from math import inf, nan
from types import SimpleNamespace

import pytest

import logitchain as lc
from logitchain.dialects import DIALECTS, ENGINE, NOT_SAMPLING, Lacking, Spelling
from logitchain.engines.vllm import Processor

# dialect, spelling, value -> our field, value
SPELLINGS = [
    ("openai", "max_completion_tokens", 9, "max_tokens", 9),
    ("vllm", "max_completion_tokens", 9, "max_tokens", 9),
    ("vllm", "seed", -1, "seed", None),
    ("vllm", "seed", 5, "seed", 5),
    ("vllm", "top_k", -1, "top_k", 0),
    ("vllm", "top_k", 5, "top_k", 5),
    ("vllm", "stop_token_ids", [1, 2], "eos_token", (1, 2)),
    ("vllm", "allowed_token_ids", [1, 2], "allowed_tokens", (1, 2)),
    ("sglang", "max_new_tokens", 9, "max_tokens", 9),
    ("sglang", "max_completion_tokens", 9, "max_tokens", 9),
    ("sglang", "min_new_tokens", 9, "min_tokens", 9),
    ("sglang", "top_k", -1, "top_k", 0),
    ("sglang", "top_k", 2**30, "top_k", 0),
    ("sglang", "sampling_seed", 9, "seed", 9),
    ("sglang", "sampling_seed", -1, "seed", -1),
    ("sglang", "return_logprob", True, "logprobs", True),
    ("sglang", "top_logprobs_num", 3, "top_logprobs", 3),
    ("sglang", "stop_token_ids", [1, 2], "eos_token", (1, 2)),
    ("llama_cpp", "max_completion_tokens", 9, "max_tokens", 9),
    ("llama_cpp", "n_predict", 9, "max_tokens", 9),
    ("llama_cpp", "n_predict", -1, "max_tokens", None),
    ("llama_cpp", "repeat_penalty", 1.5, "repetition_penalty", 1.5),
    ("llama_cpp", "n_probs", 5, "top_logprobs", 5),
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
    body = {spelling: value, "model": "m"}
    assert lc.Params.from_request(body, dialect=dialect) == lc.Params(**{field: ours})


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
        | {"xtc_threshold": 0.2},
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
        {"max_tokens": 512, "xtc_threshold": 0.1},
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


# ---- controls that are not here

#: dialect, field, values with which it is off, values with which it is not
LACKING = [
    *[("llama_cpp", "tfs_z", (1, 1.0), (0.9, 0, True, "1"))],
    *[("llama_cpp", "mirostat", (0,), (1, 2, False))],
    *[("llama_cpp", "adaptive_target", (-1.0, -0.5), (0, 0.5))],
    *[("llama_cpp", "dynatemp_range", (0, -1), (0.5,)), ("llama_cpp", "min_keep", (0,), (1,))],
    *[("llama_cpp", "dry_multiplier", (0, 0.0), (0.8, nan))],
    *[("koboldcpp", "mirostat", (0,), (2,)), ("koboldcpp", "rep_pen_range", (64,), ())],
    *[("koboldcpp", "banned_strings", ([],), (["a"], "a"))],
    *[("text_generation_webui", "temperature_last", (False,), (True, 1))],
    *[("text_generation_webui", "dynamic_temperature", (False,), (True,))],
    *[("text_generation_webui", "penalty_alpha", (0,), (0.6,))],
    *[("text_generation_webui", "preset", (), ("min_p",))],
    *[("vllm", "use_beam_search", (False,), (True, 0)), ("vllm", "best_of", (1,), (2,))],
    *[("vllm", "include_stop_str_in_output", (False,), (True,))],
    *[("vllm", "repetition_detection", (), ({},))],
    *[("sglang", "stop_regex", ([], ""), ("a+", ["a"]))],
    *[("sglang", "no_stop_trim", (False,), (True,))],
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


def test_the_error_says_which_value_is_off():
    with pytest.raises(ValueError, match="request body") as error:
        lc.Params.from_request({"tfs_z": 0.9}, dialect="llama_cpp")
    assert str(error.value) == (
        "request body, field 'tfs_z': tfs_z is not supported: it must be 1, which is off, not 0.9"
    )
    with pytest.raises(ValueError, match=r"it must be in \(-inf, 0\), which is off, not 0.5"):
        lc.Params.from_request({"adaptive_target": 0.5}, dialect="llama_cpp")
    with pytest.raises(ValueError, match="it must be null, which is off, not 'x'"):
        lc.Params.from_request({"preset": "x"}, dialect="text_generation_webui")


def test_a_window_of_the_penalties_needs_them_off_or_the_value_of_the_chain():
    on = {"repetition_penalty": 1.1}
    for window in (1024, 0):
        body = on | {"repetition_penalty_range": window}
        params = lc.Params.from_request(body, dialect="text_generation_webui")
        assert params.repetition_penalty == 1.1
    for body in (on | {"repetition_penalty_range": 9}, {"repetition_penalty_range": 9} | on):
        with pytest.raises(ValueError, match="range is not supported: it must be 1024 or 0"):
            lc.Params.from_request(body, dialect="text_generation_webui")


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


def test_logprobs_of_the_completions_api_are_a_number():
    for dialect in ("vllm", "sglang", "text_generation_webui"):
        read = lc.Params.from_request({"logprobs": 5}, dialect=dialect)
        assert read == lc.Params(logprobs=True, top_logprobs=5)
        assert lc.Params.from_request({"logprobs": 0}, dialect=dialect) == lc.Params(logprobs=True)
        read = lc.Params.from_request({"logprobs": True, "top_logprobs": 2}, dialect=dialect)
        assert read == lc.Params(logprobs=True, top_logprobs=2)
    assert lc.Params.from_request({"logprobs": 0}, dialect="llama_cpp") == lc.Params()


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
