"""How the CPU kernels are compiled: by Numba, at their first use; what it made is kept on disk.

They release the GIL, so that several threads can run them at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import extending, njit
from numba.core import event

from ..notices import notice

_KERNELS = [
    path for folder in ("cpu", "numba_reference") for path in sorted((Path(__file__).parent / folder).glob("*.py"))
]
_STAMP = hashlib.sha256(b"".join(path.read_bytes() for path in (Path(__file__), *_KERNELS))).hexdigest()


def _compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """``njit``, whose kept code is thrown away when this file or any file of kernels has changed.

    Numba by itself looks at the file of the kernel alone, but kernels contain what the other files define.
    """
    decorate = njit(nogil=True, error_model="numpy", **options)

    def decorated(kernel: Callable[..., Any]) -> Any:
        dispatcher = decorate(kernel)
        try:
            dispatcher.enable_caching()
            kept = dispatcher._cache._cache_file
            # Numba reads the version before the rest, which may name types that are gone from the files since.
            kept._version, kept._source_stamp = f"{kept._version} {_STAMP}", _STAMP
        except RuntimeError:
            _CompileNotice.end = "cannot be kept: no folder for them can be written; set NUMBA_CACHE_DIR to one"
        return dispatcher

    return decorated


_REORDERED = {"contract", "reassoc", "nsz"}

#: Loops as they are written: every operation rounds as IEEE says, in the order of the source. Without
#: ``fastmath=False`` Numba would give them the flags of the first function that calls them, and keep that on disk.
literal = _compiled(fastmath=False)
#: Loops that may add in another order and fuse a product with a sum, so that they fill the vector units.
fast = _compiled(fastmath=_REORDERED)
#: The same, never called: it becomes part of the kernel. A call in an inner loop counts references to its arrays.
inlined = _compiled(fastmath=_REORDERED, forceinline=True)
#: The same as ``fast``, where a loop over ``prange`` runs in Numba's threads.
in_parallel = _compiled(fastmath=_REORDERED, parallel=True)
#: A function written in LLVM's own language. It gets the typing context from Numba, so its callers pass one argument
#: less than it has, which a type checker cannot know.
intrinsic: Any = extending.intrinsic


class _CompileNotice(event.Listener):
    """Says once that kernels are being compiled. Numba fires this event only where its disk cache has nothing."""

    end = "are kept for the next time"
    _said = False

    def on_start(self, event: event.Event) -> None:
        module = event.data["dispatcher"].py_func.__module__ or ""
        if module.startswith(f"{__package__}.") and not self._said:
            self._said = True
            notice(f"dyhead_lab: compiling CPU kernels; they {self.end}")

    def on_end(self, event: event.Event) -> None:
        pass


event.register("numba:compile", _CompileNotice())
