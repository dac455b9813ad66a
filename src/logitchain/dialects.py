"""The fields of a request body in other engines' servers, and what each means here.

`DIALECTS` has one table per engine: field of the body -> rule. Names that no table has are those of
`Params`, or are in `NOT_SAMPLING`. `docs/dialects.md` lists all of them with the versions read.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

from .inputs.values import as_float, in_body, is_array, listed, of_field, plain, show

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


@dataclass(frozen=True)
class Among:
    """A value, and the fields of the body that it is one of."""

    value: Any
    body: Values


class Rule:
    """What a field of a body means. This one: nothing to sampling, the engine reads it."""

    #: Whether `read` and `finish` get the value as an `Among`.
    sees_body = False

    def read(self, name: str, value: Any) -> Values:
        """The fields of `Params` that the field `name` with this value stands for."""
        return {}

    def finish(self, name: str, value: Any, reading: Reading) -> None:
        """Check or change the reading, once all fields have been read."""


ENGINE = Rule()


@dataclass(frozen=True)
class Spelling(Rule):
    """A field of `Params` by another name, with `values` of another meaning, or so translated.

    also   further fields that get the same value
    """

    field: str
    values: Mapping[int, Any] = dataclasses.field(default_factory=dict)
    translate: Callable[[Any], Any] | None = None
    also: tuple[str, ...] = ()

    def read(self, name: str, value: Any) -> Values:
        """The field's value."""
        if type(value) is int and value in self.values:
            value = self.values[value]
        elif self.translate is not None:
            value = self.translate(value)
        return {} if value is None else dict.fromkeys((self.field, *self.also), value)


@dataclass(frozen=True)
class Beside(Spelling):
    """A spelling that depends on other fields of the body.

    of       the field without which, or at 0 or less, this one says nothing
    unless   fields beside one of which this one says nothing, or is the field `instead`
    """

    of: str = ""
    unless: tuple[str, ...] = ()
    instead: str = ""
    sees_body = True

    def read(self, name: str, value: Any) -> Values:
        """The field's value, if it counts."""
        if self.of and not _is_above_0(value.body.get(self.of)):
            return {}
        if any(field in value.body for field in self.unless):
            return {self.instead: value.value} if self.instead else {}
        return super().read(name, value.value)


@dataclass(frozen=True)
class BlockBudget(Beside):
    """A budget of reasoning, the whole of which each block has unless the body says otherwise."""

    def finish(self, name: str, value: Any, reading: Reading) -> None:
        """Say that each block has the whole budget."""
        if self.read(name, value):
            reading.values.setdefault("reasoning_per_block", True)


@dataclass(frozen=True)
class DryBase(Beside):
    """The base of DRY, which is off where `translate` gives None."""

    def finish(self, name: str, value: Any, reading: Reading) -> None:
        """Switch DRY off."""
        if not self.read(name, value):
            reading.values["dry_multiplier"] = 0.0


class Breakers(Rule):
    """The sequence breakers of DRY, which are strings there and lists of token ids here."""

    sees_body = True

    def read(self, name: str, value: Any) -> Values:
        """The field's value; raises ValueError for strings, unless DRY is off."""
        breakers = value.value
        if not _is_above_0(value.body.get("dry_multiplier")) or breakers in ("", "[]"):
            return {}
        return {"dry_sequence_breakers": _no_strings(name, breakers, _BREAKERS)}


@dataclass(frozen=True)
class BadWords(Rule):
    """Fields that name bad words, as lists of token ids or as `{"tokens": [...]}`: all count."""

    names: tuple[str, ...] = ("bad_words",)
    sees_body = True

    def read(self, name: str, value: Any) -> Values:
        """The sequences of all fields; raises ValueError for strings."""
        given = [one for one in self.names if one in value.body]
        if name != given[0]:
            return {}
        lists = [_sequences(_no_strings(one, value.body[one], _TEXTS)) for one in given]
        return {"bad_words": lists[0] if len(given) == 1 else [x for one in lists for x in one]}


@dataclass(frozen=True)
class MinTokens(Rule):
    """How many tokens to generate at least; stop phrases, too, end the text only after them."""

    def read(self, name: str, value: Any) -> Values:
        """The field's value."""
        return {"min_tokens": value}

    def finish(self, name: str, value: Any, reading: Reading) -> None:
        """Hold back stop phrases, unless the body says otherwise."""
        if value:
            reading.values.setdefault("stop_after_min_tokens", True)


@dataclass(frozen=True)
class Alone(Rule):
    """A field of `Params` by its own name, which must not stand beside another one."""

    other: str
    sees_body = True

    def read(self, name: str, value: Any) -> Values:
        """The field's value; raises ValueError if both are given."""
        if self.other in value.body:
            raise ValueError(f"{name} must be null beside {self.other}, not {show(value.value)}")
        return {name: value.value}


@dataclass(frozen=True)
class Mirostat(Rule):
    """The version of mirostat, with which `mirostat_tau` and `mirostat_eta` count.

    tau, eta   the engine's defaults
    alone      the fields of `Params` that the engine does not act on beside mirostat
    is_lax     whether every version but 2 is off
    """

    tau: float = 5.0
    eta: float = 0.1
    alone: tuple[str, ...] = ()
    is_lax: bool = False
    sees_body = True

    def read(self, name: str, value: Any) -> Values:
        """Both fields; raises ValueError for a version other than 2."""
        version, body = value.value, value.body
        if type(version) is not int:
            raise TypeError(f"{name} must be 0 or 2, not {show(version)}")
        if version <= 0 or (self.is_lax and version != 2):
            return {}
        if version != 2:
            raise ValueError(f"{name} must be 0 or 2, only version 2 is supported, not {version}")
        return {
            "mirostat_tau": body.get("mirostat_tau", self.tau),
            "mirostat_eta": body.get("mirostat_eta", self.eta),
        }

    def finish(self, name: str, value: Any, reading: Reading) -> None:
        """Switch the others off."""
        for field in self.alone if self.read(name, value) else ():
            reading.values[field] = reading.fields[field].off


@dataclass(frozen=True)
class TemperatureRange(Rule):
    """The temperature from its lowest to its highest value, in place of `temperature`.

    low, high, exponent   the names that these fields of the body may have
    flag                  the field that switches the range on; "" if its width does
    is_second             whether the engine divides by `temperature`, too
    """

    low: tuple[str, ...]
    high: tuple[str, ...]
    exponent: tuple[str, ...]
    flag: str = ""
    is_second: bool = False
    sees_body = True

    def read(self, name: str, value: Any) -> Values:
        """Nothing yet; raises TypeError or ValueError unless the values are a range."""
        if name == self.flag:
            _flag(name, value.value)
        self._values(value.body)
        return {}

    def finish(self, name: str, value: Any, reading: Reading) -> None:
        """Set the middle, the range and the exponent."""
        values, body = reading.values, value.body
        low, high, exponent = self._values(body)
        is_on = body[self.flag] if self.flag else high > low and values.get("temperature") != 0.0
        if not is_on or body.get("do_sample") is False:
            return
        if self.is_second and not body.get("temperature_last"):
            temperature = values.get("temperature", 1.0)
            if temperature != 1.0:
                raise ValueError(
                    f"with {name}, temperature must be 1, or temperature_last true, since the "
                    f"engine divides by both, not {show(temperature)}"
                )
        values["temperature"] = (low + high) / 2
        values["dynatemp_range"] = (high - low) / 2
        values["dynatemp_exponent"] = exponent

    def _values(self, body: Values) -> list[float]:
        if self.flag and body.get(self.flag) is not True:
            return [1.0, 1.0, 1.0]
        names = [
            next((name for name in names if name in body), names[0])
            for names in (self.low, self.high, self.exponent)
        ]
        values = [body.get(name, 1.0) for name in names]
        for name, value in zip(names, values, strict=True):
            if not _is_number(value):
                raise TypeError(f"{name} must be a number in [0, inf), not {show(value)}")
            if not 0 <= as_float(value) < inf:
                raise ValueError(f"{name} must be in [0, inf), not {show(value)}")
        if values[0] > values[1]:
            raise ValueError(
                f"{names[0]} must be at most {names[1]}, {show(values[1])}, not {show(values[0])}"
            )
        return list(map(float, values))


@dataclass(frozen=True)
class ContextSize(Rule):
    """How far back one of mlx-lm's penalties looks. Here all three look equally far.

    penalty   its field
    default   how far back a penalty looks of which the body does not say it
    """

    penalty: str
    default: int = 20
    sees_body = True

    def read(self, name: str, value: Any) -> Values:
        """Nothing yet; raises TypeError or ValueError unless the value is a number of tokens."""
        if type(value.value) is not int:
            raise TypeError(f"{name} must be an integer in [0, inf), not {show(value.value)}")
        if value.value < 0:
            raise ValueError(f"{name} must be in [0, inf), not {show(value.value)}")
        return {}

    def finish(self, name: str, value: Any, reading: Reading) -> None:
        """Set the window, if the penalty is on; raise ValueError if another one differs."""
        for penalty in _PENALTIES if self._is_on(self.penalty, reading) else ():
            size = value.body.get(f"{penalty.partition('_')[0]}_context_size", self.default)
            if self._is_on(penalty, reading) and size != value.value:
                raise ValueError(
                    f"{name} must be {show(size)}, the context size of {penalty}, since here all "
                    f"penalties look equally far back, not {show(value.value)}"
                )
            reading.values["penalty_window"] = value.value or _ALL

    def _is_on(self, penalty: str, reading: Reading) -> bool:
        off = reading.fields[penalty].off
        return bool(reading.values.get(penalty, off) != off)


@dataclass(frozen=True)
class Ends(Rule):
    """Fields that name end tokens: all of them count."""

    names: tuple[str, ...]
    sees_body = True

    def read(self, name: str, value: Any) -> Values:
        """The tokens of all fields, once."""
        given = [value.body[one] for one in self.names if one in value.body]
        if name != next(one for one in self.names if one in value.body):
            return {}
        lists = [list(one) if isinstance(one, (list, tuple, set)) else [one] for one in given]
        return {"eos_token": [token for tokens in lists for token in tokens if token != -1]}


class Stops(Rule):
    """Stop phrases, and among them token ids that end the text."""

    def read(self, name: str, value: Any) -> Values:
        """One field or both."""
        if not isinstance(value, (list, tuple)):
            return {"stop": value}
        ends = [stop for stop in value if isinstance(stop, int)]
        phrases = [stop for stop in value if not isinstance(stop, int)]
        return {"stop": phrases} | ({"eos_token": ends} if ends else {})


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
    scales   the fields that it adjusts: with all of these off it has no effect
    why      why it is not here, as the error says it
    """

    off: tuple[Any, ...] = ()
    at_most: float = -inf
    scales: tuple[str, ...] = ()
    why: str = ""

    def finish(self, name: str, value: Any, reading: Reading) -> None:
        """Raise ValueError for a value that is not off."""
        if self._is_off(value):
            return
        scaled = {x: reading.values.get(x, reading.fields[x].off) for x in self.scales}
        if scaled and all(scaled[x] == reading.fields[x].off for x in scaled):
            return
        off = f"or {', '.join(scaled)} must be off" if scaled else "which is off"
        why = f" {self.why}" if self.why else ""
        raise ValueError(
            f"{name} is not supported{why}: it must be {self._range()}, {off}, not {show(value)}"
        )

    def _is_off(self, value: Any) -> bool:
        if _is_number(value):
            numbers = [off for off in self.off if not isinstance(off, bool)]
            return value in numbers or value <= self.at_most
        return any(type(value) is type(off) and value == off for off in self.off)

    def _range(self) -> str:
        ranges = [show(off) for off in self.off] or ["null"]
        if self.at_most > -inf:
            ranges = [f"in (-inf, {self.at_most:g}]"]
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
    """The fields of a body and of what is nested in it, as their rules read them."""
    fields = [
        (key, _plain(key, value) if is_array(value) else value)
        for key, value in _fields(body, rules)
    ]
    given = {key: value for key, value in fields if value is not None}
    for key, value in fields:
        sees_body = value is not None and key in rules and rules[key].sees_body
        yield key, Among(value, given) if sees_body else value


def _plain(key: Any, value: Any) -> Any:
    try:
        return plain(f"request body, field {show(key)}", value)
    except (TypeError, ValueError) as error:
        raise of_field(key, error) from None


def _fields(body: Mapping[str, Any], rules: Mapping[str, Rule]) -> Iterator[tuple[Any, Any]]:
    for key, value in body.items():
        if not isinstance(rules.get(key), Nested) or value is None:
            yield key, value
        elif isinstance(value, Mapping):
            for inner, its in value.items():
                if isinstance(rules.get(inner), Nested):
                    raise in_body(inner, ValueError(f"must not stand in {key!r}"))
                yield inner, its
        else:
            raise in_body(key, TypeError(f"must be a JSON object, not {show(value)}"))


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


def _is_above_0(value: Any) -> bool:
    return _is_number(value) and bool(value > 0)


def _off_where(
    off: Any, *, up_to: float = -inf, below: float = -inf, start: float = inf
) -> Callable[[Any], Any]:
    """Numbers up to `up_to`, below `below` and from `start` on are the off value."""

    def translate(value: Any) -> Any:
        is_off = _is_number(value) and (value <= up_to or value < below or value >= start)
        return off if is_off else value

    return translate


def _between(low: float, high: float) -> Callable[[Any], Any]:
    """Numbers beyond the ends are the ends."""

    def translate(value: Any) -> Any:
        return min(max(value, low), high) if _is_number(value) else value

    return translate


def _of_processed(value: Any) -> Any:
    """`logprobs_of` for a flag."""
    return {True: "processed", False: "raw"}[value] if isinstance(value, bool) else [value]


def _best_at_0(value: Any) -> Any:
    """A top_p of 0 keeps the best token, as one does here that is next to nothing."""
    return 2.0**-30 if _is_number(value) and value == 0 else value


def _of_10_000(value: Any) -> Any:
    """A probability in units of 1 / 10,000."""
    return as_float(value) * 1e-4 if _is_number(value) else value


def _sglang_watermark(value: Any) -> Any:
    """SGLang's object, whose key is a hexadecimal string, as the options of a `Watermark`."""
    if value is False:
        return None
    if not isinstance(value, Mapping) or not {*value} <= {"enabled", "key", "context_window"}:
        return value
    key, width = value.get("key"), value.get("context_window")
    if value.get("enabled") is False and key is None:
        return None
    if not isinstance(key, str) or not _HEXADECIMAL.fullmatch(key):
        digits = "a key of 1 to 16 hexadecimal digits"
        raise ValueError(f"watermark must have {digits}, since no server has one here")
    options = {"scheme": "sglang", "key": int(key, 16)}
    return options if width is None else options | {"context_width": width}


_HEXADECIMAL = re.compile("(0[xX])?[0-9a-fA-F]{1,16}")


def _exllamav3_target(value: Any) -> Any:
    """A target of 1 or more is off, one below 0 counts as 0."""
    return (None if value >= 1 else max(value, 0.0)) if _is_number(value) else value


def _biases(name: str, form: str, one: str, value: Any) -> Iterator[tuple[Any, Any]]:
    """The pairs of a mapping, or of a list of pairs.

    form, one   what the value must be, and each of its pairs
    """
    if not isinstance(value, (Mapping, list, tuple)):
        raise TypeError(f"{name} must be {form}, not {show(value)}")
    for pair in value.items() if isinstance(value, Mapping) else value:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise TypeError(f"{name} must hold pairs {one}, not {show(pair)}")
        yield pair[0], pair[1]


def _collected(name: str, pairs: Iterable[tuple[Any, Any]], keys: tuple[type, ...]) -> Values:
    """Tokens and what is added to each, none named twice."""
    bias: dict[Any, Any] = {}
    for token, number in pairs:
        if not isinstance(token, keys):
            raise TypeError(f"a token id in {name} must be an integer, not {show(token)}")
        if token in bias:
            raise ValueError(f"{name} names token {show(token)} twice")
        bias[token] = number
    return bias


def _llama_cpp_bias(value: Any) -> Any:
    """A mapping or a list of pairs, in which false bans."""
    name, one = "logit_bias", "[token id, number]"
    pairs = _biases(name, f"a mapping of token ids to numbers or a list of {one}", one, value)
    banned = ((token, -inf if number is False else number) for token, number in pairs)
    return _collected(name, banned, (int, str))


def _in_text(name: str, *, or_listed: bool = False) -> Callable[[Any], Any]:
    """Token ids in a string, separated by commas; or in a list as well."""

    def translate(value: Any) -> Any:
        if not isinstance(value, str):
            if or_listed:
                return value
            raise TypeError(f"{name} must be token ids in a string, not {show(value)}")
        words = [word.strip() for word in value.split(",") if word.strip()]
        for word in words:
            if not (word.isascii() and word.isdecimal() and len(word) < 20):
                raise ValueError(f"{name} must be token ids, not {show(word)}")
        return [int(word) for word in words] or None

    return translate


def _koboldcpp_bans(value: Any) -> Any:
    """Token ids here, but phrases there, for which there is no control."""
    bans = listed("banned_tokens", value, "a list") if isinstance(value, (list, tuple)) else value
    if isinstance(bans, list) and any(isinstance(ban, str) for ban in bans):
        raise ValueError(
            f"banned_tokens must be token ids, phrases are not supported, not {show(bans)}"
        )
    return bans if bans != [] else None


_BREAKERS = "logitchain.sequence_breakers makes them from strings"
_TEXTS = "logitchain.BannedTexts makes banned_texts of strings"


def _no_strings(name: str, sequences: Any, hint: str) -> Any:
    """Sequences of token ids, but not the strings that some engine reads there."""
    each = sequences if isinstance(sequences, (list, tuple)) else [sequences]
    if any(isinstance(sequence, str) for sequence in each):
        raise ValueError(f"{name} must be lists of token ids; {hint}")
    return sequences


def _sequences(value: Any) -> Any:
    """FriendliAI's sequences of tokens: lists, or objects with a list in them."""
    if not isinstance(value, (list, tuple)):
        return value
    return [x.get("tokens") or () if isinstance(x, Mapping) else x for x in value]


def _ngram_size(value: Any) -> Any:
    """A size of 1, which is off in a request here, lets no token come twice there."""
    if type(value) is int and value == 1:
        raise ValueError("no_repeat_ngram_size must be 0 or more than 1, not 1")
    return value


def _sequence_bias(value: Any) -> Any:
    """transformers' biases of sequences, which here are of one token each."""
    name, one = "sequence_bias", "[[token id], number]"

    def single(sequence: Any) -> Any:
        if not isinstance(sequence, (list, tuple)) or len(sequence) != 1:
            raise ValueError(f"{name} must be of single tokens, not {show(sequence)}")
        return sequence[0]

    pairs = _biases(name, f"a list of {one}", one, value)
    return _collected(name, ((single(sequence), number) for sequence, number in pairs), (int,))


def _engine(names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), ENGINE)


_NO_LIMIT = {-1: None}
_BUDGET = Spelling("reasoning_budget", _NO_LIMIT)
_BLOCK_BUDGET = BlockBudget("reasoning_budget", _NO_LIMIT)
_ALL = 2**31 - 1  # a window of all tokens; None would leave it to the chain
_PENALTIES = ("repetition_penalty", "frequency_penalty", "presence_penalty")
_UP_TO_0 = _off_where(0.0, up_to=0)
_FROM_1 = _off_where(1.0, start=1)
_OFF_AT_0 = Lacking(off=(0,), at_most=0)
_OFF_AT_1 = Lacking(off=(1,))
_OFF_IF_FALSE = Lacking(off=(False,))
_OFF_IF_NULL = Lacking()
_ENCODER = "for models without an encoder"

#: What koboldcpp and llama.cpp leave out of their chains beside mirostat.
_KOBOLDCPP_WITHOUT = (
    *("dynatemp_range", "top_n_sigma", "top_k", "top_p", "min_p", "typical_p", "top_a"),
    *("epsilon_cutoff", "eta_cutoff", "tfs", "p_less", "top_h", "xtc_probability"),
    *("adaptive_target", "frequency_penalty"),
)
_ALL_BUT_TEMPERATURE = (
    *(*_KOBOLDCPP_WITHOUT, "smoothing_factor", "dry_multiplier"),
    *("repetition_penalty", "presence_penalty"),
)


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

#: They are read together with the version of mirostat, without which mirostat is off.
_MIROSTAT = _engine("mirostat_tau mirostat_eta")

#: Of the completions API, which is older than chat completions.
_COMPLETIONS: dict[str, Rule] = {
    "best_of": _OFF_AT_1,
    "max_completion_tokens": Spelling("max_tokens"),
    **_engine("prompt suffix echo"),
}

_ENDS_OF_RANGE = ("max_temp", "min_temp", "dynatemp_high", "dynatemp_low")

#: TabbyAPI, by which most requests come to exllamav2 and exllamav3.
_TABBYAPI: dict[str, Rule] = {
    **_COMPLETIONS,
    "adaptive_decay": Spelling("adaptive_decay", translate=_between(0.0, 0.99)),
    "adaptive_target": Spelling("adaptive_target", translate=_exllamav3_target),
    "allowed_token_ids": Spelling(
        "allowed_tokens", translate=_in_text("allowed_token_ids", or_listed=True)
    ),
    "allowed_tokens": Spelling(
        "allowed_tokens", translate=_in_text("allowed_tokens", or_listed=True)
    ),
    "banned_tokens": Spelling("banned_tokens", translate=_in_text("banned_tokens", or_listed=True)),
    "custom_token_bans": Spelling(
        "banned_tokens", translate=_in_text("custom_token_bans", or_listed=True)
    ),
    "dry_allowed_length": Beside("dry_allowed_length", of="dry_multiplier"),
    "dry_base": Beside("dry_base", of="dry_multiplier"),
    "dry_multiplier": Spelling("dry_multiplier", translate=_UP_TO_0),
    "dynatemp_exponent": Beside("dynatemp_exponent", unless=_ENDS_OF_RANGE),
    "dry_penalty_last_n": Beside("dry_window", {0: _ALL}, of="dry_multiplier"),
    "dry_range": Beside("dry_window", {0: _ALL}, of="dry_multiplier"),
    "max_length": Spelling("max_tokens"),
    "min_length": Spelling("min_tokens"),
    "min_p": Spelling("min_p", translate=_off_where(0.0, up_to=0, start=1)),
    "penalty_range": Spelling("penalty_window", translate=_off_up_to(-1, _ALL)),
    **dict.fromkeys(("reasoning_budget", "reasoning_budget_tokens"), _BUDGET),
    **dict.fromkeys(("thinking_budget", "thinking_token_budget"), _BUDGET),
    "rep_pen": Spelling("repetition_penalty"),
    "rep_pen_range": Spelling("penalty_window", translate=_off_up_to(-1, _ALL)),
    "repetition_penalty_range": Spelling("penalty_window", translate=_off_up_to(-1, _ALL)),
    "repetition_range": Spelling("penalty_window", translate=_off_up_to(-1, _ALL)),
    "smoothing_factor": Spelling("smoothing_factor", translate=_UP_TO_0),
    "temperature": Spelling("temperature", translate=_off_where(0.0, below=0.01)),
    "tfs": Spelling("tfs", translate=_off_where(1.0, up_to=0, start=1)),
    "top_a": Spelling("top_a", translate=_UP_TO_0),
    "top_k": Spelling("top_k", {-1: 0}),
    "typical": Spelling("typical_p", translate=_off_where(1.0, up_to=0, start=1)),
    "typical_p": Spelling("typical_p", translate=_off_where(1.0, up_to=0, start=1)),
    "ban_eos_token": NoEnd(bans=True),
    "dry_sequence_breakers": Breakers(),
    "ignore_eos": NoEnd(bans=True),
    "logprobs": Logprobs(zero=False),
    "mirostat": Mirostat(tau=1.5, eta=0.3, is_lax=True),
    "mirostat_mode": Mirostat(tau=1.5, eta=0.3, is_lax=True),
    **_MIROSTAT,
    "stop": Stops(),
    "stop_sequence": Stops(),
    "use_default_badwordsids": NoEnd(bans=True),
    "banned_strings": Lacking(off=([], "")),
    "cfg_scale": _OFF_AT_1,
    "guidance_scale": _OFF_AT_1,
    "repetition_decay": Lacking(off=(0,), scales=_PENALTIES),
    "skew": Lacking(off=(0,)),
    **_engine(
        """
        add_bos_token add_generation_prompt continue_final_message enable_thinking genkey
        grammar_string json_schema loop_detect_window negative_prompt
        prompt_template reasoning reasoning_budget_message regex_pattern response_prefix
        speculative_ngram temp_exponent temperature_last template_vars token_healing
        """
    ),
}

_MIN_TO_MAX = TemperatureRange(
    low=("min_temp", "dynatemp_low"),
    high=("max_temp", "dynatemp_high"),
    exponent=("temp_exponent", "dynatemp_exponent"),
    is_second=True,
)
_OPENVINO_ENDS = Ends(("stop_token_ids", "eos_token_id"))

DialectName = Literal[
    "openai",
    "vllm",
    "sglang",
    "llama_cpp",
    "koboldcpp",
    "text_generation_webui",
    "exllamav2",
    "exllamav3",
    "transformers",
    "mlx_lm",
    "openvino_genai",
    "friendli",
]

DIALECTS: dict[DialectName, dict[str, Rule]] = {
    "openai": _COMPLETIONS,
    "vllm": {
        **_COMPLETIONS,
        "allowed_token_ids": Spelling("allowed_tokens"),
        "logprobs": Logprobs(),
        "seed": Spelling("seed", {-1: None}),
        "stop_token_ids": Spelling("eos_token"),
        "include_stop_str_in_output": Spelling("include_stop"),
        "thinking_token_budget": _BLOCK_BUDGET,
        "top_k": Spelling("top_k", {-1: 0}),
        "trace_decode_token_ids": Spelling("forced_output_tokens"),
        "bad_words": BadWords(),
        "ignore_eos": NoEnd(keeps="stop_token_ids"),
        "min_tokens": MinTokens(),
        "sampling_params": Nested(),
        "use_beam_search": _OFF_IF_FALSE,
        "watermarking": _OFF_IF_FALSE,
        **_engine(
            """
            add_generation_prompt add_special_tokens cache_salt chat_template
            continue_final_message detokenize documents early_stopping ec_transfer_params extra_args
            features flat_logprobs guided_choice guided_decoding guided_decoding_backend
            guided_grammar guided_json guided_json_object guided_regex guided_whitespace_pattern
            include_reasoning kv_transfer_params length_penalty media_io_kwargs
            mm_processor_kwargs output_kind priority prompt_embeds prompt_logprob_start
            prompt_logprob_token_ids prompt_logprobs request_id return_mm_kwargs return_prompt_text
            return_token_ids return_token_offsets return_tokens_as_token_ids
            routed_experts_prompt_start session_id skip_clone skip_reading_prefix_cache
            skip_special_tokens spaces_between_special_tokens stream_interval structural_tag
            structured_outputs token_ids truncate_prompt_tokens
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
        "token_ids_logprob": Spelling("logprob_token_ids"),
        "top_logprobs_num": Spelling("top_logprobs"),
        "ignore_eos": NoEnd(),
        "sampling_params": Nested(),
        "beam_width": _OFF_AT_1,
        "no_stop_trim": Spelling("include_stop"),
        "stop_regex": Lacking(off=([], "")),
        "watermark": Spelling("watermark", translate=_sglang_watermark),
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
            use_audio_in_video video_config video_data video_max_dynamic_patch
            """
        ),
    },
    "llama_cpp": {
        **_COMPLETIONS,
        "adaptive_target": Spelling("adaptive_target", translate=_off_where(None, below=0)),
        "dry_allowed_length": Beside("dry_allowed_length", of="dry_multiplier"),
        "dry_base": Beside(
            "dry_base", translate=_off_where(None, below=1), of="dry_multiplier"
        ),  # below 1 the server takes its own default
        "dry_multiplier": Spelling("dry_multiplier", translate=_UP_TO_0),
        "dry_penalty_last_n": Beside("dry_window", {-1: _ALL}, of="dry_multiplier"),
        "dynatemp_range": Spelling("dynatemp_range", translate=_UP_TO_0),
        "logit_bias": Spelling("logit_bias", translate=_llama_cpp_bias),
        "logprobs": Logprobs(zero=False),
        "max_completion_tokens": Spelling("max_tokens", _NO_LIMIT),
        "max_tokens": Spelling("max_tokens", _NO_LIMIT),
        "n_cmpl": Spelling("n"),
        "n_predict": Spelling("max_tokens", _NO_LIMIT),
        "n_probs": Spelling("top_logprobs"),
        "post_sampling_probs": Spelling("logprobs_of", translate=_of_processed),
        "reasoning_budget_tokens": _BLOCK_BUDGET,
        "repeat_last_n": Spelling("penalty_window", {-1: _ALL}),
        "repeat_penalty": Spelling("repetition_penalty"),
        "seed": Spelling("seed", {-1: None, 2**32 - 1: None}),
        "temperature": Spelling("temperature", translate=_UP_TO_0),
        "thinking_budget_tokens": BlockBudget(
            "reasoning_budget", _NO_LIMIT, unless=("reasoning_budget_tokens",)
        ),
        "top_k": Spelling("top_k", translate=_off_up_to(0, 0)),
        "top_n_sigma": Spelling("top_n_sigma", translate=_UP_TO_0),
        "top_p": Spelling("top_p", translate=_best_at_0),
        "typical_p": Spelling("typical_p", translate=_FROM_1),
        "dry_sequence_breakers": Breakers(),
        "ignore_eos": NoEnd(bans=True),
        "mirostat": Mirostat(alone=_ALL_BUT_TEMPERATURE),
        **_MIROSTAT,
        "min_keep": _OFF_AT_0,
        "penalize_nl": _OFF_IF_FALSE,
        "tfs_z": _OFF_AT_1,
        **_engine(
            """
            add_generation_prompt backend_sampling cache_prompt chat_format chat_parser
            continue_final_message generation_prompt grammar grammar_lazy grammar_triggers
            grammar_type id_slot input_extra input_prefix input_suffix json_schema lora
            n_cache_reuse n_discard n_indent n_keep parse_tool_calls
            preserved_tokens prompt_logprobs reasoning_budget_end_tag
            reasoning_budget_end_tags reasoning_budget_message reasoning_budget_start_tag
            reasoning_control reasoning_format reasoning_in_content
            response_fields return_progress return_tokens samplers speculative.n_max
            speculative.n_min speculative.p_min speculative.type sse_ping_interval
            t_max_predict_ms t_max_prompt_ms thinking_forced_open timings_per_token verbose
            """
        ),
    },
    "koboldcpp": {
        **_COMPLETIONS,
        "adaptive_decay": Spelling("adaptive_decay", translate=_between(0.01, 0.99)),
        "adaptive_target": Spelling("adaptive_target", translate=_off_where(None, up_to=0)),
        "banned_tokens": Spelling("banned_tokens", translate=_koboldcpp_bans),
        "custom_token_bans": Spelling("banned_tokens", translate=_in_text("custom_token_bans")),
        "dry_allowed_length": Beside("dry_allowed_length", of="dry_multiplier"),
        "dry_base": DryBase("dry_base", translate=_off_where(None, up_to=0), of="dry_multiplier"),
        "dry_multiplier": Spelling("dry_multiplier", translate=_UP_TO_0),
        "dry_penalty_last_n": Beside(
            "dry_window", translate=_off_up_to(0, _ALL), of="dry_multiplier"
        ),
        "dynatemp_exponent": Spelling("dynatemp_exponent", translate=_UP_TO_0),
        "dynatemp_range": Spelling("dynatemp_range", translate=_UP_TO_0),
        "frequency_penalty": Beside(
            "presence_penalty", unless=("presence_penalty",), instead="frequency_penalty"
        ),
        "max_length": Spelling("max_tokens"),
        "min_p": Spelling("min_p", translate=_UP_TO_0),
        "nsigma": Spelling("top_n_sigma", translate=_UP_TO_0),
        "reasoning_budget": _BUDGET,
        "rep_pen": Spelling("repetition_penalty"),
        "rep_pen_range": Spelling("penalty_window"),
        "repeat_penalty": Spelling("repetition_penalty"),
        "sampler_seed": Spelling("seed", translate=_off_up_to(0, None, 2**32 - 1)),
        "seed": Spelling("seed", translate=_off_up_to(0, None, 2**32 - 1)),
        "smoothing_factor": Spelling("smoothing_factor", translate=_UP_TO_0),
        "stop_sequence": Spelling("stop"),
        "temperature": Spelling("temperature", translate=_UP_TO_0),
        "tfs": Spelling("tfs", translate=_FROM_1),
        "thinking_budget_tokens": _BUDGET,
        "top_a": Spelling("top_a", translate=_UP_TO_0),
        "top_k": Spelling("top_k", translate=_off_up_to(0, 0)),
        "top_p": Spelling("top_p", translate=_best_at_0),
        "typical": Spelling("typical_p", translate=_FROM_1),
        "ban_eos_token": NoEnd(bans=True),
        "bypass_eos": NoEnd(),
        "dry_sequence_breakers": Breakers(),
        "mirostat": Mirostat(alone=_KOBOLDCPP_WITHOUT),
        "mirostat_mode": Mirostat(alone=_KOBOLDCPP_WITHOUT),
        **_MIROSTAT,
        "use_default_badwordsids": NoEnd(bans=True),
        "banned_strings": Lacking(off=([],)),
        "guidance_scale": _OFF_AT_1,
        "rep_pen_slope": Lacking(off=(1,), scales=("repetition_penalty",)),
        **_engine(
            """
            adapter genkey grammar grammar_retain_state image images max_context_length memory
            negative_prompt quiet render_special
            replace_instruct_placeholders sampler_order trim_stop
            using_openai_tools
            """
        ),
    },
    "text_generation_webui": {
        **_COMPLETIONS,
        "adaptive_decay": Spelling("adaptive_decay", translate=_between(-inf, 0.99)),
        "adaptive_target": Spelling("adaptive_target", translate=_off_where(None, up_to=0)),
        "custom_stopping_strings": Spelling("stop"),
        "custom_token_bans": Spelling("banned_tokens", translate=_in_text("custom_token_bans")),
        "dry_allowed_length": Beside("dry_allowed_length", of="dry_multiplier"),
        "dry_base": Beside("dry_base", of="dry_multiplier"),
        "dry_multiplier": Spelling("dry_multiplier", translate=_UP_TO_0),
        "epsilon_cutoff": Spelling("epsilon_cutoff", translate=_of_10_000),
        "eta_cutoff": Spelling("eta_cutoff", translate=_of_10_000),
        "max_new_tokens": Spelling("max_tokens"),
        "no_repeat_ngram_size": Spelling("no_repeat_ngram", translate=_ngram_size),
        "repetition_penalty_range": Spelling("penalty_window", {0: _ALL}, also=("dry_window",)),
        "seed": Spelling("seed", {-1: None}),
        "smoothing_factor": Spelling("smoothing_factor", translate=_UP_TO_0),
        "stopping_strings": Spelling("stop"),
        "tfs": Spelling("tfs", translate=_FROM_1),
        "top_a": Spelling("top_a", translate=_UP_TO_0),
        "top_n_sigma": Spelling("top_n_sigma", translate=_UP_TO_0),
        "top_p": Spelling("top_p", translate=_best_at_0),
        "typical_p": Spelling("typical_p", translate=_FROM_1),
        "logprobs": Logprobs(),
        "auto_max_new_tokens": Setting(True, "max_tokens", None),
        "ban_eos_token": NoEnd(bans=True),
        "do_sample": Setting(False, "temperature", 0.0),
        "dry_sequence_breakers": Breakers(),
        "dynatemp_exponent": Beside("dynatemp_exponent", unless=("dynamic_temperature",)),
        "dynamic_temperature": TemperatureRange(
            low=("dynatemp_low",),
            high=("dynatemp_high",),
            exponent=("dynatemp_exponent",),
            flag="dynamic_temperature",
        ),
        "mirostat_mode": Mirostat(),
        **_MIROSTAT,
        "encoder_repetition_penalty": _OFF_AT_1,
        "guidance_scale": _OFF_AT_1,
        "penalty_alpha": _OFF_AT_0,
        "preset": _OFF_IF_NULL,
        **_engine(
            """
            add_bos_token bot_name character chat_instruct_command chat_template_str context
            continue_ dynatemp_high dynatemp_low enable_thinking grammar_string greeting
            instruction_template instruction_template_str max_tokens_second mode name1 name2
            negative_prompt preserve_thinking
            prompt_lookup_num_tokens sampler_priority skip_special_tokens static_cache
            temperature_last truncation_length user_bio user_name
            """
        ),
    },
    "exllamav2": {
        **_TABBYAPI,
        "top_p": Spelling("top_p", translate=_off_where(1.0, up_to=0, start=1)),
        **dict.fromkeys(_ENDS_OF_RANGE, _MIN_TO_MAX),
    },
    "exllamav3": {
        **_TABBYAPI,
        "top_p": Spelling("top_p", translate=_best_at_0),
        **dict.fromkeys(_ENDS_OF_RANGE, ENGINE),
    },
    "transformers": {
        "bad_words_ids": Spelling("bad_words"),
        "epsilon_cutoff": Spelling("epsilon_cutoff", translate=_off_where(0.0, up_to=0, start=1)),
        "eos_token_id": Spelling("eos_token"),
        "eta_cutoff": Spelling("eta_cutoff", translate=_off_where(0.0, up_to=0, start=1)),
        "max_new_tokens": Spelling("max_tokens"),
        "min_length": Beside(
            "min_total_tokens", translate=_off_where(0, up_to=0), unless=("min_new_tokens",)
        ),
        "min_new_tokens": Spelling("min_tokens"),
        "no_repeat_ngram_size": Spelling("no_repeat_ngram", translate=_ngram_size),
        "num_return_sequences": Spelling("n"),
        "sequence_bias": Spelling("logit_bias", translate=_sequence_bias),
        "stop_strings": Spelling("stop"),
        "suppress_tokens": Spelling("banned_tokens"),
        "top_p": Spelling("top_p", translate=_best_at_0),
        "typical_p": Spelling("typical_p", translate=_FROM_1),
        "do_sample": Setting(False, "temperature", 0.0),
        "begin_suppress_tokens": Lacking(off=([],)),
        "constraints": Lacking(off=([],)),
        "diversity_penalty": _OFF_AT_0,
        "dola_layers": _OFF_IF_NULL,
        "encoder_no_repeat_ngram_size": _OFF_AT_0,
        "encoder_repetition_penalty": _OFF_AT_1,
        "exponential_decay_length_penalty": _OFF_IF_NULL,
        "force_words_ids": Lacking(off=([],)),
        "forced_bos_token_id": _OFF_IF_NULL,
        "forced_eos_token_id": _OFF_IF_NULL,
        "guidance_scale": _OFF_AT_1,
        "num_beam_groups": _OFF_AT_1,
        "num_beams": _OFF_AT_1,
        "penalty_alpha": _OFF_AT_0,
        "remove_invalid_values": _OFF_IF_FALSE,
        "watermarking_config": _OFF_IF_NULL,
        **_engine(
            """
            _from_model_config assistant_confidence_threshold assistant_early_exit
            assistant_ensemble_weight assistant_lookbehind bos_token_id cache_config
            cache_implementation compile_config continuous_batching_config decoder_start_token_id
            disable_compile early_stopping is_assistant length_penalty low_memory max_cache_len
            max_length max_matching_ngram_size max_time num_assistant_tokens
            num_assistant_tokens_schedule output_attentions output_hidden_states output_logits
            output_scores pad_token_id prefill_chunk_size prompt_lookup_num_tokens
            renormalize_logits return_dict_in_generate speculation_type target_lookbehind
            token_healing transformers_version use_cache use_mtp
            """
        ),
    },
    "mlx_lm": {
        **_COMPLETIONS,
        "repetition_penalty": Spelling("repetition_penalty", translate=_off_where(1.0, up_to=0)),
        "top_logprobs": Spelling("top_logprobs", {-1: 0}),
        "top_p": Spelling("top_p", translate=_off_where(1.0, up_to=0, start=1)),
        "frequency_context_size": ContextSize("frequency_penalty"),
        "presence_context_size": ContextSize("presence_penalty"),
        "repetition_context_size": ContextSize("repetition_penalty"),
        **_engine("adapters draft_model num_draft_tokens role_mapping"),
    },
    "openvino_genai": {
        "include_stop_str_in_output": Spelling("include_stop"),
        "max_length": Beside("max_total_tokens", {2**64 - 1: None}, unless=("max_new_tokens",)),
        "max_new_tokens": Spelling("max_tokens", {2**64 - 1: None}),
        "min_new_tokens": Spelling("min_tokens"),
        "num_return_sequences": Spelling("n"),
        "rng_seed": Spelling("seed"),
        "stop_strings": Spelling("stop"),
        "top_k": Spelling("top_k", {2**64 - 1: 0}),
        "do_sample": Setting(False, "temperature", 0.0),
        "eos_token_id": _OPENVINO_ENDS,
        "ignore_eos": NoEnd(),
        "logprobs": Logprobs(zero=False),
        "stop_token_ids": _OPENVINO_ENDS,
        "num_beam_groups": _OFF_AT_1,
        "num_beams": _OFF_AT_1,
        **_engine(
            """
            adapters apply_chat_template assistant_confidence_threshold branching_factor
            diversity_penalty echo length_penalty max_ngram_size no_repeat_ngram_size
            num_assistant_tokens parsers pruning_ratio relevance_weight return_omni_outputs
            stop_criteria structured_output_config tree_depth
            """
        ),
    },
    "friendli": {
        "stop_tokens": Spelling("stop_tokens", translate=_sequences),
        "top_p": Spelling("top_p", translate=_best_at_0),
        **dict.fromkeys(
            ("bad_words", "bad_word_tokens"), BadWords(("bad_words", "bad_word_tokens"))
        ),
        "logprobs": Logprobs(),
        "max_total_tokens": Alone("max_tokens"),
        "min_total_tokens": Alone("min_tokens"),
        "encoder_no_repeat_ngram": Lacking(off=(1,), at_most=1, why=_ENCODER),
        "encoder_repetition_penalty": Lacking(off=(1,), why=_ENCODER),
        **_engine(
            """
            embedding_to_replace include_reasoning parse_reasoning prompt token_index_to_replace
            tokens
            """
        ),
    },
}
