"""What each control did to a row and why its token was picked: a value, a table, a picture."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from typing import Any
from unicodedata import combining, east_asian_width

import numpy as np
from numpy.typing import NDArray

from . import html
from .batch import Batch
from .controls import CONTROLS
from .controls.record import Control
from .inputs.values import show
from .logprobs import first_of_order
from .numeric.functions import Row
from .numeric.order import largest
from .params import FIELDS, whole_number
from .params.options import Options
from .presets import Step
from .sample import arrival_times
from .watermark.draw import draw_with, keyed_arrivals, noise_in
from .watermark.noise import NO_MARK, NO_NOISE, Noise

#: How many of a row's best tokens the table shows, the picture, and `as_dict`.
BEST, DRAWN, LISTED = 3, 9, 40

HEADER = ("control", "setting", "left", "removed", "entropy")


@dataclass(frozen=True, eq=False, repr=False)
class Stage:
    """A row as it stood after one control. The first stage, "logits", is the unprocessed row.

    name      the name of the control
    setting   what the request says, such as "0.9"; "off" if that is its off value
    logits    float32 (vocab,): the logits
    before    the stage before; None for the first
    """

    name: str
    setting: str
    logits: Row
    before: "Stage | None"

    def __repr__(self) -> str:
        """The control and how many tokens it left."""
        return f"<Stage {self.name}: {self.kept:,} of {self.logits.size:,} tokens left>"

    @cached_property
    def left(self) -> NDArray[np.bool_]:
        """(vocab,): which tokens are left."""
        return self.logits > -np.inf

    @cached_property
    def probs(self) -> NDArray[np.float64]:
        """(vocab,): the probabilities, in float64; all 0 if no token is left."""
        probs = np.zeros(self.logits.size)
        if self.kept:
            with np.errstate(under="ignore"):
                weights = np.exp(self.logits.astype(np.float64) - largest(self.logits))
                np.divide(weights, weights.sum(), out=probs)
        return probs

    @property
    def kept(self) -> int:
        """How many tokens are left."""
        return int(self.left.sum())

    @property
    def removed(self) -> NDArray[np.int64]:
        """The tokens that this control removed."""
        return np.flatnonzero(self.before.left & ~self.left) if self.before else np.empty(0, int)

    @property
    def removed_mass(self) -> float:
        """The probability, before this control, of the tokens that it removed."""
        return float(self.before.probs[self.removed].sum()) if self.before else 0.0

    @property
    def changed(self) -> bool:
        """Whether the control did anything to this row."""
        return self.before is None or not np.array_equal(self.logits, self.before.logits)

    @property
    def entropy(self) -> float:
        """The entropy of what is left, in nats."""
        q = self.probs[self.probs > 0]
        with np.errstate(under="ignore"):
            return float(0.0 - (q * np.log(q)).sum())  # and never -0.0

    def best(self, n: int = BEST) -> list[tuple[int, float]]:
        """The most probable tokens and their probabilities, best first."""
        ids = first_of_order(self.logits, min(n, self.kept))
        return [(int(i), float(self.probs[i])) for i in ids]


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """What a chain did to one row. `print` shows it as a table, `plot` draws it.

    row        the handle of the row
    seed       its seed
    position   how many tokens it had generated
    token      the token that is drawn, or -1 if none is left
    stages     the row before the chain, and after each of its controls
    ignored    fields that the request sets and this chain has no control for
    decode     token id -> text, for tables and pictures; None shows the ids
    status     "ok", or why no token is picked, as in `Batch.status`
    noise      what the draw's noise follows from where a watermark's key decides, not the seed

    If a control leaves the row without a finite logit, or a callable with NaN or +inf, the last
    stage is that control's, with every token removed; `token` is -1, and `status` says why.

    >>> from logitchain import Batch, Chain, Params
    >>> batch = Batch(vocab_size=4)
    >>> (row,) = batch.add(Params(top_k=2, seed=1))
    >>> explanation = Chain().explain([[1.0, 2.0, 3.0, 0.0]], batch, row)
    >>> explanation.token, explanation.fate(0)
    (2, 'removed by top_k')
    """

    row: int
    seed: int
    position: int
    token: int
    stages: tuple[Stage, ...]
    ignored: tuple[str, ...]
    decode: Callable[[int], str] | None
    status: str = "ok"
    noise: Noise = NO_NOISE

    def fate(self, token: int) -> str:
        """What became of a token: picked, left but not picked, or removed, and by which control.

        Raises ValueError for a token outside the vocabulary, TypeError if it is no integer.
        """
        token = whole_number("token", token, f"[0, {self.stages[0].logits.size})")
        for stage in self.stages:
            if not stage.left[token]:
                return f"removed by {stage.name}" if stage.before else "removed before the chain"
        return "picked" if token == self.token else "left, not picked"

    def text(self, token: int) -> str:
        """A token as table and picture show it."""
        return repr(self.decode(token)) if self.decode else str(token)

    def likeliest(self, n: int = LISTED) -> list[int]:
        """The `n` tokens that are likeliest at some stage, and the picked one; best logits first.

        Their order is that of the logits before the chain, ties by token id.
        """
        ids = _of_interest(self.stages, self.token, whole_number("n", n, "[1, inf)"))
        logits = self.stages[0].logits
        return sorted(ids, key=lambda token: (-logits[token], token))

    def arrivals(self, tokens: Sequence[int]) -> NDArray[np.float64]:
        """When each of the tokens arrives in the race that is the draw; the first is picked.

        tokens   token ids (n,)

        Returns float64 (n,): a random time of mean 1 / probability, inf for a removed token. The
        earliest of all has mean 1. `docs/rng.md` describes the race.
        """
        ids = self._ids(tokens)
        tokens_at, key = np.array(ids, np.int64), (np.uint64(self.seed % 2**64), self.position)
        if self.is_watermarked:
            times = keyed_arrivals(tokens_at, self.noise)
        else:
            times = arrival_times(tokens_at, key[0], np.uint64(key[1]))
        with np.errstate(divide="ignore"):
            return np.asarray(times / self.stages[-1].probs[ids])

    @property
    def is_watermarked(self) -> bool:
        """Whether a watermark's key decides the draw: not after a context that it leaves out."""
        return bool(self.noise.scheme != NO_MARK)

    def as_dict(self, tokens: Sequence[int] | None = None) -> dict[str, Any]:
        """What the chain did, as numbers, strings, lists and dicts that `json.dumps` takes.

        tokens   the token ids to report, by default `likeliest()`

        Stages are those of the printed table. Of each token `probs` has the probability after each
        stage, None where it is removed; `arrival` is as in `arrivals`, None for a token that is
        never drawn.

        >>> from logitchain import Batch, Chain, Params
        >>> batch = Batch(vocab_size=3)
        >>> (row,) = batch.add(Params(top_k=1, seed=1))
        >>> report = Chain(["top_k"]).explain([0.0, 2.0, 0.0], batch, row).as_dict()
        >>> report["stages"][1]["kept"], report["tokens"][1]["fate"]
        (1, 'removed by top_k')
        """
        stages = self._shown()
        ids = self._ids(self.likeliest() if tokens is None else tokens)
        arrivals = self.arrivals(ids).tolist()
        return {
            "row": self.row,
            "seed": self.seed,
            "position": self.position,
            "token": self.token,
            "status": self.status,
            "ignored": list(self.ignored),
            "stages": [
                {
                    "name": stage.name,
                    "setting": stage.setting,
                    "kept": stage.kept,
                    "removed": int(stage.removed.size),
                    "removed_mass": stage.removed_mass,
                    "entropy": stage.entropy,
                }
                for stage in stages
            ],
            "tokens": [
                {
                    "token": token,
                    "text": self.decode(token) if self.decode else None,
                    "fate": self.fate(token),
                    "probs": [float(x.probs[token]) if x.left[token] else None for x in stages],
                    "arrival": arrival if arrival < np.inf else None,
                }
                for token, arrival in zip(ids, arrivals, strict=True)
            ],
        }

    def __repr__(self) -> str:
        """A table, a line for each control that is on."""
        rows = [
            (*self._cells(stage), "  ".join(f"{self.text(i)} {q:.1%}" for i, q in stage.best()))
            for stage in self._shown()
        ]
        return "\n".join([_table((*HEADER, "best of those left"), rows), *self._verdict()])

    def _repr_html_(self) -> str:
        """The same table for notebooks, the best tokens on bars as long as they are likely."""
        best = ["best", "second", "third"]
        rows = []
        for stage in self._shown():
            bars = [html.bar(f"{self.text(i)} {q:.1%}", q) for i, q in stage.best()]
            rows.append((*self._cells(stage), *bars, *[""] * (BEST - len(bars))))
        caption = "; ".join(self._verdict())
        return html.table(caption, (*HEADER, *best), rows, numbers=range(2, len(HEADER)))

    def _ids(self, tokens: Iterable[int]) -> list[int]:
        size = self.stages[0].logits.size
        return [whole_number("a token id", token, f"[0, {size})") for token in tokens]

    def _shown(self) -> list[Stage]:
        return [stage for stage in self.stages if stage.setting != "off" or stage.changed]

    def _cells(self, stage: Stage) -> tuple[str, ...]:
        removed = f"{stage.removed_mass:.2%}" if stage.removed.size else ""
        return stage.name, stage.setting, f"{stage.kept:,}", removed, f"{stage.entropy:.2f}"

    def _verdict(self) -> list[str]:
        verdict = f"row {self.row}, position {self.position}, seed {self.seed}: {self._outcome()}"
        notes = [f"not in this chain: {', '.join(self.ignored)}"] if self.ignored else []
        return [verdict, *notes]

    def _outcome(self) -> str:
        if self.token < 0:
            return f"no token, {self.status}"
        first, last = (self.stages[s].probs[self.token] for s in (0, -1))
        picked = f"picked {self.text(self.token)} (token {self.token})"
        marked = ", with a watermark" if self.is_watermarked else ""
        return f"{picked}, probability {last:.2%}, {first:.2%} before the chain{marked}"

    def plot(self, path: str | PathLike[str]) -> None:
        """Draw how the probabilities move from control to control, to an image file.

        Needs matplotlib: `pip install logitchain[plot]`.
        """
        from matplotlib.figure import Figure

        stages = [stage for stage in self.stages if stage.changed]
        tokens = _of_interest(stages, self.token, DRAWN)
        figure = Figure(figsize=(2.2 + 1.25 * len(stages), 5.2), layout="constrained")
        axes = figure.subplots()
        bottom = np.zeros(len(stages))
        for token in tokens:
            shares = np.array([stage.probs[token] for stage in stages])
            picked = token == self.token
            axes.bar(
                range(len(stages)),
                shares,
                0.72,
                bottom,
                label=self.text(token) + ("  (picked)" if picked else ""),
                edgecolor="black" if picked else "white",
                linewidth=1.6 if picked else 0.5,
                zorder=3 if picked else 2,
            )
            bottom += shares
        others = np.array([min(stage.kept, 1) for stage in stages]) - bottom
        axes.bar(range(len(stages)), others, 0.72, bottom, color="0.88", label="all others")
        axes.set_xticks(
            range(len(stages)),
            [f"{s.name.replace('_penalty', chr(10) + 'penalty')}\n{s.kept:,} left" for s in stages],
            fontsize=8,
        )
        axes.set(
            ylabel="probability",
            ylim=(0, 1),
            title=f"What each control did at position {self.position}, seed {self.seed}",
        )
        axes.spines[["top", "right"]].set_visible(False)
        legend = figure.legend(loc="outside right center", frameon=False, fontsize=8, reverse=True)
        for text in (*legend.get_texts(), *axes.get_xticklabels()):
            text.set_parse_math(False)  # a dollar in a token is a dollar
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")  # such a token shows as a box
            figure.savefig(path, dpi=150)


def explain(
    steps: Iterable[tuple[str, Row, str]],
    chain: Sequence[Step],
    batch: Batch,
    index: int,
    decode: Callable[[int], str] | None = None,
) -> Explanation:
    """The explanation of the row at `index` of a batch: what `Chain.explain` calls.

    steps   (name, row, status) of the unprocessed row and of each step of the chain, up to the
            first that leaves the row invalid; the next step may change the row in place
    chain   all of the chain's steps
    """
    if decode is not None and not callable(decode):
        raise TypeError(f"decode must be callable, not {show(decode)}")
    handle = batch.rows[index]
    params = batch.params(handle)
    stages: list[Stage] = []
    for number, (name, row, status) in enumerate(steps, -1):
        if not stages:
            if status != "ok":
                raise ValueError(f"logits: row {index}, {status}")
            stages.append(Stage(name, "", row.copy(), None))
            continue
        logits = row.copy() if status == "ok" else np.full_like(row, -np.inf)
        control = chain[number].control
        setting = _setting(control, batch, index)
        if any(
            x.control and x.control.instead_of == name and x.control.is_on(params) for x in chain
        ):
            setting = "off"
        stage = Stage(name, setting, logits, stages[-1])
        is_mask = control is not None and control.kind == "mask"
        if not is_mask or stage.setting != "off" or stage.changed:  # most requests have none
            stages.append(stage)
    noise = noise_in(batch, index)
    read = {field.name for step in chain if step.control for field in step.control.fields}
    known = (field for control in CONTROLS for field in control.fields if field.name in FIELDS)
    in_use = [field.name for field in known if getattr(params, field.name) != field.off]
    if params.watermark is not None and params.watermark.keys_draw:
        in_use.remove("watermark")  # the draw reads it, no control
    return Explanation(
        row=handle,
        seed=batch.seed(handle),
        position=int(batch.positions[index]),
        token=draw_with(stages[-1].logits, noise, batch.seeds[index], batch.positions[index]),
        stages=tuple(stages),
        ignored=tuple(field for field in in_use if field not in read),
        decode=decode,
        status=status,
        noise=noise,
    )


def _setting(control: Control | None, batch: Batch, index: int) -> str:
    """What the row's request says of a control's fields."""
    if control is None:
        return ""
    params = batch.params(batch.rows[index])
    if control.tokens == "token_bitmask":
        return "set" if batch.has_mask(batch.rows[index]) else "off"
    values = {field.name: getattr(params, field.name, field.off) for field in control.fields}
    if not control.is_on(params):
        return "off"
    given = ((x, value) for x, value in values.items() if value is not None and value is not False)
    shown = [_shown(name, value) for name, value in given]
    state = batch.state(batch.rows[index])
    shown += [f"{name} {state[name]:g}" for name in control.state if name in state]
    return ", ".join(shown)


def _shown(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "on"
    if isinstance(value, (int, float)):
        return f"{value:g}"
    if isinstance(value, Options):
        return value.summary
    noun = {"bad_words": "phrase", "banned_texts": "text"}.get(name, "token")
    return f"{len(value)} {noun}{'' if len(value) == 1 else 's'}"


def _of_interest(stages: Iterable[Stage], token: int, n: int) -> list[int]:
    """The n tokens that are likeliest at some stage, the picked one among them."""
    peak = np.max([stage.probs for stage in stages if stage.changed], axis=0)
    ids = np.argpartition(-peak, min(n, peak.size) - 1)[:n]
    best: list[int] = ids[np.lexsort((ids, -peak[ids]))].tolist()
    return best if token in best or token < 0 else [*best[:-1], token]


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(_width, column)) for column in zip(header, *rows, strict=True)]
    lines = (header, tuple("-" * width for width in widths), *rows)
    return "\n".join(_line(line, widths) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (c + " " * (width - _width(c)) for c, width in zip(cells, widths, strict=True))
    return "  ".join(padded).rstrip()


def _width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(0 if combining(x) else 1 + (east_asian_width(x) in "WF") for x in text)
