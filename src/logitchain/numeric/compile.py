"""How kernels are compiled, and where compiled code is kept."""

import ctypes
import getpass
import hashlib
import logging
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite
import numba
import numpy as np
from numba.core import cgutils, event, types
from numba.core.dispatcher import Dispatcher
from numba.core.typing.templates import Signature
from numba.extending import intrinsic

_PACKAGE = Path(__file__).parents[1]

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
    """The array without reference counting, for the time of a kernel.

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


# ---- kernels by address: each is compiled by itself, and the fused path once for all of them


def address_of(name: str, function: Any, signature: Signature) -> int:
    """The address of a compiled function, for `caller_of` the same signature.

    Whoever keeps the address keeps the function alive. Raises TypeError, calling the function
    `name`, if it cannot be compiled for the signature.
    """
    if INTERPRETED:
        return id(function)
    if not isinstance(function, Dispatcher):
        kind = type(function).__name__
        raise TypeError(f"{name} must be a function compiled with numba.njit, not a {kind}")
    try:
        function.compile(signature.args)
    except Exception as error:  # numba raises many kinds, of which some are no NumbaError
        raise TypeError(f"{name} must accept ({_listed(signature)}): {error}") from error
    compiled: Any = function.overloads[signature.args]
    if compiled.signature.return_type != signature.return_type:
        returned = compiled.signature.return_type
        raise TypeError(f"{name} must return {signature.return_type}, not {returned}")
    return int(compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name))


def _listed(signature: Signature) -> str:
    names = (getattr(kind, "instance_class", kind) for kind in signature.args)
    return ", ".join(getattr(name, "__name__", str(name)) for name in names)


def caller_of(signature: Signature) -> Any:
    """For kernels: a function (address, *arguments) that calls what is compiled at an address.

    Arrays may be of another mutability than the signature has, scalars are converted.
    """

    def interpreted(address: int, *arguments: Any) -> Any:
        return ctypes.cast(int(address), ctypes.py_object).value(*arguments)

    def call(*arguments: Any) -> Any:
        def codegen(context: Any, builder: Any, given: Any, args: Any) -> Any:
            wanted, convention = signature.args, context.call_conv
            values = [
                value
                if isinstance(kind, (types.Array, types.BaseTuple))
                else context.cast(builder, value, given_kind, kind)
                for value, given_kind, kind in zip(args[1:], given.args[1:], wanted, strict=True)
            ]
            kind = convention.get_function_type(signature.return_type, wanted)
            function = builder.inttoptr(args[0], kind.as_pointer())
            status, result = convention.call_function(
                builder, function, signature.return_type, wanted, values
            )
            with builder.if_then(status.is_error, likely=False):
                convention.return_status_propagate(builder, status)
            return result

        return signature.return_type(types.int64, *arguments), codegen

    def call_with_2(typingctx: Any, address: Any, a: Any, b: Any) -> Any:
        return call(a, b)

    def call_with_3(typingctx: Any, address: Any, a: Any, b: Any, c: Any) -> Any:
        return call(a, b, c)

    def call_with_4(typingctx: Any, address: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
        return call(a, b, c, d)

    def call_with_5(typingctx: Any, address: Any, a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
        return call(a, b, c, d, e)

    if INTERPRETED:
        return interpreted
    callers = (call_with_2, call_with_3, call_with_4, call_with_5)
    return intrinsic(callers[len(signature.args) - 2])


@intrinsic
def _at(typingctx: Any, address: Any, size: Any, kind: Any) -> Any:
    result = types.Array(kind.dtype, 1, "C")

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        parts = context.make_array(result)(context, builder)  # all zeros: it owns no memory
        number = context.get_data_type(result.dtype)
        itemsize = context.get_constant(types.intp, context.get_abi_sizeof(number))
        parts.data = builder.inttoptr(args[0], number.as_pointer())
        parts.nitems, parts.itemsize = args[1], itemsize
        parts.shape = cgutils.pack_array(builder, [args[1]])  # type: ignore[no-untyped-call]
        parts.strides = cgutils.pack_array(builder, [itemsize])  # type: ignore[no-untyped-call]
        return parts._getvalue()

    return result(types.intp, types.intp, kind), codegen


@instructions(_at)
def at(address: Any, size: Any, kind: Any) -> Any:
    """`size` numbers of a kind from an address on; whoever calls the kernel keeps them alive."""
    if not size:
        return np.empty(0, kind)
    memory = (ctypes.c_char * (int(size) * np.dtype(kind).itemsize)).from_address(int(address))
    return np.frombuffer(memory, kind)


def _compiled(function: F, **options: Any) -> F:
    if INTERPRETED:  # as silent as compiled code
        return np.errstate(all="ignore")(function)
    options |= {"nogil": True, "error_model": "numpy"}
    if CACHE is None:
        return cast(F, numba.njit(**options)(function))
    before = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    numba.config.CACHE_DIR = str(CACHE)  # type: ignore[attr-defined]
    try:
        return cast(F, numba.njit(cache=True, **options)(function))
    finally:
        numba.config.CACHE_DIR = before  # type: ignore[attr-defined]


def _cache_folder() -> Path | None:
    """Where compiled kernels are kept; None if no folder can be written to.

    Each state of the sources has a folder of its own: numba notices a change in a kernel's own file
    only, and would go on running what it compiled from the old state of the others.
    """
    chosen = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    usual = [Path(chosen)] if chosen else [_PACKAGE / "__pycache__", _home_folder()]
    name = f"logitchain-{_digest()}"
    places = [place / name for place in (*usual, _temporary_folder()) if place is not None]
    return next(filter(_is_writeable, places), None)


def _digest() -> str:
    """A name for the state of the package's sources and of what else changes its machine code."""
    about = numba.__version__, llvmlite.__version__, numba.config.BOUNDSCHECK  # type: ignore[attr-defined]
    digest = hashlib.sha256(repr(about).encode())
    for path in sorted(_PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _is_writeable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _home_folder() -> Path | None:
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # there is no home
        return None


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


#: The folder of compiled kernels; it is chosen once for a process.
CACHE = None if INTERPRETED else _cache_folder()


# ---- a notice where the first call takes long

_EVENT = "numba:compile"  # numba triggers it where a kernel is not in the cache


class _Notice(event.Listener):
    """Logs one warning when the first of our kernels is compiled, since that takes long."""

    is_given = False

    def on_start(self, event_: Any) -> None:
        module = event_.data["dispatcher"].py_func.__module__
        if module.startswith(f"{_PACKAGE.name}.") and not self.is_given:
            self.is_given = True  # unregistered from in here, numba would skip the next listener
            kept = (
                f"are kept in {CACHE}" if CACHE else "cannot be kept: no folder can be written to"
            )
            logging.getLogger(_PACKAGE.name).warning(
                "compiling kernels for this processor, which takes about half a minute; they %s. "
                "`python -m logitchain warmup` compiles all of them ahead of the first call",
                kept,
            )

    def on_end(self, event_: Any) -> None:
        """Log nothing when a kernel is ready."""


if not INTERPRETED:
    event.register(_EVENT, _Notice())  # type: ignore[no-untyped-call]
