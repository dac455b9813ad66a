"""What a control is: a record with its fields, its kernel, and what makes it fast.

The fused path, the batch, the chain and `explain` read everything they need from this record.
"""

from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numba import types
from numpy.typing import NDArray

from ..inputs.logits import Ties
from ..inputs.values import one_of, show
from ..numeric.compile import address_of, caller_of
from ..numeric.statistics import STATISTICS
from ..params import FIELDS, Field
from ..params.options import Options

Values = NDArray[np.float64]  # (fields,)

Kind = Literal["mask", "adjust", "scale", "cut", "free"]

#: The kinds in the order of their numbers, by which kernels know them.
KINDS = get_args(Kind)
MASK, ADJUST, SCALE, CUT, FREE = range(5)

#: What a mask or an adjustment can name its tokens by: lists of a row, ...
LISTS = (
    *("logit_bias", "history", "banned_tokens", "eos_token", "bad_words"),
    *("penalty_exempt", "ngram_exempt", "dry_sequence_breakers", "stop_tokens"),
    *("banned_texts", "forced_output_tokens", "reasoning_end", "watermark"),
)
#: ... or its words.
WORDS = ("token_bitmask", "allowed_tokens")

#: The most numeric fields and numbers of its state that a control may have.
MOST_FIELDS = 9

#: Larger integers are as good as this one: it is beyond any vocabulary and any history.
_MOST = 2**62

#: The options that a chain's author can set, where a control has them, and their values; a
#: `window` is a number of tokens or None, `protected_ids` are token ids.
Scope = Literal["all", "prompt", "output"]
Protected = Literal["skip", "exempt", "exclude"]
CHOICES: dict[str, tuple[str, ...]] = {
    "scope": get_args(Scope),
    "ties": get_args(Ties),
    "protected": get_args(Protected),
}
OPTIONS = (*CHOICES, "window", "protected_ids")


class Request(NamedTuple):
    """What a kernel can read of a row's request and history.

    >>> Request._fields[:4]
    ('values', 'option', 'seed', 'position')
    """

    #: The control's numeric fields, in the order of its record, and then its state.
    values: NDArray[np.float64]
    #: The place of the chosen option's value in `CHOICES`, an integer.
    option: Any
    #: The row's seed, uint64.
    seed: Any
    #: How many tokens the row has generated, uint64.
    position: Any
    #: The tokens so far, within the options `scope` and `window`.
    history: NDArray[np.int64]
    #: How many of these tokens are the prompt's, an integer.
    prompt_size: Any
    #: How far before each of these tokens it stood last; 0 if it did not. It is empty unless a
    #: control of the request has a `find`.
    gaps: NDArray[np.int64]
    #: The tokens of the record's list field, or the ends of its sequences.
    tokens: NDArray[np.int64]
    #: A number for each of `tokens`.
    numbers: NDArray[np.int64]
    #: Of kind "adjust": where in the row the named tokens are.
    places: NDArray[np.int64]
    #: Of kind "adjust": how often each of the named tokens occurs.
    counts: NDArray[np.int64]
    #: Which logits of the row are those of protected tokens; it may be empty.
    protected: NDArray[np.bool_]
    #: Of kind "mask": a bit for each token, to clear.
    words: NDArray[np.uint64]
    #: Of kind "mask": the row's own mask.
    allowed: NDArray[np.uint64]
    #: The mass of all tokens that are left, in units of 2**-42 of the best one's, an integer. This
    #: and the other statistics are known if the record names them.
    mass: Any
    #: The standard deviation of their logits.
    deviation: Any
    #: The entropy of their probabilities, in nats; `mass` comes with it.
    entropy: Any
    #: The sum of the squares of their probabilities; `mass` comes with it.
    squares: Any


_LONGS, _FLAGS = types.Array(types.int64, 1, "C"), types.Array(types.boolean, 1, "C")
_WORDS, _VALUES = types.Array(types.uint64, 1, "C"), types.Array(types.float64, 1, "C")
_ROW, _IDS = types.Array(types.float32, 1, "C"), types.Array(types.int32, 1, "C")

_REQUEST = types.NamedTuple(  # type: ignore[no-untyped-call]
    [
        *(_VALUES, types.int64, types.uint64, types.uint64, _LONGS, types.int64, _LONGS, _LONGS),
        *(_LONGS, _LONGS, _LONGS, _FLAGS, _WORDS, _WORDS, types.int64, *[types.float64] * 3),
    ],
    Request,
)

KERNEL = types.none(_ROW, _IDS, _REQUEST)
FLOOR = types.float64(types.float32, types.float64, _ROW, _VALUES, types.int64)
IDLE = types.boolean(_VALUES, types.uint64, types.uint64)
FIND = types.int64(_REQUEST, _LONGS, _LONGS, _LONGS)
UPDATE = types.none(_VALUES, types.float64, _VALUES)

ADD = types.none(_ROW, types.float32, types.float32, _LONGS)

call_kernel, call_floor, call_idle = caller_of(KERNEL), caller_of(FLOOR), caller_of(IDLE)
call_find, call_update, call_add = caller_of(FIND), caller_of(UPDATE), caller_of(ADD)


@dataclass(frozen=True, kw_only=True)
class Control:
    """A sampling control.

    name        what a chain calls it
    fields      the numeric request fields that it reads: a `Field`, or the name of one of `Params`
    kind        "mask"     removes named tokens, whatever their logits are
                "adjust"   changes the logits of named tokens
                "scale"    maps all logits and keeps their order
                "cut"      keeps a prefix of the order, logits descending and then ids ascending
                "free"     anything else that one row and its request determine
    kernel      (row, ids, request) -> None, compiled with `numba.njit`. It changes the float32
                logits of one row in place: the whole row if `ids` is empty, or else the candidates
                with these token ids, ascending. Removed tokens are -inf, and stay so. `request` is
                a `Request`. A mask clears bits of `request.words` and leaves the row alone
    floor       of a cut or a scale: (best, temperature, peaks, values, vocab_size) -> a logit below
                which no token survives, as the logits are before division by the temperature;
                `best` is the row's largest logit, and `peaks` has the largest of each 64. The
                kernel may then depend on the tokens that stay and on `statistics` alone, since the
                floors of later controls leave out others. Without a floor it gets all of them
    idle        (values, seed, position) -> whether the control does nothing at this position
    find        of an adjustment that finds the tokens itself: (request, tokens, numbers, room) ->
                how many. It lists tokens of the vocabulary, each once, and a number for each, which
                the kernel gets as `request.counts`; `room` is scratch of the size of the vocabulary
    state       names of numbers that the control carries from token to token. Its functions get
                them after the fields; each is NaN before the first token
    update      with a state: (values, logprob, state) -> None. It writes the state for the next
                token; `logprob` is the natural log-probability of the token that was drawn
    follows     "after": that log-probability is of the row as the control left it; "before": as the
                control got it
    switches    the fields that each switch the control off by their off value; by default the first
    instead_of  the name of the control that this one replaces in a chain while it is on; it has one
                field that switches it then
    tokens      which tokens a mask or an adjustment names: "history", or the list field of `Params`
                that has them, one of `LISTS` or `WORDS`; with `find`, the list that this reads
    window      of a control that reads the history: which of `fields` says how many of the last
                tokens count; where it is None, the option `window` says so
    exempt      of a mask or an adjustment: the list field of `Params`, one of `LISTS`, that has the
                tokens which the control leaves alone
    statistics  what the kernel needs to know of all tokens that are left: "mass", "deviation",
                "entropy", "squares"
    options     the options of `OPTIONS` that a chain's author can set, with their defaults
    divides     of a scale: whether it divides all logits by its first field; 0 keeps the best
    keeps_share of a cut: whether it keeps the shortest prefix whose share of the mass reaches its
                first field, with the equals of the last token if the option `ties` is "all"
    keeps_one   whether at least one token always remains; implied for a cut or a scale

    Raises TypeError or ValueError for a record that is inconsistent.

    >>> import numba
    >>> from logitchain import Chain, Field
    >>> @numba.njit
    ... def keep_near_the_best(row, ids, request):
    ...     cut = row.max() - request.values[0]
    ...     for i in range(row.size):
    ...         if row[i] < cut:
    ...             row[i] = -np.inf
    >>> gap = Field("max_gap", off=np.inf, range="[0, inf]")
    >>> record = Control(name="max_gap", fields=[gap], kind="cut", kernel=keep_near_the_best)
    >>> Chain(["temperature", record, "top_p"])
    Chain(['temperature', max_gap, 'top_p'])
    """

    name: str
    fields: tuple[Any, ...] = ()
    kind: Kind
    kernel: Callable[..., Any]
    floor: Callable[..., Any] | None = None
    idle: Callable[..., Any] | None = None
    find: Callable[..., Any] | None = None
    state: tuple[str, ...] = ()
    update: Callable[..., Any] | None = None
    follows: Literal["before", "after"] = "after"
    switches: tuple[str, ...] = ()
    instead_of: str = ""
    tokens: str = ""
    window: str = ""
    exempt: str = ""
    statistics: tuple[str, ...] = ()
    options: Mapping[str, Any] | None = None
    divides: bool = False
    keeps_share: bool = False
    keeps_one: bool = False

    def __post_init__(self) -> None:
        """Check the record and complete it."""
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise ValueError(f"name must be an identifier, not {show(self.name)}")
        one_of("kind", self.kind, KINDS)
        fields = tuple(map(_field, self.fields))
        if len(fields) + len(self.state) > MOST_FIELDS:
            count = len(fields) + len(self.state)
            raise ValueError(f"fields and state must be at most {MOST_FIELDS}, not {count}")
        names = [field.name for field in fields]
        if isinstance(self.state, str) or len(set(self.state)) != len(self.state):
            raise ValueError(f"state must be distinct names, not {show(self.state)}")
        for name in self.state:
            if not isinstance(name, str) or not name.isidentifier() or name in {*FIELDS, *names}:
                raise ValueError(f"state must be names that no field has, not {show(name)}")
        if bool(self.state) != (self.update is not None):
            raise ValueError("state and update must be given together")
        one_of("follows", self.follows, ("before", "after"))
        if self.state and self.kind in ("mask", "adjust"):
            raise ValueError(f"state must be empty for a control of kind {self.kind}")
        for switch in self.switches:
            one_of("switches", switch, names)
        if self.tokens:
            one_of("tokens", self.tokens, (*LISTS, *WORDS))
        if self.window:
            one_of("window", self.window, names)
        if self.exempt:
            one_of("exempt", self.exempt, LISTS)
        for statistic in self.statistics:
            one_of("statistics", statistic, STATISTICS)
        for option in self.options or {}:
            one_of("options", option, OPTIONS)
        if self.floor is not None and self.kind not in ("cut", "scale"):
            raise ValueError(f"floor must be None for a control of kind {self.kind}")
        if self.find is not None and self.kind != "adjust":
            raise ValueError(f"find must be None for a control of kind {self.kind}")
        if self.instead_of and len(self.switches or fields[:1]) != 1:
            raise ValueError(f"switches must be one field, since {self.name} replaces another")
        object.__setattr__(self, "fields", fields)
        object.__setattr__(self, "state", tuple(self.state))
        object.__setattr__(self, "switches", tuple(self.switches))
        object.__setattr__(self, "statistics", tuple(self.statistics))
        object.__setattr__(self, "options", dict(self.options or {}))

    @cached_property
    def switched_by(self) -> tuple[Field, ...]:
        """The fields that each switch the control off."""
        switches = self.switches or [field.name for field in self.fields[:1]]
        return tuple(field for field in self.fields if field.name in switches)

    def is_on(self, params: Any) -> bool:
        """Whether a request has none of the off values that switch the control off."""
        values = ((getattr(params, x.name, x.off), x.off) for x in self.switched_by)
        return all(value != off and not np.isnan(as_number(value)) for value, off in values)

    def __repr__(self) -> str:
        """Name, kind and fields."""
        fields = tuple(field.name for field in self.fields)
        return f"Control(name={self.name!r}, kind={self.kind!r}, fields={fields})"

    def __deepcopy__(self, memo: Any) -> "Control":
        """The record itself, which cannot change."""
        return self

    def compiled(self) -> tuple[int, ...]:
        """The addresses of the kernels, and of what sums up each statistic; 0 for none."""
        return (
            address_of(f"the kernel of {self.name}", self.kernel, KERNEL),
            address_of(f"the floor of {self.name}", self.floor, FLOOR) if self.floor else 0,
            address_of(f"the idle of {self.name}", self.idle, IDLE) if self.idle else 0,
            address_of(f"the find of {self.name}", self.find, FIND) if self.find else 0,
            address_of(f"the update of {self.name}", self.update, UPDATE) if self.update else 0,
            *(
                address_of(name, add, ADD) if name in self.statistics else 0
                for name, add in STATISTICS.items()
            ),
        )


def as_number(value: Any) -> float:
    """The value of a field as kernels read it: the length of a list, NaN for None, which is off."""
    if isinstance(value, float):
        return value
    if isinstance(value, int):
        return float(min(value, _MOST))
    if value is None:
        return np.nan
    if isinstance(value, Options):
        return value.number
    return float(len(value) if isinstance(value, Sized) else value)


def _field(field: Any) -> Field:
    if isinstance(field, str):
        return FIELDS[one_of("fields", field, FIELDS)]
    if not isinstance(field, Field):
        raise TypeError(f"fields must be Field records or names of Params, not {show(field)}")
    if field.off is not None and not isinstance(field.off, (int, float)):
        kinds = "a number, a bool or None"
        raise TypeError(f"the off value of {field.name} must be {kinds}, not {show(field.off)}")
    return field
