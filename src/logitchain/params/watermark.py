"""The options of a watermark."""

import hashlib
from dataclasses import KW_ONLY, dataclass
from functools import cached_property, partial
from math import nan
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..inputs.values import one_of, show
from .fields import Check, flag, real_number, whole_number
from .options import Options

Scheme = Literal["gumbel", "dual_key_gumbel", "sglang", "sbw"]

#: The schemes in the order of their numbers, by which kernels know them. 0 is none.
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
GUMBEL, DUAL_KEY_GUMBEL, SGLANG, SBW = range(1, 5)

#: The numbers of a watermark, as kernels read them: `Watermark.numbers`.
SCHEME, KEY, KEY_B, CONTEXT_WIDTH, DEDUPLICATE, ROUTE, GREEN_BELOW, DELTA = range(8)

#: The options that a scheme has beside those of all, and their defaults.
_OPTIONS: dict[str, dict[str, Any]] = {
    "gumbel": {},
    "dual_key_gumbel": {"alpha": 0.1},
    "sglang": {"key_b": None, "alpha": 0.5},
    "sbw": {"gamma": 0.5, "delta": 2.0},
}


@dataclass(frozen=True, repr=False)
class Watermark(Options):
    """A watermark: whoever has the key can tell from the tokens that a request had it.

    scheme          "gumbel": vLLM's, a draw whose noise follows from the key and the last tokens
                    "dual_key_gumbel": the same with two keys, which vLLM derives from one
                    "sglang": SGLang's draw of the same kind, with a hash of its own
                    "sbw": a list of green tokens, whose logits are raised
    key             the secret, in [0, 2**64)
    context_width   of how many tokens before a token its noise or its list is a function, in
                    [1, 64]
    deduplicate     whether a draw after a context that the row has had before is an ordinary one,
                    and whether the detector counts such a context once
    key_b           of "sglang": a second key, which some contexts use; None for a single key
    alpha           of a scheme with two keys: the share of the second one, in [0, 1]; by default
                    0.1, and 0.5 for "sglang"
    gamma           of "sbw": the share of the tokens that is green, in (0, 1); by default 0.5
    delta           of "sbw": what is added to their logits, in [0, inf); by default 2

    Raises ValueError or TypeError for a value out of range, and for an option that the scheme does
    not have. `docs/watermarks.md` says what each scheme does. The repr does not show keys.

    >>> Watermark("gumbel", key=42)
    Watermark('gumbel', context_width=4, deduplicate=True)
    >>> from logitchain import Params
    >>> Params(watermark={"scheme": "sbw", "key": 42, "delta": 1.5}).watermark
    Watermark('sbw', context_width=4, deduplicate=True, gamma=0.5, delta=1.5)
    """

    scheme: Scheme = "gumbel"
    _: KW_ONLY
    key: int
    context_width: int = 4
    deduplicate: bool = True
    key_b: int | None = None
    alpha: float | None = None
    gamma: float | None = None
    delta: float | None = None

    def __post_init__(self) -> None:
        """Check the options, and fill in the scheme's defaults."""
        one_of("watermark.scheme", self.scheme, SCHEMES)
        own = _OPTIONS[self.scheme]
        for name, check in _WATERMARK_CHECKS.items():
            value = getattr(self, name)
            if value is None:
                value = own.get(name)
            elif name in _OF_SOME_SCHEMES and name not in own:
                raise ValueError(
                    f"watermark.{name} must not be given for the scheme {show(self.scheme)}"
                )
            if value is not None or name not in _OF_SOME_SCHEMES:
                value = check(f"watermark.{name}", value)
            object.__setattr__(self, name, value)
        if self.scheme == "sglang" and self.key_b is None:
            object.__setattr__(self, "alpha", None)

    @property
    def number(self) -> float:
        """1 if a control adds the watermark, NaN if the draw does."""
        return nan if self.keys_draw else 1.0

    @property
    def summary(self) -> str:
        """The scheme."""
        return self.scheme

    @property
    def keys_draw(self) -> bool:
        """Whether the scheme is one of the draw; or else it is one of green tokens."""
        return self.scheme != "sbw"

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """The options as kernels read them; not to be written to."""
        key, key_b, alpha = self.key, self.key_b, self.alpha or 0.0
        if self.scheme == "dual_key_gumbel":
            key, key_b = _derived_key(self.key, b"key_a"), _derived_key(self.key, b"key_b")
        bits = np.array([key, key if key_b is None else key_b], np.uint64).view(np.int64)
        return np.array(
            [
                SCHEMES.index(self.scheme) + 1,
                *bits.tolist(),
                self.context_width,
                self.deduplicate,
                int((1.0 - alpha) * 2**32),  # the words below it choose the first key
                int((self.gamma or 0.0) * (2**31 - 1)),
                np.float64(self.delta or 0.0).view(np.int64),
            ],
            np.int64,
        )

    def __repr__(self) -> str:
        """Scheme and options, without the keys."""
        shown = ("context_width", "deduplicate", "alpha", "gamma", "delta")
        options = ((name, getattr(self, name)) for name in shown)
        texts = (f", {name}={value}" for name, value in options if value is not None)
        return f"{type(self).__name__}({self.scheme!r}{''.join(texts)})"


def _derived_key(key: int, domain: bytes) -> int:
    return int.from_bytes(hashlib.sha256(domain + key.to_bytes(8, "big")).digest()[:8], "big")


#: The check of each option; those of some schemes may be None.
_WATERMARK_CHECKS: dict[str, Check] = {
    "key": partial(whole_number, interval=f"[0, {2**64 - 1}]"),
    "context_width": partial(whole_number, interval="[1, 64]"),
    "deduplicate": flag,
    "key_b": partial(whole_number, interval=f"[0, {2**64 - 1}]"),
    "alpha": partial(real_number, interval="[0, 1]"),
    "gamma": partial(real_number, interval="(0, 1)"),
    "delta": partial(real_number, interval="[0, inf)"),
}
_OF_SOME_SCHEMES = ("key_b", "alpha", "gamma", "delta")
