"""Reading and changing numbers in memory that several threads use at once.

Numba has no words for that; LLVM does (Herlihy and Shavit 2012, "The Art of Multiprocessor Programming", chapter 5).
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target

from kernels.compilation import element_pointer, intrinsic


@intrinsic
def load(typing, job, index):  # type: ignore[no-untyped-def]
    """``job[index]``, and everything that others wrote before they wrote this."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.load_atomic(element_pointer(context, builder, signature, arguments), "acquire", 8)

    return types.intp(job, types.intp), emit


@intrinsic
def store(typing, job, index, value):  # type: ignore[no-untyped-def]
    """``job[index] = value``, after everything that was written before."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        builder.store_atomic(arguments[2], element_pointer(context, builder, signature, arguments), "release", 8)
        return context.get_dummy_value()

    return types.void(job, types.intp, types.intp), emit


@intrinsic
def add(typing, job, index, value):  # type: ignore[no-untyped-def]
    """``job[index] += value``, as one step."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        builder.atomic_rmw("add", element_pointer(context, builder, signature, arguments), arguments[2], "acq_rel")
        return context.get_dummy_value()

    return types.void(job, types.intp, types.intp), emit


@intrinsic
def replace(typing, job, index, old, new):  # type: ignore[no-untyped-def]
    """``job[index] = new`` if it was ``old``, as one step; whether it was."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        element = element_pointer(context, builder, signature, arguments)
        result = builder.cmpxchg(element, arguments[2], arguments[3], "acq_rel", "monotonic")
        return builder.extract_value(result, 1)

    return types.boolean(job, types.intp, types.intp, types.intp), emit


@intrinsic
def pause(typing):  # type: ignore[no-untyped-def]
    """Tell the processor that this is a waiting loop, where it has an instruction for that."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        if cpu_target.target_context.codegen().magic_tuple()[0].startswith(("x86_64", "i686")):
            nothing = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, nothing, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), emit
