"""The fields of a request: one table, one check of a value, one parser of a request body.

The table is the class `Params` itself: each line is a field's name, type, off value and range.
"""

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .arrays import items, listed, one_of, show

Check = Callable[[str, Any], Any]


@dataclass(frozen=True)
class Interval:
    """A range of numbers in the usual notation, such as `(0, 1]`."""

    text: str

    @property
    def bounds(self) -> tuple[float, float]:
        """The lower and the upper end; the vocabulary's size, known later, counts as infinite."""
        ends = self.text[1:-1].replace("vocab_size", "inf").split(", ")
        low, high = (float(end) if "inf" in end else int(end) for end in ends)
        return low, high

    def __contains__(self, value: float) -> bool:
        """Whether a number lies in the range; NaN never does."""
        low, high = self.bounds
        above = value > low if self.text[0] == "(" else value >= low
        below = value < high if self.text[-1] == ")" else value <= high
        return above and below


@dataclass(frozen=True)
class Field:
    """One row of the table."""

    name: str
    off: Any
    interval: str  # what a request may carry
    domain: str  # what the pure function accepts
    integer: bool
    check: Check  # (name, value) -> the value to store


def _number(off: Any, interval: str, domain: str = "", *, integer: bool = False) -> Any:
    def check(name: str, value: Any) -> Any:
        return (
            whole_number(name, value, interval) if integer else real_number(name, value, interval)
        )

    return _row(off, check, interval, domain or interval, integer)


def _row(
    off: Any, check: Check, interval: str = "", domain: str = "", integer: bool = False
) -> Any:
    metadata = {"check": check, "interval": interval, "domain": domain, "integer": integer}
    return dataclasses.field(default=off, metadata=metadata)


def _out_of_range(name: str, interval: str, value: Any) -> ValueError:
    return ValueError(f"{name} must be in {interval}, not {show(value)}")


def real_number(name: str, value: Any, interval: str) -> float:
    """A number in the interval as a float; bool is not a number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name} must be a number in {interval}, not {show(value)}")
    try:
        with np.errstate(over="ignore"):
            number = float(value)
    except OverflowError:
        number = math.inf if value > 0 else -math.inf
    if number not in Interval(interval):
        raise _out_of_range(name, interval, value)
    return number


def whole_number(name: str, value: Any, interval: str) -> int:
    """An integer in the interval; bool and 3.0 are not integers."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer in {interval}, not {show(value)}")
    if int(value) not in Interval(interval):
        raise _out_of_range(name, interval, value)
    return int(value)


def _optional(interval: str) -> Check:
    def check(name: str, value: Any) -> int | None:
        return None if value is None else whole_number(name, value, interval)

    return check


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be true or false, not {show(value)}")
    return bool(value)


def _seed(name: str, value: Any) -> int | tuple[int, ...] | None:
    if value is None:
        return None
    shape, seeds = items(name, value)
    if len(shape) > 1:
        raise TypeError(f"{name} must be an integer or one integer per sample, not {show(value)}")
    checked = tuple(whole_number(name, seed, SEED_INTERVAL) for seed in seeds)
    if not checked:
        raise ValueError(f"{name} must be an integer or one integer per sample, not {show(value)}")
    return checked if shape else checked[0]


def _stop(name: str, value: Any) -> tuple[str, ...]:
    phrases = (value,) if isinstance(value, str) else value
    if phrases is None:
        return ()
    if not isinstance(phrases, (list, tuple)) or not all(isinstance(s, str) for s in phrases):
        raise TypeError(f"{name} must be a string or a list of strings, not {show(value)}")
    if "" in phrases:
        raise ValueError(f"{name} must be non-empty strings, not {show(value)}")
    return tuple(phrases)


def _ids(name: str, value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    shape, ids = items(name, list(value) if isinstance(value, (Set, range)) else value)
    if len(shape) > 1:
        raise TypeError(f"{name} must be a token id or a list of them, not {show(value)}")
    return tuple(whole_number(name, token, ID_INTERVAL) for token in ids)


def _phrases(name: str, value: Any) -> tuple[tuple[int, ...], ...]:
    given = () if value is None else listed(name, value, "lists of token ids")
    phrases = []
    for phrase in given:
        shape, ids = items(name, phrase)
        if len(shape) != 1:
            raise TypeError(f"{name} must be lists of token ids, not {show(value)}")
        if not ids:
            raise ValueError(f"{name} must be non-empty lists of token ids, not {show(value)}")
        phrases.append(tuple(whole_number(name, token, ID_INTERVAL) for token in ids))
    return tuple(phrases)


def _bias(name: str, value: Any) -> Mapping[int, float]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping of token ids to numbers, not {show(value)}")
    bias: dict[int, float] = {}
    for key, number in value.items():
        token = whole_number(f"a token id in {name}", _from_json_key(key), ID_INTERVAL)
        if token in bias:
            raise ValueError(f"{name} names token {token} twice")
        bias[token] = real_number(f"{name}[{show(key)}]", number, BIAS_INTERVAL)
    return bias


def _from_json_key(key: Any) -> Any:
    """JSON has only string keys: "42" is the token id 42."""
    return int(key) if isinstance(key, str) and re.fullmatch("-?[0-9]{1,19}", key) else key


SEED_INTERVAL = f"[{-(2**63)}, {2**64 - 1}]"
ID_INTERVAL = "[0, vocab_size)"
BIAS_INTERVAL = "[-inf, inf)"


@dataclass(frozen=True, kw_only=True)
class Params:
    """What one request asks of its sampling. Every field has its off value by default.

    Raises ValueError or TypeError, naming field, range and value, for a value out of range.
    `docs/controls.md` has the meaning of each.

    >>> Params(temperature=0.8, top_p=0.95, seed=7).top_p
    0.95
    >>> Params(min_p=1.5)
    Traceback (most recent call last):
    ...
    ValueError: min_p must be in [0, 1], not 1.5
    """

    temperature: float = _number(1.0, "[0, inf)")
    top_k: int = _number(0, "[0, vocab_size]", integer=True)
    top_p: float = _number(1.0, "(0, 1]")
    min_p: float = _number(0.0, "[0, 1]")
    xtc_probability: float = _number(0.0, "[0, 1]")
    xtc_threshold: float = _number(0.0, "[0, 1]")
    repetition_penalty: float = _number(1.0, "(0, inf)")
    frequency_penalty: float = _number(0.0, "[-2, 2]", "(-inf, inf)")
    presence_penalty: float = _number(0.0, "[-2, 2]", "(-inf, inf)")
    allowed_tokens: tuple[int, ...] = _row((), _ids, ID_INTERVAL)
    banned_tokens: tuple[int, ...] = _row((), _ids, ID_INTERVAL)
    no_repeat_ngram: int = _number(0, "[0, inf)", integer=True)
    bad_words: tuple[tuple[int, ...], ...] = _row((), _phrases, ID_INTERVAL)
    logit_bias: Mapping[int, float] = dataclasses.field(
        default_factory=dict, metadata={"check": _bias, "interval": BIAS_INTERVAL}
    )
    seed: int | tuple[int, ...] | None = _row(None, _seed, SEED_INTERVAL)
    n: int = _number(1, "[1, inf)", integer=True)
    max_tokens: int | None = _row(None, _optional("[1, inf)"), "[1, inf)")
    min_tokens: int = _number(0, "[0, inf)", integer=True)
    stop: tuple[str, ...] = _row((), _stop)
    eos_token: tuple[int, ...] = _row((), _ids, ID_INTERVAL)
    logprobs: bool = _row(False, _flag)
    top_logprobs: int = _number(0, "[0, 20]", integer=True)

    def __post_init__(self) -> None:
        """Check every field and store it in its own form."""
        for name, field in FIELDS.items():
            object.__setattr__(self, name, field.check(name, getattr(self, name)))
        if isinstance(self.seed, tuple) and len(self.seed) != self.n:
            raise ValueError(
                f"seed must be one integer or n = {self.n} of them, not {show(self.seed)}"
            )

    @classmethod
    def from_request(
        cls, body: Mapping[str, Any], *, dialect: str = "openai", passthrough: Iterable[str] = ()
    ) -> "Params":
        """The sampling fields of a chat-completions request body, as `json.loads` gives it.

        body          fields of `Params` under their names; `null` is the off value
        dialect       whose spellings the body may use as well: a key of `DIALECTS`
        passthrough   further field names to leave to the caller

        What a request says of things other than sampling (`messages`, `model`, `tools` ...) is left
        alone. Raises ValueError or TypeError that names the field of the body; for an unknown field
        it suggests the nearest known one.

        >>> Params.from_request({"model": "m", "messages": [], "top_k": 40, "n": 2}).top_k
        40
        >>> Params.from_request({"top-p": 0.9})
        Traceback (most recent call last):
        ...
        ValueError: unknown field 'top-p' in the request body; did you mean 'top_p'?
        """
        if not isinstance(body, Mapping):
            raise TypeError(f"the request body must be a JSON object, not {show(body)}")
        left_alone = NOT_SAMPLING | _names("passthrough", passthrough)
        spellings = DIALECTS[one_of("dialect", dialect, DIALECTS)]
        values: dict[str, Any] = {}
        spelled: dict[str, str] = {}
        for key, value in body.items():
            name, translate = spellings.get(key, (key, None))
            if key in left_alone or (value is None and name in FIELDS):
                continue
            if name not in FIELDS:
                raise _unknown(key, {*FIELDS, *spellings, *left_alone})
            if name in values:
                raise ValueError(f"the request body has {name} twice, the second time as {key!r}")
            spelled[name] = key
            try:
                values[name] = FIELDS[name].check(name, translate(value) if translate else value)
            except (TypeError, ValueError) as error:
                raise type(error)(f"request body, field {key!r}: {error}") from None
        try:
            return cls(**values)
        except ValueError as error:  # every value is in range: the seeds do not go with n
            raise ValueError(f"request body, field {spelled['seed']!r}: {error}") from None


def _names(name: str, value: Any) -> set[str]:
    names = listed(name, value, "field names")
    if not all(isinstance(x, str) for x in names):
        raise TypeError(f"{name} must be field names, not {show(value)}")
    return set(names)


def _unknown(key: Any, known: set[str]) -> ValueError:
    near = difflib.get_close_matches(str(key), sorted(known), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return ValueError(f"unknown field {key!r} in the request body{hint}")


FIELDS: dict[str, Field] = {
    field.name: Field(
        name=field.name,
        off={} if field.default is dataclasses.MISSING else field.default,
        interval=field.metadata["interval"],
        domain=field.metadata.get("domain", ""),
        integer=field.metadata.get("integer", False),
        check=field.metadata["check"],
    )
    for field in dataclasses.fields(Params)
}

#: Fields of a chat-completions body that say nothing about sampling: the engine's to read.
NOT_SAMPLING = frozenset(
    {
        *("messages", "model", "stream", "stream_options", "response_format", "resume_generation"),
        *("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"),
        *("chat_template_kwargs", "reasoning_effort", "verbosity", "modalities", "audio"),
        *("prediction", "web_search_options", "user", "metadata", "store", "service_tier"),
        *("safety_identifier", "prompt_cache_key"),
    }
)


def _minus_one_is(off: Any) -> Callable[[Any], Any]:
    return lambda value: off if type(value) is int and value == -1 else value


def _llama_cpp_bias(value: Any) -> Any:
    """llama.cpp also takes pairs, and false for a ban."""
    pairs = list(value.items() if isinstance(value, Mapping) else value)
    tokens = [token for token, _ in pairs]
    for token in tokens:
        if tokens.count(token) > 1:
            raise ValueError(f"logit_bias names token {show(token)} twice")
    return {token: -math.inf if number is False else number for token, number in pairs}


#: Other engines' spellings: field of the body -> (our name, how to translate its value).
DIALECTS: dict[str, dict[str, tuple[str, Callable[[Any], Any] | None]]] = {
    "openai": {"max_completion_tokens": ("max_tokens", None)},
    "vllm": {
        "max_completion_tokens": ("max_tokens", None),
        "top_k": ("top_k", _minus_one_is(0)),
        "stop_token_ids": ("eos_token", None),
        "allowed_token_ids": ("allowed_tokens", None),
    },
    "sglang": {
        "max_new_tokens": ("max_tokens", None),
        "max_completion_tokens": ("max_tokens", None),
        "min_new_tokens": ("min_tokens", None),
        "top_k": ("top_k", _minus_one_is(0)),
        "sampling_seed": ("seed", None),
        "stop_token_ids": ("eos_token", None),
    },
    "llama_cpp": {
        "max_completion_tokens": ("max_tokens", None),
        "n_predict": ("max_tokens", _minus_one_is(None)),
        "repeat_penalty": ("repetition_penalty", None),
        "n_probs": ("top_logprobs", None),
        "n_cmpl": ("n", None),
        "seed": ("seed", _minus_one_is(None)),
        "logit_bias": ("logit_bias", _llama_cpp_bias),
    },
    "koboldcpp": {
        "max_length": ("max_tokens", None),
        "rep_pen": ("repetition_penalty", None),
        "sampler_seed": ("seed", _minus_one_is(None)),
        "stop_sequence": ("stop", None),
    },
    "text_generation_webui": {
        "max_new_tokens": ("max_tokens", None),
        "custom_stopping_strings": ("stop", None),
        "stopping_strings": ("stop", None),
        "seed": ("seed", _minus_one_is(None)),
    },
}


def column(name: str, value: Any, rows: int) -> NDArray[Any]:
    """A pure function's parameter, one value or one per row, as a checked column of `rows` values.

    Integers come as int64, all else as float64.
    """
    field = FIELDS[name]
    check = whole_number if field.integer else real_number
    shape, given = items(name, value)
    checked = [check(name, x, field.domain) for x in given]
    if shape not in ((), (rows,)):
        raise ValueError(f"{name} must be one value or one per row ({rows}), not {shape}")
    if field.integer:  # more than any vocabulary is as good as its size
        return np.full(rows, np.array([min(x, 2**62) for x in checked], np.int64))
    return np.full(rows, np.array(checked, np.float64))
