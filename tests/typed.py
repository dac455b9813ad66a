"""What `mypy --strict` accepts of a caller, and what it refuses; `make lint` checks this file.

The code is never executed. mypy also reports each `type: ignore` that hides no error.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from typing_extensions import assert_type

    import logitchain as lc

    lc.Params(stop="x", eos_token=2, seed=[1, 2], n=2)
    lc.Params(stop=["x", "y"], eos_token={2, 3}, seed=7, banned_tokens=range(3), bad_words=[[1, 2]])
    lc.Params(allowed_tokens=np.arange(3), penalty_exempt=(1,), ngram_exempt=[1], logit_bias={1: 2})
    lc.Params(logit_bias={"1": 2.0}, dry_sequence_breakers=[(1, 2), (3,)], stop=None, seed=None)

    params = lc.Params()
    assert_type(params.stop, tuple[str, ...])
    assert_type(params.eos_token, tuple[int, ...])
    assert_type(params.bad_words, tuple[tuple[int, ...], ...])
    assert_type(params.seed, int | tuple[int, ...] | None)
    assert_type(params.temperature, float)

    lc.Params(stop=1)  # type: ignore[arg-type]
    lc.Params(eos_token="x")  # type: ignore[arg-type]
    lc.Params(bad_words=[1])  # type: ignore[list-item]
    lc.Params(seed=1.5)  # type: ignore[arg-type]
    lc.Params(top_kay=1)  # type: ignore[call-arg]
    params.stop = ()  # type: ignore[misc]
