"""What `mypy --strict` accepts of a caller, and what it refuses; `make lint` checks this file.

The code is never executed. mypy also reports each `type: ignore` that hides no error.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import assert_type

    import logitchain as lc

    lc.Params(stop="x", eos_token=2, seed=[1, 2], n=2)
    lc.Params(stop=["x", "y"], eos_token={2, 3}, seed=7, banned_tokens=range(3), bad_words=[[1, 2]])
    lc.Params(allowed_tokens=np.arange(3), penalty_exempt=(1,), ngram_exempt=[1], logit_bias={1: 2})
    lc.Params(reasoning_budget=5, reasoning_start=1, reasoning_end=[2], repetition_detection={})
    lc.Params(repetition_detection=lc.RepetitionDetection(max_pattern_size=4, min_count=3))
    lc.Params(logit_bias={"1": 2.0}, dry_sequence_breakers=[(1, 2), (3,)], stop=None, seed=None)

    params = lc.Params()
    assert_type(params.stop, tuple[str, ...])
    assert_type(params.eos_token, tuple[int, ...])
    assert_type(params.bad_words, tuple[tuple[int, ...], ...])
    assert_type(params.seed, int | tuple[int, ...] | None)
    assert_type(params.temperature, float)

    lc.Params(watermark={"key": 42})
    mark = lc.Watermark("sbw", key=42, context_width=2, gamma=0.25)
    assert_type(lc.Params(watermark=mark).watermark, lc.Watermark | None)
    assert_type(lc.detect_watermark([1, 2], mark).p_value, float)
    lc.Watermark("sbv", key=42)  # type: ignore[arg-type]
    lc.Watermark("gumbel")  # type: ignore[call-arg]
    lc.Params(stop=1)  # type: ignore[arg-type]
    lc.Params(eos_token="x")  # type: ignore[arg-type]
    lc.Params(bad_words=[1])  # type: ignore[list-item]
    lc.Params(seed=1.5)  # type: ignore[arg-type]
    lc.Params(top_kay=1)  # type: ignore[call-arg]
    params.stop = ()  # type: ignore[misc]

    # Names are literals, and a chain takes whatever its order may hold.
    lc.Chain(("temperature", "min_p"), on_invalid="mark")
    lc.Chain([("top_k", {"ties": "all"}), "top_p", ["xtc", {"protected": "exempt"}]])
    lc.Chain([*lc.DEFAULT_ORDER, *lc.PRESETS["vllm"], *lc.Chain.preset("vllm").steps])
    lc.Chain.preset("koboldcpp", threads=2)
    for preset in lc.PRESETS:
        lc.Chain.preset(preset)
    for dialect in lc.DIALECTS:
        lc.Params.from_request({}, dialect=dialect)

    def halve(rows: NDArray[np.float32], batch: lc.Batch) -> None:
        """Halve all logits."""
        rows *= 0.5

    lc.Chain(["temperature", halve])
    lc.Chain(("top_kay",))  # type: ignore[arg-type]
    lc.Chain.preset("vlm")  # type: ignore[arg-type]
    lc.Chain(on_invalid="ignore")  # type: ignore[arg-type]
    lc.Params.from_request({}, dialect="vlm")  # type: ignore[arg-type]
    lc.top_k([1.0], 1, ties="last")  # type: ignore[arg-type]
    lc.top_k([1.0], 1, dtype="float32")  # type: ignore[arg-type]

    # A number gives a number, an array an array.
    row, rows = np.zeros(3), np.zeros((2, 3))
    assert_type(lc.sample([1.0, 2.0], seed=0, position=0), int)
    assert_type(lc.sample([[1.0, 2.0]], seed=0, position=0), NDArray[np.int64])
    assert_type(lc.sample(row, seed=0, position=0), int)
    assert_type(lc.sample(rows, seed=0, position=0), NDArray[np.int64])
    assert_type(lc.sample(np.zeros(np.shape(rows)), seed=0, position=0), Any)
    assert_type(lc.token_logprobs(row, 1), float)
    assert_type(lc.token_logprobs(rows, [1, 2]), NDArray[np.float32])
    assert_type(lc.uniform(1, np.int64(2)), float)
    assert_type(lc.uniform(1, [0, 1]), NDArray[np.float64])
    assert_type(lc.mirostat_update(5, -1.0, 5.0, 0.1), float)
    assert_type(lc.mirostat_update(row, row, 5.0, 0.1), NDArray[np.float64])
