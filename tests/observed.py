"""All that can be seen of a batch, as plain values."""

import numpy as np

from logitchain.batch import NUMERIC
from logitchain.controls.record import LISTS


def counter(counts):
    ids, times = counts
    assert len(set(ids.tolist())) == len(ids), "a token is listed twice"
    return dict(zip(ids.tolist(), times.tolist(), strict=True))


BIASES = LISTS.index("logit_bias")
NO_LIST = np.empty((3, 0), np.int64)


def biases(batch):
    """Each row's logit bias, as the kernels find it."""
    lists = [row.lists.get(BIASES, NO_LIST) for row in batch._state.entries]
    return [
        dict(zip(ids.tolist(), bits.view(np.float64).tolist(), strict=True))
        for ids, bits, _ in lists
    ]


def gaps(history):
    """How far before each token the same one stands, and where each token stands last."""
    if history.gaps is not None:
        return history.gaps[: history.size].tolist(), dict(history.places)
    return None


def state(batch):
    """All that can be seen of a batch."""
    rows = range(len(batch))
    return {
        "rows": list(batch.rows),
        "seeds": batch.seeds.tolist(),
        "positions": batch.positions.tolist(),
        "histories": [(batch.prompt(row), batch.output(row)) for row in batch.rows],
        "params": [batch.params(row) for row in batch.rows],
        "columns": {name: np.nan_to_num(batch[name], nan=-1).tolist() for name in NUMERIC},
        "counts": [counter(batch.counts(r, scope)) for r in rows for scope in ("all", "output")],
        "biases": biases(batch),
        "states": [batch.state(row) for row in batch.rows],
        "gaps": [gaps(row.history) for row in batch._state.entries],
        "status": list(batch.status),
    }
