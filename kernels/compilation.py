"""Compiling and caching kernels."""

import hashlib
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Any, Literal

import llvmlite
import numba
from numba.core import event
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.extending import intrinsic as _typed_intrinsic

# Numba's cache follows the file of the jitted function alone, but our kernels inline one another across files and
# their machine code comes from a generator: a change anywhere in the package must invalidate all of it, and so must
# another compiler.
_PACKAGE_STAMP = hashlib.sha256(
    f"{numba.__version__} {llvmlite.__version__}".encode()
    + b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
).hexdigest()


DIGEST = hashlib.sha256().digest_size


class _Files(IndexDataCacheFile):
    """Machine code in a file for each signature and processor, named after these and the state of the package.

    Numba's index numbers such files, and is written before them. So a process that ends in between, or a second one
    that compiles at the same time, could leave other code under a number than the index says.
    """

    def __init__(self, folder: str, function: str) -> None:
        super().__init__(folder, function, _PACKAGE_STAMP)
        self._function, self._stamp = function, _PACKAGE_STAMP[:16]

    def _path(self, key: Any) -> Path:
        name = f"{self._function}.{self._stamp}.{hashlib.sha256(repr(key).encode()).hexdigest()[:16]}.nbc"
        return Path(self._cache_path, name)

    def load(self, key: Any) -> Any:
        with suppress(OSError):  # there is no such file
            content = self._path(key).read_bytes()
            if hashlib.sha256(content[DIGEST:]).digest() == content[:DIGEST]:  # else it is damaged
                return pickle.loads(content[DIGEST:])
        return None

    def save(self, key: Any, data: Any) -> None:
        content = self._dump(data)
        with self._open_for_write(str(self._path(key))) as file:
            file.write(hashlib.sha256(content).digest() + content)
        name, _, line_and_abi = self._function.rpartition("-")  # the line may have been another
        abi = line_and_abi.partition(".")[2]
        for path in Path(self._cache_path).glob(f"{escape(name)}-*.{escape(abi)}.*.nbc"):
            if f".{self._stamp}." not in path.name:  # of an earlier state of the package
                path.unlink(missing_ok=True)


class _PackageCache(FunctionCache):
    """Numba's on-disk cache, valid for one state of the whole package."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = _Files(self._cache_path, self._impl.filename_base)

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        # The stamp answers for the code; what a closure holds differs from process to process.
        return sig, codegen.magic_tuple()

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):  # a full or vanished disk: the next process compiles again, this one has what it needs
            super().save_overload(sig, data)


def jit(
    *, fastmath: bool | set[str] = False, inline: Literal["never", "always"] = "never", cached: bool = False
) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a module-level function as a kernel: compiled when it is first needed, run without the GIL.

    Parameters
    ----------
    fastmath : the fast-math flags that the kernel needs, as ``{"contract", "reassoc"}``; True would delete NaN tests
    inline : "always" for a helper that is pasted into its callers before they are optimised
    cached : keep the machine code on disk, for what Python calls itself; it contains what it calls
    """

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher: Any = numba.njit(nogil=True, error_model="numpy", fastmath=fastmath, inline=inline)(function)
        if cached and function.__module__.startswith("kernels."):  # the stamp tells nothing of other packages
            with suppress(RuntimeError):  # Numba found no folder to write to: every process compiles for itself
                dispatcher._cache = _PackageCache(function)
        return dispatcher

    return decorate


intrinsic: Any = _typed_intrinsic  # its type counts the typing context among the arguments of a call


def element_pointer(context, builder, signature, arguments, index=0):  # type: ignore[no-untyped-def]
    """For an intrinsic: where the element lies that two arguments denote, a flat array and the offset after it."""
    array = context.make_array(signature.args[index])(context, builder, arguments[index])
    return builder.gep(array.data, [arguments[index + 1]])


class _Announcer(event.Listener):
    """Says once, on standard error, that the pause before the first result is compilation."""

    def __init__(self) -> None:
        self.silent = False

    def on_start(self, event: event.Event) -> None:
        function = event.data["dispatcher"].py_func
        if not self.silent and function.__module__.startswith("kernels."):
            self.silent = True
            print(
                "tinygen: compiling kernels for this machine; later runs find them in a cache",
                file=sys.stderr,
                flush=True,
            )

    def on_end(self, event: event.Event) -> None:
        pass


event.register("numba:compile", _Announcer())
