"""Requests, models and what they give without drafts, for tests of speculative decoding."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

import logitchain as lc


class Random:
    """A model whose logits are a function of all tokens so far."""

    def __init__(self, vocab, seed):
        self.vocab, self.seed = vocab, seed

    def __call__(self, output):
        rng = np.random.default_rng([self.seed, *output])
        return rng.normal(0, 2, self.vocab).astype(np.float32)


def never_twice(rows, batch):
    """A control of a caller's own: the last token is removed."""
    for r, row in enumerate(batch.rows):
        rows[r, batch.output(row)[-1:]] = -np.inf


ORDERS = [
    *(lc.chain.DEFAULT_ORDER, ("temperature",), (), (never_twice, "temperature", "top_p")),
    *(lc.chain.PRESETS[name] for name in ("llama_cpp", "sglang", "mlx_lm")),
]
requests = st.builds(
    lc.Params,
    temperature=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    top_k=st.integers(0, 8),
    top_p=st.floats(0.3, 1),
    min_p=st.floats(0, 0.2),
    xtc_probability=st.floats(0, 1),
    xtc_threshold=st.floats(0, 0.3),
    repetition_penalty=st.floats(0.8, 1.5),
    frequency_penalty=st.floats(-1, 2),
    presence_penalty=st.floats(-1, 2),
    logit_bias=st.dictionaries(st.integers(0, 8), st.floats(-3, 3), max_size=2),
    min_tokens=st.integers(0, 9),
    eos_token=st.sets(st.integers(0, 8), max_size=2).map(tuple),
    no_repeat_ngram=st.sampled_from([0, 0, 2, 3]),
    bad_words=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=2).map(tuple),
    seed=st.integers(0, 2**64 - 1),
)


@st.composite
def situations(draw):
    """(a chain, a batch of rows with some output, a model)."""
    order = draw(st.sampled_from(ORDERS))
    chain = (
        lc.Chain.preset(order)
        if isinstance(order, str)
        else lc.Chain(order or lc.chain.DEFAULT_ORDER)
    )
    vocab = draw(st.sampled_from([9, 70]))
    token = st.integers(0, vocab - 1)
    batch = lc.Batch(vocab)
    for params in draw(st.lists(requests, min_size=1, max_size=4)):
        batch.add(params, draw(st.lists(token, max_size=5)), draw(st.lists(token, max_size=5)))
    return chain, batch, Random(vocab, draw(st.integers(0, 99)))


def alone(batch, row, output):
    """A batch of this row alone, with this output."""
    other = lc.Batch(batch.vocab_size)
    params = replace(batch.params(row), seed=batch.seed(row), n=1)
    other.add(params, batch.prompt(row), output)
    return other


def plain(chain, batch, row, model, count):
    """The row's next tokens without drafts."""
    output = batch.output(row)
    for _ in range(count):
        output = [*output, int(chain.sample(model(output), alone(batch, row, output))[0])]
    return output[len(output) - count :]
