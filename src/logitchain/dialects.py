"""The fields of a request body in other engines' servers, and what each means here.

`DIALECTS` has one table per engine: field of the body -> rule. Names that no table has are those of
`Params`, or are in `NOT_SAMPLING`. `docs/dialects.md` lists all of them with the versions read.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from .inputs.values import listed, show

Values = dict[str, Any]


@dataclass
class Reading:
    """What has been read of a request body.

    fields     field of `Params` -> what is known of it: its check and its off value
    eos_token  the end tokens of the model itself
    values     field of `Params` -> value
    spelled    field of `Params` -> the field of the body that has given it
    """

    fields: Mapping[str, Any]
    eos_token: tuple[int, ...]
    values: Values = dataclasses.field(default_factory=dict)
    spelled: dict[str, str] = dataclasses.field(default_factory=dict)


class Rule:
    """What a field of a body means. This one: nothing to sampling, the engine reads it."""

    def read(self, name: str, value: Any) -> Values:
        """The fields of `Params` that the field `name` with this value stands for."""
        return {}

    def finish(self, name: str, value: Any, reading: Reading) -> None:
        """Check or change the reading, once all fields have been read."""


ENGINE = Rule()


@dataclass(frozen=True)
class Spelling(Rule):
    """A field of `Params` by another name, with `values` of another meaning, or so translated."""

    field: str
    values: Mapping[int, Any] = dataclasses.field(default_factory=dict)
    translate: Callable[[Any], Any] | None = None

    def read(self, name: str, value: Any) -> Values:
        """The field's value."""
        if type(value) is int and value in self.values:
            value = self.values[value]
        elif self.translate is not None:
            value = self.translate(value)
        return {} if value is None else {self.field: value}


@dataclass(frozen=True)
class Logprobs(Rule):
    """`logprobs` of chat completions, a flag, and of completions, how many of the best tokens."""

    zero: bool = True  # whether 0 asks for the log-probability of the chosen token

    def read(self, name: str, value: Any) -> Values:
        """One or both fields."""
        if isinstance(value, bool) or not isinstance(value, int):
            return {"logprobs": value}
        return {"logprobs": True, "top_logprobs": value} if value or self.zero else {}


@dataclass(frozen=True)
class Lacking(Rule):
    """A control that logitchain lacks: an error, unless it is off.

    off      its off values
    at_most  numbers up to this one are off, too
    below    numbers below this one are off, too
    scales   the fields that it adjusts: with all of these off it has no effect
    """

    off: tuple[Any, ...] = ()
    at_most: float = -inf
    below: float = -inf
    scales: tuple[str, ...] = ()

    def finish(self, name: str, value: Any, reading: Reading) -> None:
        """Raise ValueError for a value that is not off."""
        if self._is_off(value):
            return
        scaled = {x: reading.values.get(x, reading.fields[x].off) for x in self.scales}
        if scaled and all(scaled[x] == reading.fields[x].off for x in scaled):
            return
        why = f"or {', '.join(scaled)} must be off" if scaled else "which is off"
        raise ValueError(
            f"{name} is not supported: it must be {self._range()}, {why}, not {show(value)}"
        )

    def _is_off(self, value: Any) -> bool:
        if _is_number(value):
            numbers = [off for off in self.off if not isinstance(off, bool)]
            return value in numbers or value <= self.at_most or value < self.below
        return any(type(value) is type(off) and value == off for off in self.off)

    def _range(self) -> str:
        ranges = [show(off) for off in self.off] or ["null"]
        if self.at_most > -inf:
            ranges = [f"in (-inf, {self.at_most:g}]"]
        elif self.below > -inf:
            ranges = [f"in (-inf, {self.below:g})"]
        return " or ".join(ranges)


@dataclass(frozen=True)
class Setting(Rule):
    """With the value `when`, it sets a field of `Params` whatever else the body says."""

    when: bool
    field: str
    to: Any

    def read(self, name: str, value: Any) -> Values:
        """Nothing yet; raises TypeError unless the value is a flag."""
        _flag(name, value)
        return {}

    def finish(self, name: str, value: Any, reading: Reading) -> None:
        """Set the field."""
        if value == self.when:
            reading.values[self.field] = self.to


@dataclass(frozen=True)
class NoEnd(Rule):
    """With true, the end of text does not end the text.

    bans    whether the end tokens are removed, so that none is generated
    keeps   the field of the body whose tokens end the text all the same
    """

    bans: bool = False
    keeps: str = ""

    def read(self, name: str, value: Any) -> Values:
        """Nothing yet; raises TypeError unless the value is a flag."""
        _flag(name, value)
        return {}

    def finish(self, name: str, value: Any, reading: Reading) -> None:
        """Take the end tokens away."""
        if not value:
            return
        values, ends = reading.values, (*reading.values.get("eos_token", ()), *reading.eos_token)
        reading.eos_token = ()
        if reading.spelled.get("eos_token") != self.keeps:
            values["eos_token"] = ()
        if self.bans and ends:
            values["banned_tokens"] = tuple(
                dict.fromkeys((*values.get("banned_tokens", ()), *ends))
            )


class Nested(Rule):
    """A mapping whose fields are read as if they stood in the body."""


def flat(body: Mapping[str, Any], rules: Mapping[str, Rule]) -> Iterator[tuple[Any, Any]]:
    """The fields of a body and of what is nested in it."""
    for key, value in body.items():
        if not isinstance(rules.get(key), Nested) or value is None:
            yield key, value
        elif isinstance(value, Mapping):
            yield from value.items()
        else:
            raise TypeError(
                f"request body, field {key!r}: must be a JSON object, not {show(value)}"
            )


# ---- values of other forms


def _flag(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be true or false, not {show(value)}")


def _off_up_to(limit: int, off: Any, *others: int) -> Callable[[Any], Any]:
    """Integers up to the limit, and some others, are the off value."""

    def translate(value: Any) -> Any:
        return off if type(value) is int and (value <= limit or value in others) else value

    return translate


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _off_from_1(value: Any) -> Any:
    """Numbers from 1 on are 1.0, the off value."""
    return 1.0 if _is_number(value) and value >= 1 else value


def _of_10_000(value: Any) -> Any:
    """A probability in units of 1 / 10,000."""
    return value * 1e-4 if _is_number(value) else value


def _off_up_to_0(value: Any) -> Any:
    """Numbers up to 0 are off."""
    return 0.0 if type(value) in (int, float) and value <= 0 else value


def _llama_cpp_bias(value: Any) -> Any:
    """A mapping or a list of pairs, in which false bans."""
    if not isinstance(value, (Mapping, list, tuple)):
        raise TypeError(
            "logit_bias must be a mapping of token ids to numbers "
            f"or a list of [token id, number], not {show(value)}"
        )
    pairs = list(value.items()) if isinstance(value, Mapping) else list(value)
    bias: dict[Any, Any] = {}
    for pair in pairs:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise TypeError(f"logit_bias must hold pairs [token id, number], not {show(pair)}")
        token, number = pair
        if not isinstance(token, (int, str)):
            raise TypeError(f"a token id in logit_bias must be an integer, not {show(token)}")
        if token in bias:
            raise ValueError(f"logit_bias names token {show(token)} twice")
        bias[token] = -inf if number is False else number
    return bias


def _listed_in_text(value: Any) -> Any:
    """Token ids in a string, separated by commas."""
    if not isinstance(value, str):
        raise TypeError(f"custom_token_bans must be token ids in a string, not {show(value)}")
    words = [word.strip() for word in value.split(",") if word.strip()]
    for word in words:
        if not (word.isascii() and word.isdecimal() and len(word) < 20):
            raise ValueError(f"custom_token_bans must be token ids, not {show(word)}")
    return [int(word) for word in words] or None


def _koboldcpp_bans(value: Any) -> Any:
    """Token ids here, but phrases there, for which there is no control."""
    bans = listed("banned_tokens", value, "a list") if isinstance(value, (list, tuple)) else value
    if isinstance(bans, list) and any(isinstance(ban, str) for ban in bans):
        raise ValueError(
            f"banned_tokens must be token ids, phrases are not supported, not {show(bans)}"
        )
    return bans if bans != [] else None


def _ngram_size(value: Any) -> Any:
    """A size of 1, which is off in a request here, lets no token come twice there."""
    if type(value) is int and value == 1:
        raise ValueError("no_repeat_ngram_size must be 0 or more than 1, not 1")
    return value


def _engine(names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), ENGINE)


_NO_LIMIT = {-1: None}
_PENALTIES = ("repetition_penalty", "frequency_penalty", "presence_penalty")
_OFF_AT_0 = Lacking(off=(0,), at_most=0)
_OFF_AT_1 = Lacking(off=(1,))
_OFF_IF_FALSE = Lacking(off=(False,))
_OFF_IF_NULL = Lacking()


def _window(*off: int) -> Rule:
    """How far back the penalties look, which is an option of the chain."""
    return Lacking(off=off, scales=_PENALTIES)


# ---- the tables

#: Fields of a chat-completions body that say nothing about sampling: the engine reads them.
NOT_SAMPLING = frozenset(
    _engine(
        """
        messages model stream stream_options response_format resume_generation
        tools tool_choice parallel_tool_calls functions function_call
        chat_template_kwargs reasoning_effort verbosity modalities audio
        prediction web_search_options user metadata store service_tier
        safety_identifier prompt_cache_key
        """
    )
)

#: Of the completions API, which is older than chat completions.
_COMPLETIONS: dict[str, Rule] = {
    "best_of": _OFF_AT_1,
    "max_completion_tokens": Spelling("max_tokens"),
    **_engine("prompt suffix echo"),
}

DIALECTS: dict[str, dict[str, Rule]] = {
    "openai": _COMPLETIONS,
    "vllm": {
        **_COMPLETIONS,
        "allowed_token_ids": Spelling("allowed_tokens"),
        "logprobs": Logprobs(),
        "seed": Spelling("seed", {-1: None}),
        "stop_token_ids": Spelling("eos_token"),
        "top_k": Spelling("top_k", {-1: 0}),
        "ignore_eos": NoEnd(keeps="stop_token_ids"),
        "sampling_params": Nested(),
        "include_stop_str_in_output": _OFF_IF_FALSE,
        "repetition_detection": _OFF_IF_NULL,
        "trace_decode_token_ids": _OFF_IF_NULL,
        "use_beam_search": _OFF_IF_FALSE,
        "watermarking": _OFF_IF_FALSE,
        **_engine(
            """
            add_generation_prompt add_special_tokens cache_salt chat_template
            continue_final_message detokenize documents early_stopping ec_transfer_params extra_args
            features flat_logprobs guided_choice guided_decoding guided_decoding_backend
            guided_grammar guided_json guided_json_object guided_regex guided_whitespace_pattern
            include_reasoning kv_transfer_params length_penalty logprob_token_ids media_io_kwargs
            mm_processor_kwargs output_kind priority prompt_embeds prompt_logprob_start
            prompt_logprob_token_ids prompt_logprobs request_id return_mm_kwargs return_prompt_text
            return_token_ids return_token_offsets return_tokens_as_token_ids
            routed_experts_prompt_start session_id skip_clone skip_reading_prefix_cache
            skip_special_tokens spaces_between_special_tokens stream_interval structural_tag
            structured_outputs thinking_token_budget token_ids truncate_prompt_tokens
            truncation_side vllm_xargs
            """
        ),
    },
    "sglang": {
        **_COMPLETIONS,
        "logprobs": Logprobs(),
        "max_new_tokens": Spelling("max_tokens"),
        "min_new_tokens": Spelling("min_tokens"),
        "return_logprob": Spelling("logprobs"),
        "sampling_seed": Spelling("seed"),
        "stop_token_ids": Spelling("eos_token"),
        "top_k": Spelling("top_k", {-1: 0, 2**30: 0}),
        "top_logprobs_num": Spelling("top_logprobs"),
        "ignore_eos": NoEnd(),
        "sampling_params": Nested(),
        "beam_width": _OFF_AT_1,
        "no_stop_trim": _OFF_IF_FALSE,
        "stop_regex": Lacking(off=([], "")),
        "watermark": _OFF_IF_FALSE,
        **_engine(
            """
            audio_data background bootstrap_host bootstrap_pair_key bootstrap_port bootstrap_room
            cache_salt continue_final_message conversation_id custom_labels custom_logit_processor
            custom_params data_parallel_rank decode_tp_size disagg_prefill_dp_rank ebnf
            external_trace_header extra_key image_data image_max_dynamic_patch images_config
            input_embeds input_ids json_schema kv_router_hint log_metrics logprob_start_len lora_id
            lora_path max_dynamic_patch max_thinking_tokens min_dynamic_patch mm_content_hashes
            mm_hashes multi_item_delimiter_indices ngram_corpus_id no_logs
            positional_embed_overrides priority reasoning regex require_reasoning return_bytes
            return_cached_tokens_details return_entropy return_flat_raw_top_logprobs
            return_flat_raw_top_logprobs_b64 return_hidden_states return_indexer_topk
            return_meta_info return_prompt_token_ids return_routed_experts return_sampling_mask
            return_text_in_logprobs return_token_ids rid routed_dp_rank routed_experts_start_len
            routing_key separate_reasoning session_id session_params skip_special_tokens
            spaces_between_special_tokens stream_interval stream_reasoning structural_tag task text
            token_ids_logprob use_audio_in_video video_config video_data video_max_dynamic_patch
            """
        ),
    },
    "llama_cpp": {
        **_COMPLETIONS,
        "logit_bias": Spelling("logit_bias", translate=_llama_cpp_bias),
        "logprobs": Logprobs(zero=False),
        "max_completion_tokens": Spelling("max_tokens", _NO_LIMIT),
        "max_tokens": Spelling("max_tokens", _NO_LIMIT),
        "n_cmpl": Spelling("n"),
        "n_predict": Spelling("max_tokens", _NO_LIMIT),
        "n_probs": Spelling("top_logprobs"),
        "repeat_last_n": Spelling("penalty_window", {-1: 2**31 - 1}),  # -1 is the whole context
        "repeat_penalty": Spelling("repetition_penalty"),
        "seed": Spelling("seed", {-1: None, 2**32 - 1: None}),
        "top_k": Spelling("top_k", translate=_off_up_to(0, 0)),
        "top_n_sigma": Spelling("top_n_sigma", translate=_off_up_to_0),
        "typical_p": Spelling("typical_p", translate=_off_from_1),
        "ignore_eos": NoEnd(bans=True),
        "adaptive_target": Lacking(below=0),
        "dry_multiplier": _OFF_AT_0,
        "dynatemp_range": _OFF_AT_0,
        "min_keep": _OFF_AT_0,
        "mirostat": _OFF_AT_0,
        "penalize_nl": _OFF_IF_FALSE,
        "tfs_z": _OFF_AT_1,
        **_engine(
            """
            adaptive_decay add_generation_prompt backend_sampling cache_prompt chat_format
            chat_parser continue_final_message dry_allowed_length dry_base dry_penalty_last_n
            dry_sequence_breakers dynatemp_exponent generation_prompt grammar grammar_lazy
            grammar_triggers grammar_type id_slot input_extra input_prefix input_suffix json_schema
            lora mirostat_eta mirostat_tau n_cache_reuse n_discard n_indent n_keep parse_tool_calls
            post_sampling_probs preserved_tokens prompt_logprobs reasoning_budget_end_tag
            reasoning_budget_end_tags reasoning_budget_message reasoning_budget_start_tag
            reasoning_budget_tokens reasoning_control reasoning_format reasoning_in_content
            response_fields return_progress return_tokens samplers speculative.n_max
            speculative.n_min speculative.p_min speculative.type sse_ping_interval
            t_max_predict_ms t_max_prompt_ms thinking_forced_open timings_per_token verbose
            """
        ),
    },
    "koboldcpp": {
        **_COMPLETIONS,
        "banned_tokens": Spelling("banned_tokens", translate=_koboldcpp_bans),
        "custom_token_bans": Spelling("banned_tokens", translate=_listed_in_text),
        "max_length": Spelling("max_tokens"),
        "nsigma": Spelling("top_n_sigma", translate=_off_up_to_0),
        "rep_pen": Spelling("repetition_penalty"),
        "repeat_penalty": Spelling("repetition_penalty"),
        "sampler_seed": Spelling("seed", translate=_off_up_to(0, None, 2**32 - 1)),
        "seed": Spelling("seed", translate=_off_up_to(0, None, 2**32 - 1)),
        "stop_sequence": Spelling("stop"),
        "top_k": Spelling("top_k", translate=_off_up_to(0, 0)),
        "typical": Spelling("typical_p", translate=_off_from_1),
        "ban_eos_token": NoEnd(bans=True),
        "bypass_eos": NoEnd(),
        "use_default_badwordsids": NoEnd(bans=True),
        "adaptive_target": _OFF_AT_0,
        "banned_strings": Lacking(off=([],)),
        "dry_multiplier": _OFF_AT_0,
        "dynatemp_range": _OFF_AT_0,
        "guidance_scale": _OFF_AT_1,
        "mirostat": _OFF_AT_0,
        "mirostat_mode": _OFF_AT_0,
        "rep_pen_range": _window(320),
        "rep_pen_slope": _window(1),
        **_engine(
            """
            adapter adaptive_decay dry_allowed_length dry_base dry_penalty_last_n
            dry_sequence_breakers dynatemp_exponent genkey grammar grammar_retain_state image images
            max_context_length memory mirostat_eta mirostat_tau negative_prompt quiet
            render_special replace_instruct_placeholders sampler_order trim_stop
            using_openai_tools
            """
        ),
    },
    "text_generation_webui": {
        **_COMPLETIONS,
        "custom_stopping_strings": Spelling("stop"),
        "custom_token_bans": Spelling("banned_tokens", translate=_listed_in_text),
        "epsilon_cutoff": Spelling("epsilon_cutoff", translate=_of_10_000),
        "eta_cutoff": Spelling("eta_cutoff", translate=_of_10_000),
        "logprobs": Logprobs(),
        "max_new_tokens": Spelling("max_tokens"),
        "no_repeat_ngram_size": Spelling("no_repeat_ngram", translate=_ngram_size),
        "seed": Spelling("seed", {-1: None}),
        "stopping_strings": Spelling("stop"),
        "top_n_sigma": Spelling("top_n_sigma", translate=_off_up_to_0),
        "auto_max_new_tokens": Setting(True, "max_tokens", None),
        "ban_eos_token": NoEnd(bans=True),
        "do_sample": Setting(False, "temperature", 0.0),
        "adaptive_target": _OFF_AT_0,
        "dry_multiplier": _OFF_AT_0,
        "dynamic_temperature": _OFF_IF_FALSE,
        "encoder_repetition_penalty": _OFF_AT_1,
        "guidance_scale": _OFF_AT_1,
        "mirostat_mode": _OFF_AT_0,
        "penalty_alpha": _OFF_AT_0,
        "preset": _OFF_IF_NULL,
        "repetition_penalty_range": _window(1024, 0),
        "temperature_last": _OFF_IF_FALSE,
        **_engine(
            """
            adaptive_decay add_bos_token bot_name character chat_instruct_command chat_template_str
            context continue_ dry_allowed_length dry_base dry_sequence_breakers dynatemp_exponent
            dynatemp_high dynatemp_low enable_thinking grammar_string greeting instruction_template
            instruction_template_str max_tokens_second mirostat_eta mirostat_tau mode name1 name2
            negative_prompt preserve_thinking prompt_lookup_num_tokens sampler_priority
            skip_special_tokens static_cache truncation_length user_bio user_name
            """
        ),
    },
}
