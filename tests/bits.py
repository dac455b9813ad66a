"""Prints a digest of fixed chains over fixed rows: `python tests/bits.py LAYOUT`.

The rows come from integers alone, so that they are the same wherever this runs. The layouts compute
the same rows in other ways; each must print the same lines.
"""

import hashlib
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import logitchain as lc

ROWS = 6
CASES = {  # vocabulary, scale of the logits, order
    "default": (5000, 2.0**-27, None),
    "flat": (3001, 2.0**-30, None),
    "steep": (700, 2.0**-24, None),
    "llama_cpp": (2000, 2.0**-27, "llama_cpp"),
    "sglang": (2000, 2.0**-28, "sglang"),
    "tiny": (3, 2.0**-29, None),
    "draw": (4000, 2.0**-28, ("temperature",)),
    "nucleus": (4000, 2.0**-28, ("temperature", "top_p")),
    "small": (70, 2.0**-28, "mlx_lm"),
    "signs": (70, 2.0**-177, None),  # zeros of both signs, and subnormal numbers
}
INTERPRETED = ("tiny", "small", "signs")


def matrix(name, vocab, scale):
    """(ROWS, vocab) float32: integers of a linear congruence, scaled by a power of two."""
    state = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    values = np.empty(ROWS * vocab, np.int64)
    for i in range(values.size):
        state = (state * 1664525 + 1013904223) % 2**32
        values[i] = state - 2**31
    return (values * scale).astype(np.float32).reshape(ROWS, vocab)


def request(r, vocab):
    """A different request for each row."""
    return lc.Params(
        temperature=(0.7, 1.0, 1.3, 0.05, 2.0, 0.9)[r],
        top_k=min(vocab, (0, 40, 0, 5, 0, 200)[r]),
        top_p=(0.95, 1.0, 0.9, 0.5, 1.0, 0.99)[r],
        min_p=(0.0, 0.05, 0.02, 0.0, 0.1, 0.001)[r],
        top_n_sigma=(0.0, 0.0, 1.5, 0.0, 0.0, 3.0)[r],
        smoothing_factor=(0.0, 0.0, 0.0, 0.2, 0.0, 0.05)[r],
        dynatemp_range=(0.0, 0.3, 0.0, 0.0, 0.0, 0.5)[r],
        dynatemp_exponent=(1.0, 1.0, 1.0, 1.0, 1.0, 1.7)[r],
        mirostat_tau=(None, None, None, 3.0, None, None)[r],
        adaptive_target=(None, None, 0.3, None, None, None)[r],
        dry_multiplier=(0.0, 0.0, 0.8, 0.0, 0.0, 1.3)[r],
        dry_base=(1.75, 1.75, 1.75, 1.75, 1.75, 2.0)[r],
        dry_allowed_length=(2, 2, 1, 2, 2, 0)[r],
        dry_sequence_breakers=[[0, 3 % vocab], [5 % vocab]] if r == 2 else (),
        typical_p=(1.0, 0.95, 1.0, 1.0, 0.9, 1.0)[r],
        top_a=(0.0, 0.0, 0.001, 0.0, 0.0, 0.01)[r],
        epsilon_cutoff=(0.0, 0.0, 0.0, 1e-4, 0.0, 1e-5)[r],
        eta_cutoff=(1e-4, 0.0, 0.0, 0.0, 0.0, 0.0)[r],
        tfs=(1.0, 1.0, 0.99, 1.0, 1.0, 1.0)[r],
        p_less=r == 3,
        top_h=(None, None, None, None, 0.9, None)[r],
        xtc_probability=(0.5, 0.0, 1.0, 0.0, 0.3, 1.0)[r],
        xtc_threshold=(0.1, 0.0, 0.02, 0.0, 0.05, 0.001)[r],
        repetition_penalty=(1.1, 1.0, 1.3, 0.9, 1.0, 1.05)[r],
        penalty_window=(None, 3, None, None, 4, None)[r],
        penalty_exempt=[1 % vocab] if r == 4 else (),
        frequency_penalty=(0.2, 0.0, -0.5, 0.0, 1.0, 0.3)[r],
        presence_penalty=(0.0, 0.4, 0.0, 0.0, -1.0, 0.3)[r],
        logit_bias={0: 1.5, vocab - 1: -2.0} if r % 2 else {},
        banned_tokens=list(range(1, vocab, 7)) if r % 3 == 1 else (),
        no_repeat_ngram=2 * (r % 3 == 2),
        bad_words=[[vocab - 2], [1 % vocab, 0]] if r == 3 else (),
        seed=(0, 1, 2**53 + 1, -7, 2**64 - 1, 123456789)[r],
    )


def run(order, logits, which):
    """(tokens, processed logits, verified drafts, log-probabilities) of these rows as one batch."""
    chain = (
        lc.Chain.preset(order)
        if isinstance(order, str)
        else lc.Chain(order)
        if order
        else lc.Chain()
    )
    vocab = logits.shape[1]
    batch = lc.Batch(vocab)
    for r in which:
        output = [(7 * r + 3 * j) % vocab for j in range(5 + r)]
        (row,) = batch.add(request(r % ROWS, vocab), [r % vocab, 1 % vocab, 1 % vocab], output)
        if r % ROWS == 4:
            words = np.arange(-(-vocab // 32), dtype=np.uint32) * np.uint32(0x9E3779B1) | np.uint32(
                1
            )
            batch.set_mask(row, words)
    tokens, out = chain.sample(logits[which], batch), chain(logits[which], batch)
    return tokens, out, verified(chain, logits[which], batch), logprobs(chain, logits[which], batch)


def logprobs(chain, logits, batch):
    """(rows, 2): the log-probability of each row's token, in the raw and in the processed row."""
    sampled = [chain.sample_with_logprobs(logits, batch, of=of) for of in ("raw", "processed")]
    return np.stack([part.logprobs for part in sampled], axis=1)


def verified(chain, logits, batch):
    """(rows, 2): what is kept of a draft, and what follows it or -1."""
    proposed = chain(logits * np.float32(0.75), batch)
    drafts = lc.sample(proposed, seed=batch.seeds, position=batch.positions)
    twice = np.repeat(logits, 2, axis=0)
    tokens = chain.verify(twice, batch, drafts[:, None], proposed[:, None])
    return np.array([[*new, -1][:2] for new in tokens])


def laid_out(layout, order, logits):
    every = list(range(ROWS))
    if layout == "alone":
        parts = [run(order, logits, [r]) for r in every]
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))
    if layout == "backwards":
        return tuple(part[::-1] for part in run(order, logits, every[::-1]))
    if layout == "padded":  # among other rows
        padded = np.concatenate([logits, logits[::-1] * np.float32(0.5)])
        return tuple(part[:ROWS] for part in run(order, padded, list(range(2 * ROWS))))
    if layout == "threads":
        with ThreadPoolExecutor(4) as pool:
            parts = list(pool.map(lambda r: run(order, logits, [r % ROWS]), range(4 * ROWS)))
        return tuple(np.concatenate(part) for part in zip(*parts[-ROWS:], strict=True))
    return run(order, logits, every)


def main(layout):
    for name, (vocab, scale, order) in CASES.items():
        if layout == "interpreted" and name not in INTERPRETED:
            continue
        tokens, logits, pairs, logs = laid_out(layout, order, matrix(name, vocab, scale))
        digests = [hashlib.sha256(part.tobytes()).hexdigest()[:16] for part in (logits, logs)]
        print(name, *digests, ",".join(map(str, tokens)), ",".join(map(str, pairs.ravel())))


if __name__ == "__main__":
    main(sys.argv[1])
