"""What `numeric/compile.py` leans on inside numba: if one of these fails, look there first."""

import numpy as np
import pytest
from numba import njit, types
from numba.core import event
from numba.core.dispatcher import Dispatcher

from logitchain.numeric import compile as jit

pytestmark = pytest.mark.skipif(jit.INTERPRETED, reason="nothing is compiled")

FLOATS = types.Array(types.float64, 1, "C")
SIGNATURE = types.float64(FLOATS, types.int64)
call = jit.caller_of(SIGNATURE)


@njit
def pick(values, i):
    return values[i]


@njit
def pick_checked(values, i):
    if i >= values.size:
        raise ValueError("beyond the end")
    return values[i]


@njit
def through(address, values, i):
    return call(address, values, i)


def test_a_dispatcher_compiles_for_a_signature_and_tells_where_its_code_is():
    assert isinstance(pick, Dispatcher), "njit no longer gives a numba.core.dispatcher.Dispatcher"
    pick.compile(SIGNATURE.args)
    assert SIGNATURE.args in pick.overloads, "Dispatcher.overloads has other keys"
    compiled = pick.overloads[SIGNATURE.args]
    name = compiled.fndesc.llvm_func_name
    address = compiled.library.get_pointer_to_function(name)
    assert address > 0, "the code library no longer tells the address of a function"
    assert address == jit.address_of("pick", pick, SIGNATURE)


def test_code_at_an_address_is_called_and_its_error_goes_on_to_the_caller():
    values = np.array([1.0, 2.0, 4.0])
    assert through(jit.address_of("pick", pick, SIGNATURE), values, 2) == 4.0
    checked = jit.address_of("pick_checked", pick_checked, SIGNATURE)
    assert through(checked, values, np.int32(1)) == 2.0, "scalars are no longer converted"
    with pytest.raises(ValueError, match="beyond the end"):
        through(checked, values, 3)


def test_an_array_may_be_of_another_mutability():
    values = np.array([1.0, 2.0, 4.0])
    values.flags.writeable = False
    assert through(jit.address_of("pick", pick, SIGNATURE), values, 1) == 2.0


def test_numbers_from_an_address_on_are_an_array_that_owns_nothing():
    @njit
    def total(address, size):
        return jit.at(address, size, np.float64).sum()

    values = np.array([1.0, 2.0, 4.0])
    assert total(values.ctypes.data, 3) == 7.0
    assert total(0, 0) == 0.0


def test_the_start_of_a_compilation_is_an_event_that_names_the_function():
    started = []

    class Listener(event.Listener):
        def on_start(self, begun):
            started.append(begun.data["dispatcher"].py_func.__name__)

        def on_end(self, ended):
            pass

    @njit
    def fresh(x):
        return x + 1

    listener = Listener()
    event.register("numba:compile", listener)
    try:
        fresh(1)
    finally:
        event.unregister("numba:compile", listener)
    assert started == ["fresh"]
