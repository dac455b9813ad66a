"""Speculative decoding: which of a drafter's tokens are kept, and the token that follows them.

Position by position a token is settled on; as long as it is the draft, the next draft counts. If it
is not known what a draft was drawn from, the token is the draw of its position, whatever the draft
is. If it is, rejection sampling makes it the draft as often as can be (Leviathan et al.,
arXiv:2211.17192; Chen et al., arXiv:2302.01318). `docs/speculative.md` says why both are exact.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import rng
from .batch import Batch
from .inputs.logits import DType, Rows, first_invalid, floats, stored, token_ids, why_invalid
from .inputs.values import listed
from .numeric.compile import kernel
from .numeric.float_mode import in_standard_mode
from .numeric.functions import F32, F64, I64, MASS_BITS, U64, Row, exp, log, total_mass
from .numeric.order import largest
from .numeric.simd import LANES, peak
from .sample import EVERY, race

if TYPE_CHECKING:
    from .chain import Chain

#: A row's largest logit, and the mass of the row in units of that one's.
Weighed = tuple[F32, F64]

_32 = np.uint64(32)
_FAR = np.float32(-87.0)  # below it exp is subnormal: a truncated row took 4 times as long


@in_standard_mode
def verify(
    logits: Any,
    drafts: Sequence[int],
    proposed: Any = None,
    *,
    seed: Any,
    position: Any,
    dtype: DType = None,
) -> NDArray[np.int64]:
    """The next tokens of one sequence: those of its k drafts that are kept, and one more.

    logits           (k + 1, vocab) processed logits: before each draft, and after the last
    drafts           (k,) token ids; the first is for `position`
    proposed         (k, vocab) processed logits that the drafts were drawn from; None if they were
                     found in another way, or if no token may depend on them
    seed, position   as for `sample`

    Returns 1 to k + 1 token ids, int64, distributed as if each were drawn from its row. Without
    `proposed` they are the very tokens that `sample` draws from the rows at their positions; with
    it more drafts are kept. Raises ValueError if a row is invalid, unless it follows a draft
    that is not kept, or if a draft is outside the vocabulary or removed from what it was drawn
    from.

    >>> logits = [[0.0, 3.0, 1.0], [2.0, 1.0, 0.0], [0.0, 0.0, 9.0]]
    >>> verify(logits, [1, 0], seed=0, position=0)
    array([1, 1])
    >>> verify(logits, [1, 0], [[0.0, 2.0, 0.0], [1.0, 1.0, 0.0]], seed=0, position=0)
    array([1, 0, 2])
    """
    given = stored(logits, dtype)
    proposal = _proposal(drafts, proposed, given.shape[-1], dtype)
    _expect("logits", given.shape, len(proposal.drafts) + 1, given.shape[-1])
    rows = given.rows()
    seeds, positions = rng.keys(seed, position, 1)
    positions = np.add(positions, np.arange(len(rows), dtype=np.uint64))
    tokens: list[int] = []
    for depth, row in enumerate(rows):
        _check_fit("logits", rows[depth : depth + 1], depth)
        tokens.append(_settle(row, proposal, depth, seeds[0], positions[depth]))
        if not proposal.has(tokens):
            break
    return np.array(tokens, np.int64)


class Proposal(NamedTuple):
    """What a drafter says of one sequence."""

    drafts: NDArray[np.int64]  # (k,)
    logits: Rows  # (k, vocab) what they were drawn from; no rows if that is not known

    def has(self, tokens: list[int]) -> bool:
        """Whether the last of the tokens is the draft of its place."""
        return len(tokens) <= len(self.drafts) and tokens[-1] == self.drafts[len(tokens) - 1]


def _proposal(drafts: Any, proposed: Any, vocab: int, dtype: DType) -> Proposal:
    ids = token_ids("drafts", drafts, vocab)
    if proposed is None or not ids.size:
        return Proposal(ids, np.empty((0, vocab), np.float32))
    try:
        given = stored(proposed, dtype)
    except (TypeError, ValueError) as error:
        raise type(error)(f"proposed {error}") from None
    _expect("proposed logits", given.shape, ids.size, vocab)
    rows = given.rows()
    _check_fit("proposed logits", rows)
    for depth, token in enumerate(ids.tolist()):
        if rows[depth, token] == -np.inf:
            raise ValueError(f"proposed logits: row {depth}, draft {token} is -inf")
    return Proposal(ids, rows)


def _check_fit(name: str, rows: Rows, first: int = 0) -> None:
    bad = first_invalid(rows)
    if bad >= 0:
        raise ValueError(f"{name}: row {first + bad}, {why_invalid(rows[bad])}")


def _expect(name: str, shape: tuple[int, ...], rows: int, vocab: int) -> None:
    if shape != (rows, vocab):
        raise ValueError(f"{name} must have shape {(rows, vocab)} with these drafts, not {shape}")


def _settle(row: Row, proposal: Proposal, depth: int, seed: U64, position: U64) -> int:
    """The token of one position."""
    if depth < len(proposal.logits):
        draft, proposed = proposal.drafts[depth], proposal.logits[depth]
        return int(keep_or_redraw(row, draft, proposed, seed, position))
    return int(race(row, EVERY, seed, position))


# ---- a batch


def verify_rows(
    chain: "Chain",
    logits: Any,
    batch: Batch,
    drafts: Any,
    proposed: Any,
    policy: str,
    dtype: DType,
) -> list[NDArray[np.int64]]:
    """`Chain.verify`: the chain runs once for each depth, as long as a row goes on.

    A row that is done gets the same logits again, and nobody looks at what comes of them.
    """
    proposals = _proposals(batch, drafts, proposed, dtype)
    counts = [len(proposal.drafts) + 1 for proposal in proposals]
    given, at = floats(logits, dtype), np.cumsum([0, *counts], dtype=np.int64)[:-1]
    _expect("logits", given.shape, sum(counts), batch.vocab_size)
    tokens: list[list[int]] = [[] for _ in proposals]
    room = np.empty((len(batch), batch.vocab_size), given.dtype)  # new memory takes its time
    going, status = list(range(len(batch))), ["ok"] * len(batch)
    batch.keep_states(chain.states)
    with batch.trial() as trial:
        while going:
            depth = len(tokens[going[0]])
            np.take(given, at, axis=0, out=room, mode="clip")
            settled = _settle_rows(chain, room, trial, proposals, going, depth)
            for r in going:
                if settled[r] < 0 and policy == "raise":
                    raise ValueError(f"logits: row {at[r]}, {trial.status[r]}")
                tokens[r].append(int(settled[r]))
                status[r] = trial.status[r]
            settled_now = going
            going = [r for r in going if proposals[r].has(tokens[r])]
            at[going] += 1
            # A state follows the last token of its row as well.
            grown = [r for r in (settled_now if batch.has_states else going) if tokens[r][-1] >= 0]
            trial.append([tokens[r][-1] for r in grown], [trial.rows[r] for r in grown])
    batch.status = status
    return [np.array(row, np.int64) for row in tokens]


def _proposals(batch: Batch, drafts: Any, proposed: Any, dtype: DType) -> list[Proposal]:
    """What the drafter says of each row."""
    draft_lists = listed("drafts", drafts, "one sequence of token ids for each row")
    known = [None] * len(draft_lists)
    if proposed is not None:
        known = listed("proposed", proposed, "one array of logits for each row, or None")
    for name, given in (("drafts", draft_lists), ("proposed", known)):
        if len(given) != len(batch):
            raise ValueError(f"{name} must be one per row ({len(batch)}), not {len(given)}")
    proposals = []
    for r, pair in enumerate(zip(draft_lists, known, strict=True)):
        try:
            proposals.append(_proposal(*pair, batch.vocab_size, dtype))
        except (TypeError, ValueError) as error:
            raise type(error)(f"row {r} of the batch: {error}") from None
    return proposals


def _settle_rows(
    chain: "Chain",
    logits: Any,
    batch: Batch,
    proposals: list[Proposal],
    going: list[int],
    depth: int,
) -> NDArray[np.int64]:
    """A token for each row that goes on, -1 if it is marked; the others get any."""
    if all(depth >= len(proposals[r].logits) for r in going):  # the chain's own draw is faster
        return chain.sample(logits, batch, on_invalid="mark", dtype="bfloat16")
    out = logits if logits.dtype == np.float32 and not batch.has_states else None
    rows = chain(logits, batch, on_invalid="mark", dtype="bfloat16", out=out)
    tokens = np.full(len(batch), -1, np.int64)
    for r in going:
        if batch.status[r] == "ok":
            key = batch.seeds[r], batch.positions[r]
            tokens[r] = _settle(rows[r], proposals[r], depth, *key)
    if batch.has_states:
        chain.carry(logits, batch, tokens, "bfloat16")
    return tokens


# ---- kernels


@kernel
def keep_or_redraw(row: Row, draft: I64, proposed: Row, seed: U64, position: U64) -> I64:
    """The draft, if its coin says so; else a token drawn from what is left of the row.

    One call to Philox serves both: two words are the coin, two the seed of that other draw.
    """
    p, q = _weigh(row), _weigh(proposed)
    high, low, own_high, own_low = rng.words(seed, position, rng.VERIFY, 0)
    coin = rng.unit(high, low)
    if row[draft] > -np.inf and coin * _prob(proposed[draft], q) < _prob(row[draft], p):
        return draft
    own, every = own_high << _32 | own_low, np.empty(0, np.int32)
    token = race(remainder(row, p, proposed, q), every, own, position)
    # Rounding can leave nothing where the two rows are all but the same.
    return token if token >= 0 else race(row, every, own, position)


@kernel
def remainder(row: Row, p: Weighed, proposed: Row, q: Weighed) -> Row:
    """The logits of max(p - q, 0): each is lowered by what the drafter proposes already."""
    left = row.copy()
    for start in range(0, row.size, LANES):
        stop = min(start + LANES, row.size)
        if stop - start == LANES and peak(row, start)[0] == -np.inf:
            continue  # as most blocks are after a truncation
        for i in range(start, stop):
            share = _prob(proposed[i], q) / _prob(row[i], p)
            share = share if proposed[i] > -np.inf else 0.0
            below = np.float64(row[i]) - p[0]  # from the best on, so that large logits lose nothing
            left[i] = below + log(1.0 - share) if share < 1.0 else -np.inf
    return left


@kernel
def _weigh(row: Row) -> Weighed:
    best = largest(row)
    return best, total_mass(row, best) * 2.0**-MASS_BITS


@kernel
def _prob(logit: F32, weighed: Weighed) -> F64:
    best, total = weighed
    return np.float64(exp(max(np.float32(logit - best), _FAR))) / total
