"""How kernels are compiled, and where compiled code is kept."""

import getpass
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])

#: Whether numba does not compile here, for coverage.
INTERPRETED = bool(numba.config.DISABLE_JIT)  # type: ignore[attr-defined]


def kernel(function: F) -> F:
    """Compile a function as every kernel here is: cached, without the GIL, without fastmath."""
    return _compiled(function)


def inlined(function: F) -> F:
    """A kernel of numbers that becomes part of its callers: loops over it run in vectors."""
    return _compiled(function, forceinline=True)


def spliced(function: F) -> F:
    """The same for functions of arrays that have one `return`, at their end: numba's own inliner
    gets several wrong. It saves 50 ns a call and array, and half a second of compiling.
    """
    return _compiled(function, inline="always")


def instructions(emitted: Any) -> Callable[[Callable[..., Any]], Any]:
    """For a function that kernels get as these instructions: its body is for where numba does not
    compile. An overload that numba inlines would say the same, and take longer to compile.
    """
    return lambda function: function if INTERPRETED else emitted


@intrinsic
def _uncounted(typingctx: Any, array: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        parts = context.make_array(signature.args[0])(context, builder, args[0])
        parts.meminfo = cgutils.get_null_value(parts.meminfo.type)  # type: ignore[no-untyped-call]
        parts.parent = cgutils.get_null_value(parts.parent.type)  # type: ignore[no-untyped-call]
        return parts._getvalue()

    return array(array), codegen


@instructions(_uncounted)
def borrowed(array: Any) -> Any:
    """The same array for the time of a kernel, in which numba does not count references to it.

    Who calls the kernel keeps the array alive. Counting took 2 us of a call for one row.
    """
    return array


@intrinsic
def _part(typingctx: Any, memory: Any, first: Any, size: Any, kind: Any) -> Any:
    result = types.Array(kind.dtype, 1, "C")

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        parts = context.make_array(result)(context, builder)  # all zeros: it owns no memory
        number = context.get_data_type(result.dtype)
        itemsize = context.get_constant(types.intp, context.get_abi_sizeof(number))
        parts.data = builder.bitcast(builder.gep(data, [args[1]]), number.as_pointer())
        parts.nitems, parts.itemsize = args[2], itemsize
        parts.shape = cgutils.pack_array(builder, [args[2]])  # type: ignore[no-untyped-call]
        parts.strides = cgutils.pack_array(builder, [itemsize])  # type: ignore[no-untyped-call]
        return parts._getvalue()

    return result(memory, types.intp, types.intp, kind), codegen


@instructions(_part)
def part(memory: Any, first: Any, size: Any, kind: Any) -> Any:
    """`size` numbers of a kind, in place, from the place `first` of a borrowed 1-D array on."""
    return memory[first : first + size * np.dtype(kind).itemsize // memory.itemsize].view(kind)


def _compiled(function: F, **options: Any) -> F:
    if INTERPRETED:  # as silent as compiled code
        return np.errstate(all="ignore")(function)
    options |= {"nogil": True, "error_model": "numpy"}
    try:
        return cast(F, numba.njit(cache=True, **options)(function))
    except RuntimeError:  # neither beside this file nor in a home can anything be written
        return _cached_in_temporary(function, options)


def _cached_in_temporary(function: F, options: dict[str, Any]) -> F:
    folder = _temporary_folder()
    if folder is None:
        return cast(F, numba.njit(**options)(function))
    before = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    try:
        return cast(F, numba.njit(cache=True, **options)(function))
    finally:
        numba.config.CACHE_DIR = before  # type: ignore[attr-defined]


def _temporary_folder() -> Path | None:
    """A folder that is this user's alone: what is in a cache is run."""
    try:
        user = str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()
        folder = Path(tempfile.gettempdir()) / f"logitchain-{user}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except (OSError, KeyError):
        return None
    is_ours = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    is_private = os.name != "posix" or not found.st_mode & 0o077
    return folder if stat.S_ISDIR(found.st_mode) and is_ours and is_private else None
