"""Drafts of the rows of a batch: the chain runs once for each depth, as long as a row goes on."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..batch import Batch
from ..inputs.logits import DType, floats
from ..inputs.values import listed
from ..sampled import Sampled, joined
from ..watermark.draw import draw_with, noise_in
from .drafts import Drafts, expect_shape, read_drafts
from .methods import read_method
from .walk import Walk

if TYPE_CHECKING:
    from ..chain import Chain


def verify_rows(
    chain: "Chain",
    logits: Any,
    batch: Batch,
    drafts: Any,
    proposed: Any,
    parents: Any,
    method: Any,
    acceptance: Any,
    policy: str,
    dtype: DType,
) -> tuple[list[NDArray[np.int64]], list[list[int]]]:
    """`Chain.verify`; and of each of a row's tokens, which row of the logits it comes from.

    A row that is done gets the same logits again, and nobody looks at what comes of them.
    """
    trees = _read(batch, drafts, proposed, parents, dtype)
    counts = [tree.tokens.size + 1 for tree in trees]
    given, first = floats(logits, dtype), np.cumsum([0, *counts], dtype=np.int64)[:-1]
    expect_shape("logits", given.shape, (sum(counts), batch.vocab_size))
    walk_of = read_method(method, acceptance, proposed is not None, trees)
    walks = [walk_of(*x) for x in zip(trees, batch.seeds, batch.positions, strict=True)]
    room = np.empty((len(batch), batch.vocab_size), given.dtype)  # new memory takes its time

    def read() -> NDArray[Any]:
        """The unprocessed logits of each row at the place to which its walk has come."""
        at = first + np.array([walk.row for walk in walks], np.int64)
        return np.take(given, at, axis=0, out=room, mode="clip")

    going, status = list(range(len(batch))), ["ok"] * len(batch)
    batch.keep_states(chain.states)
    with batch.trial() as trial:
        while going:
            tokens = _settle_rows(chain, read, trial, walks, going)
            for r in going:
                if tokens[r] < 0:
                    if policy == "raise":
                        raise ValueError(
                            f"logits: row {first[r] + walks[r].row}, {trial.status[r]}"
                        )
                    status[r] = trial.status[r]
            settled = [r for r in going if tokens[r] >= 0]
            going = [r for r in going if walks[r].go(int(tokens[r]))]
            # A state follows the last token of its row as well.
            grown = settled if batch.has_states else going
            trial.append([walks[r].tokens[-1] for r in grown], [trial.rows[r] for r in grown])
    batch.status = status
    sources = [
        [int(start) + row for row in x.sources] for start, x in zip(first, walks, strict=True)
    ]
    return [np.array(walk.tokens, np.int64) for walk in walks], sources


def tell_rows(
    tell: Callable[[Any, Batch, NDArray[np.int64]], Sampled],
    logits: NDArray[Any],
    batch: Batch,
    tokens: list[NDArray[np.int64]],
    sources: list[list[int]],
) -> list[Sampled]:
    """What is known of the tokens that `verify_rows` found.

    tell   (rows of logits, batch, tokens) -> what is known of one token of each row
    """
    found: list[list[tuple[Sampled, int]]] = [[] for _ in tokens]
    longest = max(map(len, tokens), default=0)
    with batch.trial() as trial:
        for depth in range(longest):
            at = [source[min(depth, len(source) - 1)] for source in sources]
            now = np.array([row[depth] if depth < row.size else -1 for row in tokens], np.int64)
            sampled = tell(logits[at], trial, now)
            for r, row in enumerate(tokens):
                if depth < row.size:
                    found[r].append((sampled, r))
            going = np.flatnonzero(now >= 0)
            trial.append(now[going], [trial.rows[r] for r in going.tolist()])
    return list(map(joined, found))


def _read(batch: Batch, drafts: Any, proposed: Any, parents: Any, dtype: DType) -> list[Drafts]:
    """What the drafter says of each row."""
    columns = {"drafts": listed("drafts", drafts, "one sequence of token ids for each row")}
    optional = {
        "proposed": (proposed, "one array of logits for each row, or None"),
        "parents": (parents, "one sequence of indices for each row, or None"),
    }
    for name, (given, what) in optional.items():
        columns[name] = [None] * len(batch) if given is None else listed(name, given, what)
    for name, column in columns.items():
        if len(column) != len(batch):
            raise ValueError(f"{name} must be one per row ({len(batch)}), not {len(column)}")
    trees = []
    for r, (ids, known, places) in enumerate(zip(*columns.values(), strict=True)):
        try:
            tree = read_drafts(ids, known, places, batch.vocab_size, dtype)
        except (TypeError, ValueError) as error:
            raise type(error)(f"row {r} of the batch: {error}") from None
        mark = batch.params(batch.rows[r]).watermark
        if mark is not None and mark.keys_draw:  # each token is the one that its key draws
            tree = tree._replace(logits=tree.logits[:0])
        trees.append(tree)
    return trees


def _settle_rows(
    chain: "Chain",
    read: Callable[[], NDArray[Any]],
    batch: Batch,
    walks: Sequence[Walk],
    going: list[int],
) -> NDArray[np.int64]:
    """A token for each row that goes on, -1 if it is marked; the others get any."""
    logits, depth = read(), len(walks[going[0]].tokens)
    if all(walks[r].is_draw for r in going):  # the chain's own draw is faster
        return chain.sample(logits, batch, on_invalid="mark", dtype="bfloat16")
    out = logits if logits.dtype == np.float32 and not batch.has_states else None
    rows = chain(logits, batch, on_invalid="mark", dtype="bfloat16", out=out)
    tokens = np.full(len(batch), -1, np.int64)
    for r in going:
        if batch.status[r] != "ok":
            tokens[r] = walks[r].settle_invalid()
        elif walks[r].is_draw:
            tokens[r] = draw_with(rows[r], noise_in(batch, r), batch.seeds[r], batch.positions[r])
        else:
            tokens[r] = walks[r].settle(rows[r])
    if batch.has_states:
        for r in going:  # a block goes back to the drafts that it keeps
            batch.rollback(batch.rows[r], depth - len(walks[r].tokens))
        chain.carry(read(), batch, tokens, "bfloat16")
    return tokens
