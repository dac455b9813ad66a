"""Whole chains, a row at a time, beside their peers and beside np.max of the same rows."""

import pytest
from chains import PENALTIES, REQUESTS, SAMPLERS, history
from rows import SHAPES


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_chain(over_rows, shape, request_name, sampler):
    rows = SHAPES[shape]()
    call = SAMPLERS[sampler](rows.shape[1], REQUESTS[request_name])
    over_rows(call, rows, table="chains", shape=shape, request=request_name, sampler=sampler)


@pytest.mark.parametrize("sampler", ["np.max", "logitchain", "llama.cpp"])
@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_chain_with_penalties(over_rows, shape, request_name, sampler):
    rows = SHAPES[shape]()
    request = REQUESTS[request_name] | PENALTIES
    call = SAMPLERS[sampler](rows.shape[1], request, history(rows.shape[1]))
    over_rows(call, rows, table="penalties", shape=shape, request=request_name, sampler=sampler)


@pytest.mark.parametrize("sampler", ["np.max", "logitchain"])
@pytest.mark.parametrize("request_name", [*REQUESTS, "greedy"])
@pytest.mark.parametrize("shape", SHAPES)
def test_chain_on_a_row_in_the_cache(over_rows, shape, request_name, sampler):
    """As in an engine whose model has just written the row."""
    row = SHAPES[shape]()[:1].copy()
    request = REQUESTS.get(request_name, {"temperature": 0.0})
    call = SAMPLERS[sampler](row.shape[1], request)
    about = {"shape": shape, "request": request_name, "sampler": sampler}
    over_rows(call, row, rounds=300, table="cached", **about)
