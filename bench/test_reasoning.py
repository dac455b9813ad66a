"""A row that reasons beside the same row without a budget; a choice that looks for loops."""

import numpy as np
import pytest
from chains import REQUESTS
from rows import peaked

import logitchain as lc

VOCAB = 128_256
START, END = VOCAB - 2, VOCAB - 1
BUDGET = {"reasoning_start": [START], "reasoning_end": [END], "reasoning_budget": 10**6}
LOOP = {"max_pattern_size": 64, "min_count": 4, "action": "end_reasoning"}
LENGTH = 32_000

TEXT = (np.arange(LENGTH) * 48_271 % (VOCAB - 2)).tolist()
CASES = {
    "no budget": ({}, [START, *TEXT]),
    "a budget, in a block of 32,000": (BUDGET, [START, *TEXT]),
    "a budget, 32,000 after a block": (BUDGET, [START, END, *TEXT]),
    "a budget, 32,000 without a block": (BUDGET, TEXT),
    "a budget, in the last of 1,000 blocks": (BUDGET, [START, *TEXT[:30], END] * 999 + [START]),
    "a budget and loops, in a block of 32,000": (
        BUDGET | {"repetition_detection": LOOP},
        [START, *TEXT],
    ),
    "forced output tokens": ({"forced_output_tokens": [*TEXT, 5]}, TEXT),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("request_name", ["temperature", *list(REQUESTS)[:1]])
def test_reasoning(over_rows, request_name, case):
    fields, output = CASES[case]
    request = REQUESTS.get(request_name, {"temperature": 0.8})
    batch, chain = lc.Batch(VOCAB), lc.Chain()
    batch.add(lc.Params(seed=1, **request, **fields), [1, 2, 3], output)
    what = f"a row of 128,256 logits after 32,000 tokens, {request_name}"
    about = {"table": "features", "what": what, "way": case}
    over_rows(lambda row: chain.sample(row, batch), peaked(), **about)


@pytest.mark.parametrize("asked", [False, True])
def test_a_choice_that_looks_for_loops(benchmark, asked):
    fields = {"repetition_detection": {"max_pattern_size": 64, "min_count": 4}} if asked else {}
    choice = lc.Choice(lc.Params(**fields), lambda token: b"a", seed=1)
    tokens = iter(TEXT * 10)
    way = f"{'with' if asked else 'without'} a search for loops"
    benchmark.extra_info.update(table="features", what="`Choice.append`, a loop", way=way)
    benchmark.pedantic(lambda: choice.append(next(tokens)), rounds=5000)
