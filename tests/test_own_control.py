"""Laws of every control's record, and a control that a user defines."""

import copy
import pickle
import runpy
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numba import njit
from numpy.testing import assert_array_equal

import logitchain as lc
from effort import effort
from logitchain.controls import CONTROLS
from logitchain.numeric import compile as jit
from logitchain.testing import check_control

LOGITS = np.array([[2.0, 1.0, 0.5, -1.0], [0.0, 0.1, 0.2, 0.3]], np.float32)


@njit
def halve(row, ids, request):
    for i in range(row.size):
        row[i] *= request.values[0]


@njit
def nothing(row, ids, request):
    pass


@njit
def drop_named(row, ids, request):
    for i in range(request.places.size):
        row[request.places[i]] = -np.inf


SHRINK = lc.Field("shrink", off=1.0, range="(0, 1]")
HALVE = lc.Control(name="halve", fields=[SHRINK], kind="scale", kernel=halve)


@dataclass(frozen=True, kw_only=True)
class MyParams(lc.Params):
    shrink: float = lc.field(1.0, "(0, 1]")


@pytest.mark.parametrize("control", CONTROLS[:: effort(30, 1)], ids=lambda control: control.name)
def test_every_built_in_control_obeys_the_laws(control):
    check_control(control, rounds=effort(1, 3))


def test_a_control_of_a_user_obeys_them_and_reads_its_own_field():
    check_control(HALVE, rounds=1)
    batch = lc.Batch(4)
    batch.add(MyParams(shrink=0.5, seed=1))
    batch.add(lc.Params(seed=2))  # a request that lacks the field leaves its control off
    assert_array_equal(lc.Chain([HALVE])(LOGITS, batch), LOGITS * [[0.5], [1.0]])
    assert_array_equal(batch["shrink"], [0.5, np.nan])
    explanation = lc.Chain([HALVE, "top_k"]).explain(LOGITS, batch, batch.rows[0])
    assert [stage.setting for stage in explanation.stages] == ["", "0.5", "off"]


def test_a_request_body_sets_the_field_of_a_users_control():
    params = MyParams.from_request({"shrink": 0.25, "top_k": 2})
    assert (params.shrink, params.top_k) == (0.25, 2)
    with pytest.raises(ValueError, match=r"shrink must be in \(0, 1\], not 2"):
        MyParams.from_request({"shrink": 2})


BROKEN = {
    "a scale that turns the order round": ("scale", "the order stays"),
    "a cut that changes logits": ("cut", "not changed"),
    "an adjustment of all tokens": ("adjust", "only named tokens change"),
}


@njit
def negate(row, ids, request):
    for i in range(row.size):
        if row[i] > -np.inf:
            row[i] = -row[i] - 1.0


@pytest.mark.parametrize(("kind", "law"), BROKEN.values(), ids=BROKEN)
def test_a_broken_record_is_found(kind, law):
    broken = lc.Control(
        name="broken",
        fields=[lc.Field("broken", off=0.0, range="[0, 1]")],
        kind=kind,
        kernel=negate,
        tokens="history" if kind == "adjust" else "",
    )
    with pytest.raises(AssertionError, match=law):
        check_control(broken, rounds=1)


@njit
def too_high(best, temperature, peaks, values, vocab_size):
    return np.float64(best)


def test_a_floor_that_is_too_high_is_found():
    min_p = next(control for control in CONTROLS if control.name == "min_p")
    with pytest.raises(AssertionError, match="the chain min_p is its steps"):
        check_control(replace(min_p, floor=too_high), rounds=1)


def test_a_control_that_reads_the_history_may_empty_a_row():
    record = lc.Control(
        name="drop_named",
        fields=[lc.Field("drop", off=0.0, range="[0, 1]")],
        kind="adjust",
        kernel=drop_named,
        tokens="history",
    )
    check_control(record, rounds=1)


@njit
def lower_named(row, ids, request):
    for i in request.places:
        row[i] -= request.values[0]


def test_two_controls_may_read_two_scopes_of_one_history():
    """Of which no built-in penalty has counted the tokens."""

    def lowering(name, scope):
        return lc.Control(
            name=name,
            fields=[lc.Field(name, off=0.0, range="[0, 9]")],
            kind="adjust",
            kernel=lower_named,
            tokens="history",
            options={"scope": scope},
        )

    @dataclass(frozen=True, kw_only=True)
    class Asked(lc.Params):
        first: float = lc.field(0.0, "[0, 9]")
        second: float = lc.field(0.0, "[0, 9]")

    expected = {"prompt": [1, 2, 0, 0], "output": [0, 0, 1, 0], "all": [1, 2, 1, 0]}
    for one in expected:
        for other in expected:
            batch = lc.Batch(200)
            batch.add(Asked(first=1.0, second=4.0, seed=0), [0, 70], [140])
            chain = lc.Chain([lowering("first", one), lowering("second", other)])
            lowered = -chain(np.zeros(200, np.float32), batch)[[0, 70, 140, 199]]
            named = [np.array(expected[scope]) > 0 for scope in (one, other)]
            assert lowered.tolist() == (1.0 * named[0] + 4.0 * named[1]).tolist(), (one, other)


@dataclass(frozen=True, kw_only=True)
class Counted(MyParams):
    counted: float = lc.field(0.0, "[0, 1]")
    calm: float = lc.field(0.0, "[0, 1]")


def counter(size):
    """A control of so many fields that adds to the first logit how often a token was drawn."""

    @njit
    def add(row, ids, request):
        drawn = request.values[size]
        row[0] += 0.0 if np.isnan(drawn) else drawn

    @njit
    def update(values, logprob, state):
        state[0] = 1.0 + (0.0 if np.isnan(values[size]) else values[size])

    names = ("counted", *(f"spare_{i}" for i in range(size - 1)))
    fields = [lc.Field(name, off=0.0, range="[0, 1]") for name in names]
    return lc.Control(
        name="counter", fields=fields, kind="free", kernel=add, state=["drawn"], update=update
    )


@pytest.mark.parametrize("size", [1, 6])
def test_a_control_that_two_others_replace_keeps_its_state(size):
    """Also one with as many fields as there may be, and across a callable."""
    others = [
        lc.Control(
            name=f"no_{x.name}", fields=[x], kind="free", kernel=nothing, instead_of="counter"
        )
        for x in (SHRINK, lc.Field("calm", off=0.0, range="[0, 1]"))
    ]
    chain = lc.Chain([others[0], lambda rows, batch: None, counter(size), others[1]])
    batch, rows = lc.Batch(4), np.zeros((3, 4), np.float32)
    for more in ({}, {"shrink": 0.5}, {"calm": 1}):
        batch.add(Counted(counted=1, seed=1, **more))
    for step in range(3):
        assert chain(rows, batch)[:, 0].tolist() == [step, 0, 0]
        batch.append(chain.sample(rows, batch))
    assert [batch.state(row) for row in batch.rows] == [{"drawn": 3.0}, {}, {}]
    settings = [chain.explain(rows, batch, row).stages[3].setting for row in batch.rows]
    assert [setting == "off" for setting in settings] == [False, True, True]


def unbounded(row, ids, request):
    return row[0]


BAD_RECORDS = {
    "a name": ({"name": "no name"}, ValueError, "name must be an identifier"),
    "a kind": ({"kind": "shuffle"}, ValueError, "kind must be one of"),
    "a field": ({"fields": ["no_field"]}, ValueError, "fields must be one of"),
    "tokens": ({"kind": "mask", "tokens": "histroy"}, ValueError, "tokens must be one of.*history"),
    "a switch": ({"switches": ("x",)}, ValueError, "switches must be one of"),
    "nothing to replace by": (
        {"fields": [], "instead_of": "top_k"},
        ValueError,
        "switches must be one field",
    ),
    "a statistic": ({"statistics": ("median",)}, ValueError, "statistics must be one of"),
    "an option": ({"options": {"x": 1}}, ValueError, "options must be one of"),
    "a floor": ({"kind": "free", "floor": too_high}, ValueError, "floor must be None"),
}


@pytest.mark.parametrize(("change", "kind", "text"), BAD_RECORDS.values(), ids=BAD_RECORDS)
def test_an_inconsistent_record_is_refused(change, kind, text):
    given = {"name": "x", "fields": [SHRINK], "kind": "scale", "kernel": halve} | change
    with pytest.raises(kind, match=text):
        lc.Control(**given)


@pytest.mark.skipif(jit.INTERPRETED, reason="nothing is compiled")
@pytest.mark.parametrize(
    ("kernel", "text"),
    [
        (unbounded, "must be a function compiled with numba.njit"),
        (njit(unbounded), "the kernel of halve must return none, not float32"),
        (njit(lambda row: None), r"the kernel of halve must accept \(.*Request\)"),
        (njit(lambda row, ids, request: request.no_such), "the kernel of halve must accept"),
    ],
)
def test_a_kernel_of_another_signature_is_refused_before_it_is_called(kernel, text):
    with pytest.raises(TypeError, match=text):
        lc.Chain([replace(HALVE, kernel=kernel)])


def test_the_steps_of_a_chain_make_a_chain():
    for name in lc.PRESETS:
        chain = lc.Chain.preset(name)
        assert lc.Chain(chain.steps).steps == chain.steps
        longer = lc.Chain([*chain.steps, HALVE])
        assert longer.steps[-1].control is HALVE
    assert lc.Chain([["xtc", {"protected": "exempt"}], "top_k"]).steps[0].options == {
        "protected_ids": (),
        "protected": "exempt",
    }
    assert tuple(step.name for step in lc.Chain().steps) == lc.DEFAULT_ORDER


def test_a_chain_shows_its_order():
    chain = lc.Chain([HALVE, ("top_k", {"ties": "all"}), "min_p"])
    assert repr(chain) == "Chain([halve, ('top_k', {'ties': 'all'}), 'min_p'])"


def test_a_chain_with_a_users_control_is_copied_and_pickled():
    batch = lc.Batch(4)
    batch.add(MyParams(shrink=0.5, seed=1))
    chain = lc.Chain([HALVE, "top_k"])
    expected = chain(LOGITS[0], batch)
    for other in (copy.copy(chain), copy.deepcopy(chain), pickle.loads(pickle.dumps(chain))):
        assert_array_equal(other(LOGITS[0], batch), expected)


@pytest.mark.skipif(jit.INTERPRETED, reason="it takes a minute, and the laws have run above")
def test_the_example_runs(capsys, monkeypatch):
    example = Path(__file__).parents[1] / "docs/examples/own_control.py"
    monkeypatch.syspath_prepend(example.parent)  # as `python FILE` does: kernels name their module
    runpy.run_path(str(example), run_name="__main__")
    printed = capsys.readouterr().out
    assert "top_cube obeys the laws of a cut" in printed
    assert "10.66%" in printed  # what top_cube removes of the row
