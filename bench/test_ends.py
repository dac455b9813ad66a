"""How a text ends: a choice and its tokens, and a step that bans texts, beside those without."""

import itertools

import numpy as np
import pytest
from rows import flat

import logitchain as lc

WORDS = [b" w%d" % token for token in range(1_000)]
TOKENS = [1 + i % 900 for i in range(1_000)]
#: Of the last, every ninth token begins a sequence.
ENDS = {
    "without": {},
    "a stop phrase": {"stop": ["\n\n", "END"]},
    "`stop_tokens` of one": {"stop_tokens": [950, 951]},
    "`stop_tokens` of several": {"stop_tokens": [[950, 951], [952, 953, 954]]},
    "`stop_tokens` that often begin": {"stop_tokens": [[i, 999] for i in range(0, 900, 9)]},
    "both": {"stop": ["END"], "stop_tokens": [[i, 999] for i in range(0, 900, 9)]},
}


@pytest.mark.parametrize("ends", ENDS)
def test_append(benchmark, ends):
    params = lc.Params(eos_token=0, **ENDS[ends])

    def run():
        choice = lc.Choice(params, WORDS.__getitem__, seed=7)
        for token in TOKENS:
            choice.append(token)

    about = {"what": "`Choice.append`", "way": ends, "per": len(TOKENS)}
    benchmark.extra_info.update(table="features", **about)
    benchmark.pedantic(run, rounds=30, warmup_rounds=3)


def spelled(vocab):
    """A vocabulary of letters and of words of two and three."""
    letters = [bytes([97 + i]) for i in range(26)]
    words = (b"".join(x) for n in (1, 2, 3) for x in itertools.product(letters, repeat=n))
    return list(itertools.islice(itertools.cycle(words), vocab))


@pytest.mark.parametrize("texts", [0, 1, 100])
def test_banned_texts(over_rows, texts):
    vocab = 49_152
    words = [b"%d" % (7 ** (i + 3) % 10**8) for i in range(texts)]
    letters = bytes.maketrans(b"0123456789", b"abcdefghij")
    banned = lc.BannedTexts([x.translate(letters).decode() for x in words], spelled(vocab))
    batch, chain = lc.Batch(vocab), lc.Chain()
    tokens = np.random.default_rng(5).integers(0, vocab, 500).tolist()
    batch.add(lc.Params(seed=7, top_p=0.95, banned_texts=banned), [1], tokens)
    about = {"table": "features", "what": f"a row of {vocab:,} logits, top_p"}
    about["way"] = f"{texts} banned texts"
    over_rows(lambda row: chain.sample(row[None], batch), flat(vocab), **about)


@pytest.mark.parametrize("texts", [1, 100])
def test_banned_texts_are_found(benchmark, texts):
    vocabulary = spelled(49_152)
    words = ["".join(chr(97 + x % 26) for x in (7 * i, i, 3 * i, i // 26)) for i in range(texts)]
    way = f"{texts} banned text{'s' * (texts > 1)}"
    benchmark.extra_info.update(table="features", what="`lc.BannedTexts` of 49,152 tokens", way=way)
    benchmark.pedantic(lambda: lc.BannedTexts(words, vocabulary), rounds=3, warmup_rounds=1)
