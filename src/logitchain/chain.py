"""The chain: controls in order; it applies them, samples with them, explains them."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .arrays import listed, one_of, show
from .batch import Batch
from .controls import logit_bias, min_p, penalties, temperature, top_k, top_p, xtc
from .explain import Explanation, explain
from .rows import Reading, Rows, first_unfit, why_unfit
from .sample import draw

#: The named controls: each changes float32 rows in place, as its batch's columns say.
CONTROLS: dict[str, Callable[..., None]] = {
    "logit_bias": logit_bias.step,
    "repetition_penalty": penalties.repetition_step,
    "frequency_penalty": penalties.frequency_step,
    "presence_penalty": penalties.presence_step,
    "temperature": temperature.step,
    "top_k": top_k.step,
    "top_p": top_p.step,
    "min_p": min_p.step,
    "xtc": xtc.step,
}

DEFAULT = tuple(CONTROLS)
POLICIES = ("raise", "mark")


def _with(names: str, **options: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(name, options) for name in names.split()]


_PENALTIES = "repetition_penalty frequency_penalty presence_penalty"

#: Other engines' orders, with what else they mean by a control. docs/controls.md says where each
#: still differs.
PRESETS: dict[str, Sequence[Any]] = {
    "llama_cpp": [
        "logit_bias",
        *_with(_PENALTIES, scope="all", window=64),
        *("top_k", "top_p", "min_p", "xtc", "temperature"),
    ],
    "transformers": [
        *("logit_bias", "repetition_penalty", "temperature"),
        *_with("top_k", ties="all"),
        *("top_p", "min_p"),
    ],
    "vllm": [
        *("logit_bias", *_PENALTIES.split(), "temperature", "min_p"),
        *_with("top_k", ties="all"),
        "top_p",
    ],
    # top_p before top_k is top_k and top_p jointly: two prefixes of one order, one mass.
    "sglang": [
        *("frequency_penalty", "presence_penalty"),
        *_with("repetition_penalty", scope="output"),
        *("logit_bias", "temperature", "top_p", "top_k", "min_p"),
    ],
    "mlx_lm": [
        "logit_bias",
        *_with("repetition_penalty presence_penalty frequency_penalty", scope="all", window=20),
        *_with("top_p", ties="all"),
        *("min_p", "xtc", "top_k", "temperature"),
    ],
}


class Step(NamedTuple):
    """One place in a chain."""

    name: str
    apply: Callable[[Rows, Batch], None]
    may_spoil: bool  # whether it can leave a row without a finite logit


class Chain:
    """Controls in order.

    order        of each control its name; or (name, options), as in ("top_k", {"ties": "all"}); or
                 a callable (rows, batch) -> None of your own, which changes the float32 rows
                 (rows, vocab) in place
    on_invalid   what to do with a row that has NaN or +inf, or no finite logit left: "raise" a
                 ValueError that names row and token, or "mark" it: its token is -1, its processed
                 logits are -inf, and `batch.status` says why

    A chain has no state of its own. Raises ValueError for a name it does not know.

    >>> from logitchain import Batch, Params
    >>> batch = Batch(vocab_size=4)
    >>> rows = batch.add(Params(temperature=0.5, top_k=2, seed=1))
    >>> Chain()([[1.0, 2.0, 3.0, 0.0]], batch)
    array([[-inf,   4.,   6., -inf]], dtype=float32)
    """

    def __init__(self, order: Sequence[Any] = DEFAULT, *, on_invalid: str = "raise") -> None:
        """A chain of the controls in `order`."""
        entries = listed("order", order, "a sequence of controls")
        self.steps = tuple(_step(entry) for entry in entries)
        self.on_invalid = one_of("on_invalid", on_invalid, POLICIES)

    @classmethod
    def preset(cls, name: str, *, on_invalid: str = "raise") -> "Chain":
        """The order of another engine: one of `PRESETS`.

        >>> [step.name for step in Chain.preset("transformers").steps][:3]
        ['logit_bias', 'repetition_penalty', 'temperature']
        """
        return cls(PRESETS[one_of("preset", name, PRESETS)], on_invalid=on_invalid)

    def __call__(
        self,
        logits: Any,
        batch: Batch,
        *,
        until: str | None = None,
        on_invalid: str | None = None,
        dtype: str | None = None,
        out: Any = None,
    ) -> NDArray[np.float32]:
        """The processed logits: the composition of the controls.

        logits   (rows, vocab), row r being the r-th of `batch.rows`; (vocab,) for a batch of one
        until    the name of the last control to apply, for a look at what comes between
        out      float32 array for the result; it may be `logits`

        Returns float32 of the same shape. Raises ValueError if a row is not fit to use, unless
        `on_invalid` says otherwise.
        """
        reading, rows = _open(logits, batch, out, dtype)
        if until is not None:
            one_of("until", until, [step.name for step in self.steps])
        for name in self.run(rows, batch, on_invalid):
            if name == until:
                break
        rows[[status != "ok" for status in batch.status]] = -np.inf
        return reading.write()

    def sample(
        self,
        logits: Any,
        batch: Batch,
        *,
        on_invalid: str | None = None,
        dtype: str | None = None,
    ) -> NDArray[np.int64]:
        """A token for each row: `logitchain.sample` of the processed logits, bit for bit.

        The token of row r depends on its logits, its request, its seed and its position alone. The
        batch does not move on until its `append` is called.
        """
        _, rows = _open(logits, batch, None, dtype)
        for _ in self.run(rows, batch, on_invalid):
            pass
        tokens = draw(rows, batch.seeds, batch.positions)
        tokens[[status != "ok" for status in batch.status]] = -1
        return tokens

    def explain(
        self,
        logits: Any,
        batch: Batch,
        row: int,
        decode: Callable[[int], str] | None = None,
        *,
        dtype: str | None = None,
    ) -> Explanation:
        """What each control does to one row, and why its token is picked.

        row      a handle of the batch
        decode   token id -> text, for the tables
        """
        _, rows = _open(logits, batch, None, dtype)
        index = batch.index(row)
        return explain(rows[index], self.run(rows, batch, "raise"), batch, index, decode)

    def run(self, rows: Rows, batch: Batch, on_invalid: str | None = None) -> Iterator[str]:
        """Change float32 rows in place, one control at a time; each one's name after it ran."""
        policy = one_of(
            "on_invalid", self.on_invalid if on_invalid is None else on_invalid, POLICIES
        )
        batch.status = ["ok"] * len(batch)
        _screen(rows, batch, policy)
        for step in self.steps:
            step.apply(rows, batch)
            if step.may_spoil:
                _screen(rows, batch, policy)
            yield step.name


def _step(entry: Any) -> Step:
    if callable(entry):
        return Step(getattr(entry, "__name__", repr(entry)), entry, True)
    pair = entry if isinstance(entry, tuple) else (entry, {})
    if len(pair) != 2 or not isinstance(pair[0], str) or pair[0] not in CONTROLS:
        names = ", ".join(CONTROLS)
        raise ValueError(f"a control must be one of {names}, or a callable, not {show(entry)}")
    name, options = pair
    if not isinstance(options, Mapping):
        raise TypeError(f"the options of {name} must be a mapping, not {show(options)}")
    try:
        inspect.signature(CONTROLS[name]).bind(None, None, **options)
    except TypeError as error:
        raise TypeError(f"the options of {name}: {error}") from None
    return Step(name, partial(CONTROLS[name], **options), name == "logit_bias")


def _open(logits: Any, batch: Batch, out: Any, dtype: str | None) -> tuple[Reading, Rows]:
    if not isinstance(batch, Batch):
        raise TypeError(f"batch must be a Batch, not {show(batch)}")
    reading = Reading(logits, out, dtype)
    expected = (len(batch), batch.vocab_size)
    if reading.rows.shape != expected:
        raise ValueError(f"logits must have the batch's shape {expected}, not {reading.shape}")
    return reading, reading.rows


def _screen(rows: Rows, batch: Batch, policy: str) -> None:
    """Raise for the first row that is not fit, or mark each and put zeros in its place."""
    while (bad := first_unfit(rows)) >= 0:
        reason = why_unfit(rows[bad])
        if policy == "raise":
            raise ValueError(f"logits: row {bad}, {reason}")
        if batch.status[bad] == "ok":  # the first reason stays
            batch.status[bad] = reason
        rows[bad] = 0.0
