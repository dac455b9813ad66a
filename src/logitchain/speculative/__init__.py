"""Speculative decoding: which of a drafter's tokens are kept, and the token that follows them.

`docs/speculative.md` says what each way to verify drafts promises, and why it is exact.

    drafts.py      what a drafter proposes, sequences and trees; which of it was kept
    walk.py        the way along drafts whose next token is the draw
    rejection.py   the same where it is the draft as often as its probabilities allow
    block.py       the same for all drafts at once
    synthetic.py   for benchmarks: where a coin keeps drafts, whatever the logits are
    methods.py     which of these a call asks for
    sequence.py    `verify`, for one sequence
    rows.py        `Chain.verify`, for the rows of a batch
"""

from .drafts import accepted_drafts, draft_tree
from .rejection import keep_or_redraw, remainder
from .sequence import verify

__all__ = ["accepted_drafts", "draft_tree", "keep_or_redraw", "remainder", "verify"]
