"""The fields of a request, in one table, and the parser of a request's body.

The table is the class `Params` itself: each line is a field's name, type, off value and range.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .. import html, rng
from ..dialects import DIALECTS, NOT_SAMPLING, DialectName, Reading, Rule, Spelling, flat
from ..inputs.banned_texts import BannedTexts
from ..inputs.values import in_body, listed, of_field, one_of, show, suggestion
from .fields import (
    Field,
    checked_field,
    field,
    fields_of,
    flag,
    required_of,
    unchecked,
    whole_number,
)
from .lists import (
    BIAS_INTERVAL,
    ID_INTERVAL,
    SEED_INTERVAL,
    Bias,
    Phrases,
    StopPhrases,
    StopTokens,
    TokenIds,
    breakers,
    seed_or_seeds,
    tokens_field,
)
from .repetition import RepetitionDetection
from .watermark import Watermark

P = TypeVar("P", bound="Params")

#: How many characters of a value the repr of a `Params` shows.
_SHOWN = 60

#: A sample is a row of a batch. This is more rows than an engine runs, and bounds what a single
#: request can ask for.
MOST_SAMPLES = 2**20


def _stage(name: str, value: Any) -> str:
    """The name of a row on its way through a chain; the chain knows which there are."""
    if not isinstance(value, str) or not value:
        what = 'must be "raw", "processed" or the name of a control'
        raise (ValueError if value == "" else TypeError)(f"{name} {what}, not {show(value)}")
    return value


# ---- the types of the fields that are given in one form and kept in another

if TYPE_CHECKING:  # for type checkers, the argument of a dataclass's field is what `__set__` takes
    Kept = TypeVar("Kept", covariant=True)
    Accepted = TypeVar("Accepted", contravariant=True)

    class Converted(Generic[Kept, Accepted]):
        """A field whose argument may be of more types than its value."""

        def __get__(self, params: object, kind: Any = None) -> Kept:
            """The type of the value."""

        def __set__(self, params: object, value: Accepted) -> None:
            """The type of the argument."""

    Tokens = Converted[tuple[int, ...], int | Iterable[int] | None]
    TokenSequences = Converted[tuple[tuple[int, ...], ...], Iterable[Iterable[int]] | None]
    Ends = Converted[tuple[tuple[int, ...], ...], int | Iterable[int | Iterable[int]] | None]
    Texts = Converted[tuple[str, ...], str | list[str] | tuple[str, ...] | None]
    Seed = Converted[int | tuple[int, ...] | None, int | Iterable[int] | None]
    Biases = Converted[Mapping[int, float], Mapping[int, float] | Mapping[str, float]]
    Detection = Converted[
        RepetitionDetection | None, RepetitionDetection | Mapping[str, Any] | None
    ]
    Watermarks = Converted[Watermark | None, Watermark | Mapping[str, Any] | None]
else:
    Tokens = tuple[int, ...]
    TokenSequences = tuple[tuple[int, ...], ...]
    Ends = tuple[int | tuple[int, ...], ...]
    Texts = tuple[str, ...]
    Seed = int | tuple[int, ...] | None
    Biases = Mapping[int, float]
    Detection = RepetitionDetection | None
    Watermarks = Watermark | None


@dataclass(frozen=True, kw_only=True)
class Params:
    """What one request asks of its sampling. Every field has its off value by default.

    `docs/controls.md` has the meaning of each. Raises ValueError or TypeError, naming field, range
    and value, for a value out of range; the error's `field` is the name.

    >>> Params(temperature=0.8, top_p=0.95, seed=7).top_p
    0.95
    >>> Params(min_p=1.5)
    Traceback (most recent call last):
    ...
    ValueError: min_p must be in [0, 1], not 1.5
    """

    temperature: float = field(
        1.0, "[0, inf)", "divide the logits by it; 0 keeps the best token alone"
    )
    dynatemp_range: float = field(
        0.0, "[0, inf)", "how far the temperature moves with the entropy of the row"
    )
    dynatemp_exponent: float = field(
        1.0, "[0, inf)", "of that movement of the temperature; 1 is linear"
    )
    smoothing_factor: float = field(0.0, "[0, inf)", "bend the logits around the best one")
    smoothing_curve: float = field(
        1.0, "[1, inf)", "of that bend: 1 is a parabola, more adds a cubic part"
    )
    top_n_sigma: float = field(
        0.0, "[0, inf)", "keep tokens this many standard deviations below the best"
    )
    top_k: int = field(0, "[0, vocab_size]", "keep this many of the best tokens", integer=True)
    top_p: float = field(
        1.0, "(0, 1]", "keep the best tokens until their probabilities sum up to it"
    )
    min_p: float = field(
        0.0, "[0, 1]", "keep tokens at least this probable, relative to the best one"
    )
    typical_p: float = field(
        1.0, "(0, 1]", "keep the tokens nearest to the entropy until they sum up to it"
    )
    top_a: float = field(
        0.0, "[0, 1]", "keep tokens of at least this share of the best one's probability squared"
    )
    epsilon_cutoff: float = field(0.0, "[0, 1)", "keep tokens of at least this probability")
    eta_cutoff: float = field(
        0.0, "[0, 1)", "keep tokens of at least this probability, or less at a high entropy"
    )
    tfs: float = field(1.0, "(0, 1]", "keep the tokens before the tail of the sorted probabilities")
    p_less: bool = checked_field(
        False, flag, doc="keep tokens of at least the sum of all squared probabilities"
    )
    top_h: float | None = field(
        None, "(0, 1)", "keep the best tokens that have this share of the entropy"
    )
    xtc_probability: float = field(
        0.0, "[0, 1]", "how often XTC removes the top choices but the last"
    )
    xtc_threshold: float = field(
        0.0, "[0, 1]", "the probability of a top choice; 0 is off in a request only"
    )
    mirostat_tau: float | None = field(
        None, "(0, inf)", "the surprise in bits at which mirostat aims"
    )
    mirostat_eta: float = field(
        0.1, "(0, 1]", "how fast mirostat follows the surprise of the tokens drawn"
    )
    adaptive_target: float | None = field(
        None, "[0, 1]", "the probability at which adaptive-p aims"
    )
    adaptive_decay: float = field(
        0.9, "[0, 0.99]", "how much earlier tokens count: about 1 / (1 - decay) of them"
    )
    repetition_penalty: float = field(
        1.0, "(0, inf)", "divide or multiply the logits of the tokens so far"
    )
    frequency_penalty: float = field(
        0.0, "[-2, 2]", "subtract it for each time a token was generated", domain="(-inf, inf)"
    )
    presence_penalty: float = field(
        0.0, "[-2, 2]", "subtract it if a token was generated at all", domain="(-inf, inf)"
    )
    penalty_window: int | None = field(
        None,
        "[0, inf)",
        "how many of the last tokens the penalties see; null is the chain's `window`",
        integer=True,
    )
    penalty_exempt: Tokens = tokens_field(
        "tokens that no penalty changes and `no_repeat_ngram` does not remove"
    )
    dry_multiplier: float = field(
        0.0, "[0, inf)", "the penalty of a token that continues a repetition"
    )
    dry_base: float = field(
        1.75, "[1, inf)", "each further token of the repetition multiplies the penalty by it"
    )
    dry_allowed_length: int = field(
        2, "[0, inf)", "repetitions that are shorter do not count", integer=True
    )
    dry_window: int | None = field(
        None,
        "[0, inf)",
        "how many of the last tokens DRY sees; null is the chain's `window`",
        integer=True,
    )
    dry_sequence_breakers: TokenSequences = checked_field(
        Phrases(), breakers, ID_INTERVAL, doc="token id sequences that a repetition cannot cross"
    )
    allowed_tokens: Tokens = tokens_field("token ids; all others are removed")
    banned_tokens: Tokens = tokens_field("token ids that are removed")
    no_repeat_ngram: int = field(
        0,
        "[0, inf)",
        "no n-gram of this length is generated twice; 1 is off in a request only",
        integer=True,
    )
    ngram_window: int | None = field(
        None,
        "[0, inf)",
        "how many of the last tokens `no_repeat_ngram` sees; null is all",
        integer=True,
    )
    ngram_exempt: Tokens = tokens_field("tokens that `no_repeat_ngram` does not remove")
    bad_words: TokenSequences = checked_field(
        Phrases(),
        Phrases.checked,
        ID_INTERVAL,
        doc="sequences of token ids that are never completed",
    )
    banned_texts: BannedTexts = checked_field(
        BannedTexts(), BannedTexts.checked, doc="texts that no tokens spell: `lc.BannedTexts`"
    )
    forced_output_tokens: Tokens = tokens_field("token ids that the answer begins with")
    reasoning_budget: int | None = field(
        None, "[0, inf)", "how many tokens of reasoning an answer may have", integer=True
    )
    reasoning_start: Tokens = tokens_field(
        "the token ids that begin a block of reasoning; without them the answer begins in one"
    )
    reasoning_end: Tokens = tokens_field("the token ids that end a block of reasoning")
    reasoning_message: Tokens = tokens_field("token ids that are forced before `reasoning_end`")
    min_reasoning: int = field(
        0, "[0, inf)", "how many tokens a block of reasoning has at least", integer=True
    )
    reasoning_grace: int = field(
        0,
        "[0, inf)",
        "how many tokens the forced end waits for the end of a line at most",
        integer=True,
    )
    reasoning_line_ends: Tokens = tokens_field("token ids that end a line")
    reasoning_per_block: bool = checked_field(
        False, flag, doc="whether each block of reasoning has the whole budget"
    )
    repetition_detection: Detection = checked_field(
        None,
        RepetitionDetection.checked,
        doc="which repetitions at the end of the tokens end the answer or its reasoning",
    )
    logit_bias: Biases = checked_field(
        Bias,
        Bias.checked,
        BIAS_INTERVAL,
        doc="for each token id what is added to its logit; -inf bans it",
    )
    watermark: Watermarks = checked_field(
        None,
        Watermark.checked,
        doc="a mark that whoever has its key can find in the tokens",
    )
    seed: Seed = checked_field(
        None,
        seed_or_seeds,
        SEED_INTERVAL,
        doc="a 64-bit integer, or a list of n of them; null draws one at random",
    )
    n: int = field(
        1, f"[1, {MOST_SAMPLES}]", "independent samples of the prompt, one row each", integer=True
    )
    max_tokens: int | None = field(
        None, "[1, inf)", "how many tokens to generate at most", integer=True
    )
    max_total_tokens: int | None = field(
        None, "[1, inf)", "how many tokens prompt and output have at most together", integer=True
    )
    min_tokens: int = field(0, "[0, inf)", "how many tokens to generate at least", integer=True)
    min_total_tokens: int = field(
        0, "[0, inf)", "how many tokens prompt and output have at least together", integer=True
    )
    stop_after_min_tokens: bool = checked_field(
        False, flag, doc="whether a stop phrase, too, ends the text only after these minimums"
    )
    stop: Texts = checked_field(
        StopPhrases(), StopPhrases.checked, doc="a phrase or phrases that end the text"
    )
    eos_token: Tokens = tokens_field("a token id or ids that end the text")
    stop_tokens: Ends = checked_field(
        StopTokens(),
        StopTokens.checked,
        ID_INTERVAL,
        doc="token ids, or sequences of them, that end the text",
    )
    include_stop: bool = checked_field(
        False, flag, doc="whether the text has the phrase or the tokens that ended it"
    )
    logprobs: bool = checked_field(False, flag, doc="whether log-probabilities are returned")
    top_logprobs: int = field(
        0,
        "[0, vocab_size]",
        "of how many of the best tokens log-probabilities are returned",
        integer=True,
    )
    logprob_token_ids: Tokens = tokens_field(
        "token ids whose log-probabilities are returned beside that of each token"
    )
    logprobs_of: str = checked_field(
        "raw",
        _stage,
        doc="the row that log-probabilities are of: raw, processed, or as a control leaves it",
    )

    def __post_init__(self) -> None:
        """Check every field and store it in its own form."""
        name = ""
        try:
            for name, field in fields_of(type(self)).items():
                if field.check is not unchecked:
                    object.__setattr__(self, name, field.check(name, getattr(self, name)))
        except (TypeError, ValueError) as error:
            raise of_field(name, error) from None
        if isinstance(self.seed, tuple) and len(self.seed) != self.n:
            raise of_field("seed", _wrong_number_of_seeds(self.seed, self.n))
        self._check_reasoning()

    def _check_reasoning(self) -> None:
        """Check that the fields of reasoning go with each other."""
        detection, budget = self.repetition_detection, self.reasoning_budget
        needing = {
            "reasoning_budget": budget is not None,
            "min_reasoning": self.min_reasoning > 0,
            "repetition_detection": detection is not None and detection.action == "end_reasoning",
        }
        for name in (name for name, needs_end in needing.items() if needs_end):
            if not self.reasoning_end:
                error = ValueError(f"{name} needs reasoning_end, which must be token ids, not ()")
                raise of_field(name, error)
        if budget is not None and self.min_reasoning > budget:
            given = show(self.min_reasoning)
            error = ValueError(f"min_reasoning must be in [0, {show(budget)}], not {given}")
            raise of_field("min_reasoning", error)
        if self.reasoning_end and self.reasoning_start == self.reasoning_end:
            same = show(self.reasoning_start, _SHOWN)
            error = ValueError(f"reasoning_start must differ from reasoning_end, not be {same}")
            raise of_field("reasoning_start", error)

    def check_vocabulary(self, vocab_size: int) -> None:
        """Check that every token that the request names is in the vocabulary.

        Raises ValueError, whose `field` is the name of the field at fault, for a token id that is
        not in [0, vocab_size) and for a `top_k` or `top_logprobs` above `vocab_size`. `Batch.add`
        raises the same; a server calls this before it queues a request.

        >>> Params(banned_tokens=[5, 100]).check_vocabulary(100)
        Traceback (most recent call last):
        ...
        ValueError: banned_tokens must be in [0, 100), not 100
        """
        whole_number("vocab_size", vocab_size, "[1, inf)")
        for name in ("top_k", "top_logprobs"):
            number = getattr(self, name)
            if number > vocab_size:
                error = ValueError(f"{name} must be in [0, {vocab_size}], not {show(number)}")
                raise of_field(name, error)
        if self.banned_texts.vocab_size > vocab_size:
            size = self.banned_texts.vocab_size
            error = ValueError(f"banned_texts must be of at most {vocab_size} tokens, not {size}")
            raise of_field("banned_texts", error)
        for name, what in _NAMING_TOKENS.items():
            value = getattr(self, name)
            ids = value.all_tokens if isinstance(value, (Phrases, Bias)) else value
            if ids.largest >= vocab_size:
                bad = next(token for token in ids if token >= vocab_size)
                error = ValueError(f"{what} must be in [0, {vocab_size}), not {show(bad)}")
                raise of_field(name, error)

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Keep the short repr, of which `dataclass` would make one of all fields."""
        super().__init_subclass__(**arguments)
        if "__repr__" not in cls.__dict__:
            cls.__repr__ = super(cls, cls).__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        """The fields that are not at their off values; long values are cut."""
        settings = ", ".join(f"{name}={value}" for name, value, _ in self._in_use())
        return f"{type(self).__name__}({settings})"

    def _repr_html_(self) -> str:
        """These fields as a table, for notebooks."""
        return html.table(type(self).__name__, ("field", "value", "range"), self._in_use())

    def _in_use(self) -> list[tuple[str, str, str]]:
        """Name, value and range of the fields that are not at their off values."""
        values = [(x, getattr(self, x.name)) for x in fields_of(type(self)).values()]
        in_use = [(x, value) for x, value in values if not _equal(value, x.off)]
        texts = [repr(v) if isinstance(v, BannedTexts) else show(v, _SHOWN) for _, v in in_use]
        return [(x.name, text, x.range) for (x, _), text in zip(in_use, texts, strict=True)]

    def samples(self: P) -> list[P]:
        """The request as one `Params` per sample, each with n = 1 and a seed of its own.

        The seeds are those of the rows that `Batch.add` adds for this request, so each sample gives
        the same tokens alone. Without a seed, one is drawn first.

        >>> one, two = Params(n=2, seed=7, top_k=5).samples()
        >>> one == Params(seed=7, top_k=5), two.seed == one.seed, two.top_k
        (True, False, 5)
        """
        samples = []
        for seed in rng.sample_seeds(self.seed, self.n):
            sample = copy.copy(self)  # its fields have been checked, those of subclasses included
            object.__setattr__(sample, "n", 1)
            object.__setattr__(sample, "seed", seed)
            samples.append(sample)
        return samples

    @classmethod
    def from_request(
        cls: type[P],
        body: Mapping[str, Any],
        *,
        dialect: DialectName = "openai",
        passthrough: Iterable[str] = (),
        eos_token: int | Iterable[int] = (),
    ) -> P:
        """The sampling fields of a chat-completions request body, as `json.loads` gives it.

        body          fields of `Params` under their names; `null` is the off value
        dialect       the engine whose field names the body may also use: a key of `DIALECTS`
        passthrough   further field names to leave to the caller
        eos_token     the model's own end tokens, a token id or several. They are added to those of
                      the body, unless the body asks to ignore the end of text

        Fields that do not concern sampling (`messages`, `model`, `tools` ...) are ignored, and so
        are those of the dialect which only its engine can read. A sampling control that logitchain
        lacks must be off. A subclass with further fields gets them from the body as well. Raises
        ValueError or TypeError whose `field` is the field of the body that is at fault; for an
        unknown field it suggests the nearest known one.

        >>> Params.from_request({"model": "m", "messages": [], "top_k": 40, "n": 2}).top_k
        40
        >>> Params.from_request({"top-p": 0.9})
        Traceback (most recent call last):
        ...
        ValueError: unknown field 'top-p' in the request body; did you mean 'top_p'?
        """
        if not isinstance(body, Mapping):
            raise TypeError(f"the request body must be a JSON object, not {show(body)}")
        ignored = _names("passthrough", passthrough)
        rules = DIALECTS[one_of("dialect", dialect, DIALECTS)]
        fields = fields_of(cls)
        reading = Reading(fields, TokenIds.checked("eos_token", eos_token))
        later: list[tuple[str, Any, Rule]] = []
        for key, value in flat(body, rules):
            if key in ignored and (key in FIELDS or key not in fields):
                continue
            rule = Spelling(key) if key in fields and key not in FIELDS else rules.get(key)
            if rule is None and key in FIELDS:
                rule = Spelling(key)
            if rule is None and key not in NOT_SAMPLING:
                raise _unknown(key, {*fields, *rules, *NOT_SAMPLING, *ignored})
            if rule is not None and value is not None:
                _read_field(key, value, rule, reading)
                later.append((key, value, rule))
        for key, value, rule in later:
            try:
                rule.finish(key, value, reading)
            except ValueError as error:
                raise in_body(key, error) from None
        return _made(cls, reading)


def _equal(value: Any, off: Any) -> bool:
    """Whether two values are equal; those that cannot be compared are not."""
    try:
        return bool(value == off)
    except Exception:  # as of arrays, or of a class of the caller's
        return False


def _read_field(key: str, value: Any, rule: Rule, reading: Reading) -> None:
    try:
        given = rule.read(key, value)
        checked = {name: reading.fields[name].check(name, x) for name, x in given.items()}
    except (TypeError, ValueError) as error:
        raise in_body(key, error) from None
    for name in checked:
        if name in reading.values:
            twice = f"the request body has {name} twice, the second time as {show(key)}"
            raise of_field(key, ValueError(twice))
        reading.values[name], reading.spelled[name] = checked[name], key


def _made(kind: type[P], reading: Reading) -> P:
    """The parameters that were read, once all is known that belongs together."""
    values = reading.values
    if reading.eos_token:
        ends = dict.fromkeys((*values.get("eos_token", ()), *reading.eos_token))
        values["eos_token"] = TokenIds(ends)
    for name in required_of(kind):
        if name not in values:
            missing = f"the request body must have the field {show(name)}"
            raise of_field(name, ValueError(missing))
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:  # the fields contradict each other
        spelled = reading.spelled.get(getattr(error, "field", ""))
        if spelled is None:
            raise
        raise in_body(spelled, error) from None


def _wrong_number_of_seeds(seed: tuple[int, ...], n: int) -> ValueError:
    return ValueError(f"seed must be one integer or n = {n} of them, not {show(seed)}")


def _names(name: str, value: Any) -> set[str]:
    names = listed(name, value, "field names", ordered=False)
    if not all(isinstance(x, str) for x in names):
        raise TypeError(f"{name} must be field names, not {show(value)}")
    return set(names)


def _unknown(key: Any, known: set[str]) -> ValueError:
    unknown = f"unknown field {show(key)} in the request body{suggestion(key, known)}"
    return of_field(key, ValueError(unknown))


FIELDS: dict[str, Field] = fields_of(Params)

#: The fields that name tokens, and how an error names them.
_NAMING_TOKENS = {
    name: f"token ids in {name}" if isinstance(field.off, Bias) else name
    for name, field in FIELDS.items()
    if isinstance(field.off, (TokenIds, Phrases, Bias))
}
