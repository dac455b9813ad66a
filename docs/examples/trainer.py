"""The trainer's side of a rollout in PyTorch: log-probabilities over kept sets, with a gradient."""

import torch
from torch import Tensor


def kept_logprobs(logits: Tensor, offsets: Tensor, ids: Tensor, tokens: Tensor) -> Tensor:
    """(rows,): the log-probability of each row's token among the tokens that its row kept.

    logits         (rows, vocab), after temperature, without the rows that a chain has marked
    offsets, ids   (rows + 1,) and (all kept,) as logitchain's `Sampled` has them, int64
    tokens         (rows,), int64
    """
    sizes = offsets.diff()
    rows = torch.repeat_interleave(torch.arange(len(logits)), sizes)
    places = torch.arange(len(ids)) - offsets[:-1][rows]
    kept = logits.new_full((len(logits), int(sizes.max())), -torch.inf)
    kept = kept.index_put((rows, places), logits[rows, ids])
    chosen = logits.gather(1, tokens[:, None])[:, 0]
    return chosen - torch.logsumexp(kept, dim=1)
