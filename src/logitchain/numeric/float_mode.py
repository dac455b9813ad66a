"""The floating-point mode of a thread, and how this library is independent of it.

A thread may run with subnormal numbers flushed to zero, as after `torch.set_flush_denormal(True)`,
or with another rounding. The same logits would then give other bits. So all arithmetic runs in the
standard mode of IEEE 754, and the caller's mode is restored afterwards.
"""

import functools
import platform
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .compile import instructions, kernel
from .functions import I64

P = ParamSpec("P")
R = TypeVar("R")

_IS_X86 = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")
_IS_ARM = platform.machine().lower() in ("aarch64", "arm64")
#: Round to nearest, keep subnormal numbers; on x86 all exceptions are masked.
_STANDARD = 0x1F80 if _IS_X86 else 0
#: The control bits; the others of x86's register say which exceptions there were.
_CONTROL = 0xFFC0 if _IS_X86 else -1

_I32, _I64, _VOID = ir.IntType(32), ir.IntType(64), ir.VoidType()


def _call(builder: Any, name: str, result: Any, *args: Any) -> Any:
    """Call an instruction; no load or store of the code around it moves to its other side."""
    kind = ir.FunctionType(result, [arg.type for arg in args])
    builder.fence("seq_cst", targetscope="singlethread")  # no instruction: for the compiler alone
    value = builder.call(builder.module.declare_intrinsic(name, (), kind), args)
    builder.fence("seq_cst", targetscope="singlethread")
    return value


def _read(builder: Any) -> Any:
    """The thread's control register as 64 bits."""
    if _IS_X86:
        place = cgutils.alloca_once(builder, _I32)  # type: ignore[no-untyped-call]
        byte = builder.bitcast(place, ir.IntType(8).as_pointer())
        _call(builder, "llvm.x86.sse.stmxcsr", _VOID, byte)
        return builder.zext(builder.load(place), _I64)
    if _IS_ARM:
        return _call(builder, "llvm.aarch64.get.fpcr", _I64)
    return _I64(_STANDARD)


def _write(builder: Any, mode: Any) -> None:
    """Set the thread's control register."""
    if _IS_X86:
        place = cgutils.alloca_once(builder, _I32)  # type: ignore[no-untyped-call]
        builder.store(builder.trunc(mode, _I32), place)
        byte = builder.bitcast(place, ir.IntType(8).as_pointer())
        _call(builder, "llvm.x86.sse.ldmxcsr", _VOID, byte)
    elif _IS_ARM:
        _call(builder, "llvm.aarch64.set.fpcr", _VOID, mode)


@intrinsic
def _emit_standard(typingctx: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        before = _read(builder)
        _write(builder, _I64(_STANDARD))
        return before

    return types.int64(), codegen


@instructions(_emit_standard)
def standard_mode() -> I64:
    """Switch this thread to the standard mode; the mode that it had."""
    return _STANDARD


@intrinsic
def _emit_restore(typingctx: Any, mode: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _write(builder, args[0])
        return context.get_dummy_value()

    return types.none(types.int64), codegen


@instructions(_emit_restore)
def restore_mode(mode: I64) -> None:
    """Switch this thread back to a mode that `standard_mode` returned."""


@intrinsic
def _emit_mode(typingctx: Any) -> Any:
    return types.int64(), lambda context, builder, signature, args: _read(builder)


@instructions(_emit_mode)
def _mode() -> I64:
    return _STANDARD


@kernel
def is_standard() -> bool:
    """Whether this thread is in the standard mode."""
    return bool(_mode() & _CONTROL == _STANDARD)


@kernel
def enter() -> I64:
    """`standard_mode`, for Python."""
    return standard_mode()


@kernel
def leave(mode: I64) -> None:
    """`restore_mode`, for Python."""
    restore_mode(mode)


def in_standard_mode(function: Callable[P, R]) -> Callable[P, R]:
    """Let a public function compute in the standard mode, whatever the mode of its caller is."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if is_standard():
            return function(*args, **kwargs)
        mode = enter()
        try:
            return function(*args, **kwargs)
        finally:
            leave(mode)

    return call
